"""What gRPC says in words and codes, told for people."""

from __future__ import annotations

import pytest

from luksctl.errors import KmsReason, KmsRejected, KmsUnavailable
from luksctl.providers.kms_errors import RELEASED_S, translate
from tests.house.tree import ROOT

NOT_YET = "last error: UNKNOWN: ipv4:10.0.0.1:4050: ... CERTIFICATE_VERIFY_FAILED: certificate is not yet valid: OK"


@pytest.mark.parametrize("text", [NOT_YET, NOT_YET.replace("is not yet valid", "has expired")])
def test_a_clock_that_is_plainly_wrong_is_the_cause(text: str) -> None:
    """A clock from before this release was made judges no certificate; a machine without a battery shows 1970."""
    found = translate("UNAVAILABLE", text, "https://kms", now=lambda: 0.0)
    assert found.reason is KmsReason.CLOCK
    assert "1970-01-01" in found.cause
    assert translate("UNAVAILABLE", text, "https://kms", now=lambda: RELEASED_S + 1.0).reason is not KmsReason.CLOCK


def test_a_clock_that_is_still_to_be_synchronised_is_the_cause() -> None:
    """Whatever it shows, nothing is known of the certificate; once it is synchronised, the certificate is wrong."""
    found = translate("UNAVAILABLE", NOT_YET, "https://kms", clock_awaited=lambda: True)
    assert (found.reason, "is not synchronised yet" in found.cause) == (KmsReason.CLOCK, True)
    assert translate("UNAVAILABLE", NOT_YET, "https://kms").reason is KmsReason.NOT_YET_VALID


def test_the_note_on_the_network_stands_where_the_network_fails() -> None:
    """What the operator wrote helps whoever looks for the cause, and only there."""
    assert "VLAN 7" in str(translate("DEADLINE_EXCEEDED", "", "https://kms", "VLAN 7").hint)
    assert "VLAN 7" not in str(translate("UNAVAILABLE", NOT_YET, "https://kms", "VLAN 7").hint)


def test_the_kinds_say_whether_asking_again_helps() -> None:
    """A KMS that cannot unseal the token will not tomorrow either; all else may pass."""
    assert isinstance(translate("INVALID_ARGUMENT", "", "https://kms"), KmsRejected)
    for code in ("UNAVAILABLE", "PERMISSION_DENIED", "INTERNAL", "ABORTED", "a code of tomorrow"):
        assert isinstance(translate(code, "", "https://kms"), KmsUnavailable)


def test_what_a_server_says_is_shown_on_one_short_line() -> None:
    """It is a stranger's text."""
    cause = translate("INTERNAL", "one\n\ttwo \x1b[2J" + "x" * 10_000, "https://kms").cause
    assert "one two ?[2Jxxx" in cause
    assert len(cause) < 400


def test_every_reason_is_explained() -> None:
    """docs/kms.md says what each means and what to do."""
    text = (ROOT / "docs" / "kms.md").read_text(encoding="utf-8")
    assert [reason.value for reason in KmsReason if f"`{reason.value}`" not in text] == []
