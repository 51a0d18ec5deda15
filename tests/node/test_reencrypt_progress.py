"""What is said of a re-encryption that is under way."""

from __future__ import annotations

import pytest

from luksctl.model.intent import ReencryptKind
from luksctl.model.observed import ReencryptStage
from luksctl.node.reencrypt_progress import ReencryptProgress

RENEW, ENCRYPT, DECRYPT = ReencryptKind
RUNNING, SETTLING = ReencryptStage.RUNNING, ReencryptStage.SETTLING


@pytest.mark.parametrize(
    ("kind", "stage", "done", "said"),
    [
        (RENEW, RUNNING, 25, "re-encrypted: 25 % of 100 B; nothing works on it now"),
        (ENCRYPT, RUNNING, 25, "encrypted in place: 25 % of 100 B; nothing works on it now"),
        (DECRYPT, RUNNING, 25, "decrypted in place: 25 % of 100 B; nothing works on it now"),
        (RENEW, SETTLING, 100, "it is re-encrypted; its keys go back to their slots"),
        (ENCRYPT, SETTLING, 100, "it is encrypted in place"),
        (DECRYPT, RUNNING, 100, "it is decrypted; the next boot mounts it plain"),
    ],
)
def test_what_becomes_of_the_data_is_said(kind: ReencryptKind, stage: ReencryptStage, done: int, said: str) -> None:
    """Only what is decrypted waits for a boot at its end."""
    progress = ReencryptProgress(stage, done, 100, kind=kind)
    assert progress.text() == said
    assert progress.left_to_boot is (kind is DECRYPT and done == 100)
