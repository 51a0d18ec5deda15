"""The KMS of a whole run: one connection for a policy, read anew after a failure, and one deadline."""

from __future__ import annotations

from pathlib import Path

import pytest

from luksctl.errors import KmsReason, KmsUnavailable
from luksctl.model.config import ConfiguredKey, KmsKey, KmsPolicy
from luksctl.model.meta import KmsAccess
from luksctl.providers.kms_connection import KmsConnection
from luksctl.providers.kms_files import read_access
from luksctl.providers.kms_run import KmsRun
from tests.providers.authorities import Authority
from tests.providers.kms_server import KmsServer, SilentPort

UUID = "4c4c4544-0042-3510-8051-b4c04f4e5731"


def connect(access: KmsAccess) -> KmsConnection:
    return KmsConnection(access, bundles=())


def test_an_authority_that_was_put_in_its_place_counts_without_a_new_run(tmp_path: Path) -> None:
    """A boot may wait for hours for its KMS, and meanwhile somebody mends what was wrong."""
    authority, path = Authority(), tmp_path / "ca.pem"
    path.write_text(Authority("another one").pem)
    run = KmsRun(lambda: UUID, read_access, connect=connect)
    provider = run.provider(KmsPolicy(ca_files=(str(path),)))
    with KmsServer(authority) as server:
        key = ConfiguredKey(1, KmsKey(server.endpoint))
        with pytest.raises(KmsUnavailable) as caught:
            provider.make("STATE", key)
        assert caught.value.reason is KmsReason.UNKNOWN_CA
        path.write_text(authority.pem)
        assert provider.make("STATE", key).token is not None
        run.close()


@pytest.mark.parametrize("from_meta", [True, False])
def test_volumes_share_a_connection_as_long_as_nothing_changes(from_meta: bool) -> None:  # noqa: FBT001
    """Two volumes, one connection; what META keeps is looked at once, since a TPM may have to open it."""
    authority, read, made = Authority(), list[KmsPolicy](), list[KmsConnection]()

    def reading(policy: KmsPolicy) -> KmsAccess:
        read.append(policy)
        return KmsAccess(roots=(authority.pem,))

    def connecting(access: KmsAccess) -> KmsConnection:
        made.append(connect(access))
        return made[-1]

    run = KmsRun(lambda: UUID, reading, connect=connecting)
    with KmsServer(authority) as server:
        for volume in ("STATE", "EPHEMERAL"):
            policy = KmsPolicy(from_meta=from_meta)
            run.provider(policy).make(volume, ConfiguredKey(1, KmsKey(server.endpoint)))
        run.close()
    assert len(made) == 1
    assert len(read) == (1 if from_meta else 2)


def test_the_whole_of_it_has_a_deadline() -> None:
    """Several calls that are each in time are too many together."""
    run = KmsRun(lambda: UUID, lambda _: KmsAccess(roots=(Authority().pem,)), connect=connect, timeout_s=0.2)
    with SilentPort() as silent, pytest.raises(KmsUnavailable) as caught:
        run.provider(KmsPolicy()).make("STATE", ConfiguredKey(1, KmsKey(silent.endpoint)))
    assert caught.value.reason is KmsReason.SLOW
