"""One open TPM, and what luksctl has it do: read PCRs, seal, unseal, verify who signed a policy.

What the TPM is sent and answers travels in salted, encrypted sessions, so that nobody on the bus reads or changes a
key. A TPM has room for three objects and as many sessions: whatever is loaded here is flushed on every path.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from types import TracebackType

from luksctl.errors import TpmReason, TpmRejected, TpmUnavailable
from luksctl.hints import Any, Final, final
from luksctl.providers.tpm_esys import Esys
from luksctl.providers.tpm_policy import SIGNED_PCR, Policy, pcr_selection
from luksctl.providers.tpm_public import SHA256, name_of, rsa_signature, sealed_template, sized, srk_template
from luksctl.secret import Secret
from luksctl.value import frozen

SEALED_BYTES: Final = 32
# A TPM gives at most eight values in one answer.
_VALUES_AT_A_TIME: Final = 8
_WHOLE_BANK: Final = b"\xff\xff\xff"
_LONG_ANSWER: Final = tuple(range(_VALUES_AT_A_TIME))


@frozen
class Sealed:
    """A sealed object and the Name of the root key it hangs on, each as a TPM2B."""

    private: bytes
    public: bytes
    srk_name: bytes


@frozen
class Approval:
    """That the key with `public` (TPMT_PUBLIC) signed the PCR policy `digest`: RSASSA with SHA-256."""

    public: bytes
    digest: bytes
    signature: bytes


@final
class Tpm:
    """A TPM that was opened; every method raises TpmUnavailable or TpmRejected, and leaves nothing in the TPM."""

    def __init__(self, tcti: str) -> None:
        """Open what `tcti` names, as TSS2 writes it (`device:/dev/tpmrm0`)."""
        self._esys = Esys(tcti)

    def __enter__(self) -> Tpm:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close it; a second call does nothing."""
        self._esys.close()

    def check_bank(self) -> None:
        """Raise TpmRejected unless the TPM keeps all 24 PCRs with SHA-256."""
        if self._esys.banks().get(int.from_bytes(SHA256)) != _WHOLE_BANK:
            raise TpmRejected(
                "the TPM's sha256 bank is switched off, or lacks PCRs",
                reason=TpmReason.BANK_MISSING,
                hint="switch the SHA-256 bank of the TPM on in the firmware's setup",
            )

    def pcr_values(self, pcrs: tuple[int, ...]) -> dict[int, bytes]:
        """Return what `pcrs` hold in the sha256 bank."""
        values: dict[int, bytes] = {}
        for start in range(0, len(pcrs), _VALUES_AT_A_TIME):
            part = tuple(sorted(pcrs[start : start + _VALUES_AT_A_TIME]))
            found = self._esys.pcr_read(pcr_selection(part))
            if len(found) != len(part):
                raise TpmUnavailable("the TPM did not give the PCRs it was asked for", reason=TpmReason.FAILED)
            values |= zip(part, found, strict=True)
        return values

    def seal(self, content: Secret, policy: bytes) -> Sealed:
        """Seal `content` (at most 128 bytes) to the policy digest `policy`."""
        template = sized(sealed_template(policy))
        with self._root() as (root, srk_name), self._esys.session(root, policy=False) as session:
            private, public = self._esys.create(root, session, content, template)
            return Sealed(private, public, srk_name)

    def srk_name(self) -> bytes:
        """Return the TPM2B_NAME of the storage root key, which another or cleared TPM has not."""
        with self._root() as (_, name):
            return name

    def unseal(self, sealed: Sealed, policy: Policy, approval: Approval | None) -> Secret:
        """Unseal; `approval` is needed where the policy is signed. TpmRejected where the root key is another one."""
        esys = self._esys
        with self._root() as (root, srk_name):
            if srk_name != sealed.srk_name:
                raise another_tpm()
            ticket = None if approval is None else self._ticket(approval)
            with (
                esys.session(root, policy=True) as session,
                esys.loaded(root, sealed.private, sealed.public) as loaded,
            ):
                if approval is not None:
                    self._authorize(session, approval, ticket)
                if policy.bound:
                    esys.policy_pcr(session, pcr_selection(policy.bound))
                return self._unsealed(loaded, session)

    def verify(self, approval: Approval) -> None:
        """Raise TpmRejected unless the signature of `approval` is of its key."""
        self._ticket(approval)

    def _unsealed(self, loaded: int, session: int) -> Secret:
        with ExitStack() as undone:
            content = undone.enter_context(self._esys.unseal(loaded, session))
            # The library keeps the last answer in a buffer that it does not wipe: a longer answer takes its place.
            self.pcr_values(_LONG_ANSWER)
            undone.pop_all()
            return content

    def _authorize(self, session: int, approval: Approval, ticket: Any) -> None:
        self._esys.policy_pcr(session, pcr_selection((SIGNED_PCR,)))
        self._esys.policy_authorize(session, sized(approval.digest), sized(name_of(approval.public)), ticket)

    def _ticket(self, approval: Approval) -> Any:
        hashed = hashlib.sha256(approval.digest).digest()
        return self._esys.verify_signature(sized(approval.public), sized(hashed), rsa_signature(approval.signature))

    @contextmanager
    def _root(self) -> Iterator[tuple[int, bytes]]:
        with self._esys.primary(sized(srk_template())) as root:
            yield root, self._esys.name(root)


def another_tpm() -> TpmRejected:
    """Return the error for a storage root key that is not the one a key was sealed under."""
    return TpmRejected(
        "the TPM is not the one that the key was sealed in: it was replaced, or cleared", reason=TpmReason.SRK_CHANGED
    )
