"""One open TPM through ESAPI of tpm2-tss; the only module that imports its binding.

What the TPM is sent and answers travels in salted, encrypted sessions, so that nobody on the bus reads or changes a
key. A TPM has room for three objects and as many sessions: whatever is loaded here is flushed on every path.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from types import TracebackType

from luksctl.errors import LuksctlError, TpmReason, TpmRejected, TpmUnavailable
from luksctl.hints import Any, Final, ParamSpec, TypeVar, final
from luksctl.providers.tpm_codes import LOAD, MAKE_ROOT, VERIFY, translate
from luksctl.providers.tpm_policy import SIGNED_PCR, Policy, pcr_selection
from luksctl.providers.tpm_public import name_of, rsa_signature, sealed_template, sized, srk_template
from luksctl.secret import Secret
from luksctl.value import frozen

SEALED_BYTES: Final = 32
# A TPM gives at most eight values in one answer.
_VALUES_AT_A_TIME: Final = 8
_WHOLE_BANK: Final = b"\xff\xff\xff"
_LONG_ANSWER: Final = tuple(range(_VALUES_AT_A_TIME))

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


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
        self._tss = _library()
        self._esys = self._call("open", self._tss.ESAPI, tcti)

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
        # Its parts point into the answer: it stays referenced while they are read.
        _, answer = self._call("read its banks", self._esys.get_capability, self._tss.TPM2_CAP.PCRS, 0, 8)
        banks = answer.data.assignedPCR
        for index in range(len(banks)):
            bank = banks[index]
            if bank.hash == self._tss.TPM2_ALG.SHA256 and bytes(bank.pcrSelect)[: bank.sizeofSelect] == _WHOLE_BANK:
                return
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
            _, _, answer = self._call("read PCRs", self._esys.pcr_read, self._selection(part))
            found = [bytes(answer[index]) for index in range(len(answer))]
            if len(found) != len(part):
                raise TpmUnavailable("the TPM did not give the PCRs it was asked for", reason=TpmReason.FAILED)
            values |= zip(part, found, strict=True)
        return values

    def seal(self, content: Secret, policy: bytes) -> Sealed:
        """Seal `content` (at most 128 bytes) to the policy digest `policy`."""
        tss = self._tss
        with self._root() as (root, srk_name), self._session(root, tss.TPM2_SE.HMAC) as session:
            inner = tss.TPMS_SENSITIVE_CREATE(userAuth=b"", data=bytes(len(content)))
            sensitive = tss.TPM2B_SENSITIVE_CREATE(inner)
            public = self._unmarshalled(tss.TPM2B_PUBLIC, sized(sealed_template(policy)))
            held = sensitive.sensitive.data.buffer
            try:
                with content.view() as view:
                    held[:] = view
                made = self._call("seal", self._esys.create, root, sensitive, public, session1=session)
            finally:
                held[:] = bytes(len(content))
            return Sealed(made[0].marshal(), made[1].marshal(), srk_name)

    def srk_name(self) -> bytes:
        """Return the TPM2B_NAME of the storage root key, which another or cleared TPM has not."""
        with self._root() as (_, name):
            return name

    def unseal(self, sealed: Sealed, policy: Policy, approval: Approval | None) -> Secret:
        """Unseal; `approval` is needed where the policy is signed. TpmRejected where the root key is another one."""
        tss = self._tss
        with self._root() as (root, srk_name):
            if srk_name != sealed.srk_name:
                raise another_tpm()
            ticket = None if approval is None else self._ticket(approval)
            private = self._unmarshalled(tss.TPM2B_PRIVATE, sealed.private, LOAD)
            public = self._unmarshalled(tss.TPM2B_PUBLIC, sealed.public, LOAD)
            with (
                self._session(root, tss.TPM2_SE.POLICY) as session,
                self._flushed(self._call(LOAD, self._esys.load, root, private, public)) as loaded,
            ):
                if approval is not None:
                    self._authorize(session, approval, ticket)
                if policy.bound:
                    self._policy_pcr(session, policy.bound)
                return self._unsealed(loaded, session)

    def verify(self, approval: Approval) -> None:
        """Raise TpmRejected unless the signature of `approval` is of its key."""
        self._ticket(approval)

    def _unsealed(self, loaded: Any, session: Any) -> Secret:
        answer = self._call("unseal", self._esys.unseal, loaded, session1=session)
        with ExitStack() as undone:
            content = undone.enter_context(Secret.take(answer.buffer))
            # The library keeps the last answer in a buffer that it does not wipe: a longer answer takes its place.
            self.pcr_values(_LONG_ANSWER)
            undone.pop_all()
            return content

    def _authorize(self, session: Any, approval: Approval, ticket: Any) -> None:
        self._policy_pcr(session, (SIGNED_PCR,))
        self._call(
            "take the signed policy",
            self._esys.policy_authorize,
            policy_session=session,
            approved_policy=approval.digest,
            key_sign=name_of(approval.public),
            check_ticket=ticket,
            policy_ref=b"",
        )

    def _policy_pcr(self, session: Any, pcrs: tuple[int, ...]) -> None:
        self._call("compare PCRs", self._esys.policy_pcr, session, b"", self._selection(pcrs))

    def _ticket(self, approval: Approval) -> Any:
        tss = self._tss
        public = self._unmarshalled(tss.TPM2B_PUBLIC, sized(approval.public), VERIFY)
        # The null hierarchy would do as well to verify, but its tickets are worth nothing.
        loading = self._call(VERIFY, self._esys.load_external, public, hierarchy=tss.ESYS_TR.OWNER)
        with self._flushed(loading) as key:
            signature = self._unmarshalled(tss.TPMT_SIGNATURE, rsa_signature(approval.signature), VERIFY)
            hashed = hashlib.sha256(approval.digest).digest()
            return self._call(VERIFY, self._esys.verify_signature, key, hashed, signature)

    @contextmanager
    def _root(self) -> Iterator[tuple[Any, bytes]]:
        tss = self._tss
        public = self._unmarshalled(tss.TPM2B_PUBLIC, sized(srk_template()))
        sensitive = tss.TPM2B_SENSITIVE_CREATE()
        made = self._call(MAKE_ROOT, self._esys.create_primary, sensitive, public, tss.ESYS_TR.OWNER)
        with self._flushed(made[0]) as root:
            yield root, self._call("name the storage root key", self._esys.tr_get_name, root).marshal()

    @contextmanager
    def _session(self, root: Any, kind: Any) -> Iterator[Any]:
        tss = self._tss
        symmetric = tss.TPMT_SYM_DEF(
            algorithm=tss.TPM2_ALG.AES,
            keyBits=tss.TPMU_SYM_KEY_BITS(aes=128),
            mode=tss.TPMU_SYM_MODE(aes=tss.TPM2_ALG.CFB),
        )
        started = self._call(
            "start a session",
            self._esys.start_auth_session,
            tpm_key=root,
            bind=tss.ESYS_TR.NONE,
            session_type=kind,
            symmetric=symmetric,
            auth_hash=tss.TPM2_ALG.SHA256,
        )
        with self._flushed(started) as session:
            encrypted = tss.TPMA_SESSION.DECRYPT | tss.TPMA_SESSION.ENCRYPT | tss.TPMA_SESSION.CONTINUESESSION
            self._call("encrypt the session", self._esys.trsess_set_attributes, session, encrypted)
            yield session

    @contextmanager
    def _flushed(self, handle: Any) -> Iterator[Any]:
        try:
            yield handle
        except BaseException as error:
            try:
                self._call("flush", self._esys.flush_context, handle)
            except LuksctlError as another:
                # What went wrong first says more; a TPM that is gone has nothing left to flush.
                error.add_note(str(another))
            raise
        self._call("flush", self._esys.flush_context, handle)

    def _selection(self, pcrs: tuple[int, ...]) -> Any:
        return self._unmarshalled(self._tss.TPML_PCR_SELECTION, pcr_selection(pcrs))

    def _unmarshalled(self, kind: Any, content: bytes, operation: str = "take a structure") -> Any:
        return self._call(operation, kind.unmarshal, content)[0]

    def _call(
        self,
        operation: str,
        function: Callable[Parameters, Any],
        *positional: Parameters.args,
        **named: Parameters.kwargs,
    ) -> Any:
        try:
            return function(*positional, **named)
        except self._tss.TSS2_Exception as error:
            raise translate(error.rc, operation) from error


def _library() -> Any:
    # The library writes what it makes of every expected failure to standard error, unless it is told before its first
    # call not to.
    os.environ.setdefault("TSS2_LOG", "all+NONE")
    try:
        import tpm2_pytss  # type: ignore[import-untyped]  # noqa: PLC0415  # only nodes with tpm keys pay for it
    except ImportError as error:
        raise TpmRejected(
            f"the TPM library cannot be loaded: {error}",
            reason=TpmReason.NO_LIBRARY,
            hint="pip install 'luksctl[tpm]', which needs libtss2-dev, gcc and pkg-config",
        ) from error
    return tpm2_pytss


def another_tpm() -> TpmRejected:
    """Return the error for a storage root key that is not the one a key was sealed under."""
    return TpmRejected(
        "the TPM is not the one that the key was sealed in: it was replaced, or cleared", reason=TpmReason.SRK_CHANGED
    )
