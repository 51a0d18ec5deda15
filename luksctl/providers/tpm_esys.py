"""The commands of ESAPI (tpm2-tss) that a tpm key needs; the one module that sees the structures of C.

Structures go in and come out as the bytes that the TPM is sent (TPM2B, TPMT, TPML); handles are ESAPI's numbers. What
is loaded or started is lent by a `with`, and flushed on every path.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from luksctl.errors import LuksctlError
from luksctl.hints import Any, Final, final
from luksctl.providers.tpm_codes import LOAD, MAKE_ROOT, VERIFY, translate
from luksctl.providers.tpm_library import load_library
from luksctl.providers.tpm_public import AES_128_CFB
from luksctl.secret import Secret, wipe

_EMPTY: Final = b"\x00\x00"
_ANY_SIZE: Final = 4096
# More banks than a TPM has.
_BANKS: Final = 8


@final
class Esys:
    """A TPM that was opened; every method raises TpmUnavailable or TpmRejected, as luksctl.providers.tpm_codes says."""

    def __init__(self, tcti: str) -> None:
        """Open what `tcti` names, as TSS2 writes it (`device:/dev/tpmrm0`)."""
        self._ffi, self._lib = load_library()
        self._carrier = self._ffi.new("TSS2_TCTI_CONTEXT **")
        self._context = self._ffi.new("ESYS_CONTEXT **")
        self._check("open", self._lib.Tss2_TctiLdr_Initialize(tcti.encode(), self._carrier))
        try:
            self._check("open", self._lib.Esys_Initialize(self._context, self._carrier[0], self._ffi.NULL))
        except LuksctlError:
            self.close()
            raise

    def close(self) -> None:
        """Close it; a second call does nothing."""
        # Both forget what they closed, and do nothing where there is nothing.
        self._lib.Esys_Finalize(self._context)
        self._lib.Tss2_TctiLdr_Finalize(self._carrier)

    def banks(self) -> dict[int, bytes]:
        """Return which PCRs the TPM keeps with each hash (TPM_ALG_ID), as the bits of a TPMS_PCR_SELECTION."""
        more, answer = self._ffi.new("TPMI_YES_NO *"), self._ffi.new("TPMS_CAPABILITY_DATA **")
        asked = (self._lib.TPM2_CAP_PCRS, 0, _BANKS)
        self._call("read its banks", self._lib.Esys_GetCapability, *self._sessions(), *asked, more, answer)
        held = self._owned(answer)  # what is read of it points into it
        listed = held.data.assignedPCR
        found = (listed.pcrSelections[index] for index in range(listed.count))
        return {bank.hash: bytes(self._ffi.buffer(bank.pcrSelect, bank.sizeofSelect)) for bank in found}

    def pcr_read(self, selection: bytes) -> tuple[bytes, ...]:
        """Return what the PCRs of the TPML_PCR_SELECTION hold, by ascending number; eight at most."""
        counter, chosen = self._ffi.new("UINT32 *"), self._ffi.new("TPML_PCR_SELECTION **")
        answer = self._ffi.new("TPML_DIGEST **")
        wanted = self._structure("TPML_PCR_SELECTION", selection)
        self._call("read PCRs", self._lib.Esys_PCR_Read, *self._sessions(), wanted, counter, chosen, answer)
        self._owned(chosen)
        listed = self._owned(answer)
        found = (listed.digests[index] for index in range(listed.count))
        return tuple(bytes(self._ffi.buffer(digest.buffer, digest.size)) for digest in found)

    @contextmanager
    def primary(self, template: bytes) -> Iterator[int]:
        """Make the primary object of the owner hierarchy with this TPM2B_PUBLIC."""
        made, public = self._ffi.new("ESYS_TR *"), self._structure("TPM2B_PUBLIC", template)
        given = (self._ffi.new("TPM2B_SENSITIVE_CREATE *"), public, *self._no_creation_data())
        discarded = self._outputs("TPM2B_PUBLIC", "TPM2B_CREATION_DATA", "TPM2B_DIGEST", "TPMT_TK_CREATION")
        owner = (self._lib.ESYS_TR_RH_OWNER, *self._sessions(self._lib.ESYS_TR_PASSWORD))
        self._call(MAKE_ROOT, self._lib.Esys_CreatePrimary, *owner, *given, made, *discarded)
        with self._flushed(made[0]) as handle:
            for output in discarded:
                self._owned(output)
            yield handle

    def name(self, handle: int) -> bytes:
        """Return the TPM2B_NAME of what is loaded as `handle`."""
        answer = self._ffi.new("TPM2B_NAME **")
        self._call("name the storage root key", self._lib.Esys_TR_GetName, handle, answer)
        return self._bytes("TPM2B_NAME", self._owned(answer))

    @contextmanager
    def session(self, root: int, *, policy: bool) -> Iterator[int]:
        """Start a session that is salted by the key `root`; commands and answers are encrypted in it."""
        kind = self._lib.TPM2_SE_POLICY if policy else self._lib.TPM2_SE_HMAC
        started, cipher = self._ffi.new("ESYS_TR *"), self._structure("TPMT_SYM_DEF", AES_128_CFB)
        bound_to = (root, self._lib.ESYS_TR_NONE, *self._sessions())
        how = (self._ffi.NULL, kind, cipher, self._lib.TPM2_ALG_SHA256)
        self._call("start a session", self._lib.Esys_StartAuthSession, *bound_to, *how, started)
        with self._flushed(started[0]) as session:
            wanted = self._lib.TPMA_SESSION_DECRYPT | self._lib.TPMA_SESSION_ENCRYPT
            wanted |= self._lib.TPMA_SESSION_CONTINUESESSION
            self._call("encrypt the session", self._lib.Esys_TRSess_SetAttributes, session, wanted, 0xFF)
            yield session

    def create(self, parent: int, session: int, content: Secret, template: bytes) -> tuple[bytes, bytes]:
        """Seal `content` (at most 128 bytes); return TPM2B_PRIVATE and TPM2B_PUBLIC."""
        public = self._structure("TPM2B_PUBLIC", template)
        private_out, public_out, *discarded = outputs = self._outputs(
            "TPM2B_PRIVATE", "TPM2B_PUBLIC", "TPM2B_CREATION_DATA", "TPM2B_DIGEST", "TPMT_TK_CREATION"
        )
        sensitive = self._ffi.new("TPM2B_SENSITIVE_CREATE *")
        try:
            data = sensitive.sensitive.data
            with content.view() as view:
                self._ffi.memmove(data.buffer, view, len(view))
            data.size = len(content)
            given = (sensitive, public, *self._no_creation_data())
            self._call("seal", self._lib.Esys_Create, parent, *self._sessions(session), *given, *outputs)
        finally:
            wipe(memoryview(self._ffi.buffer(sensitive)))
        for output in discarded:
            self._owned(output)
        private, public = self._owned(private_out), self._owned(public_out)
        return self._bytes("TPM2B_PRIVATE", private), self._bytes("TPM2B_PUBLIC", public)

    @contextmanager
    def loaded(self, parent: int, private: bytes, public: bytes) -> Iterator[int]:
        """Load a sealed object from its TPM2B_PRIVATE and TPM2B_PUBLIC."""
        given = (self._structure("TPM2B_PRIVATE", private, LOAD), self._structure("TPM2B_PUBLIC", public, LOAD))
        made, sessions = self._ffi.new("ESYS_TR *"), self._sessions(self._lib.ESYS_TR_PASSWORD)
        self._call(LOAD, self._lib.Esys_Load, parent, *sessions, *given, made)
        with self._flushed(made[0]) as handle:
            yield handle

    def unseal(self, sealed: int, session: int) -> Secret:
        """Return what is in `sealed`; the structure it came in is wiped, the library keeps it until its next answer."""
        answer = self._ffi.new("TPM2B_SENSITIVE_DATA **")
        self._call("unseal", self._lib.Esys_Unseal, sealed, *self._sessions(session), answer)
        held = self._owned(answer)
        try:
            return Secret.take(memoryview(self._ffi.buffer(held.buffer, held.size)))
        finally:
            wipe(memoryview(self._ffi.buffer(held)))

    def verify_signature(self, public: bytes, digest: bytes, signature: bytes) -> Any:
        """Return the ticket that the key with this TPM2B_PUBLIC signed the TPM2B_DIGEST by the TPMT_SIGNATURE."""
        made, key = self._ffi.new("ESYS_TR *"), self._structure("TPM2B_PUBLIC", public, VERIFY)
        # The null hierarchy would do as well to verify, but its tickets are worth nothing.
        given = (self._ffi.NULL, key, self._lib.ESYS_TR_RH_OWNER)
        self._call(VERIFY, self._lib.Esys_LoadExternal, *self._sessions(), *given, made)
        with self._flushed(made[0]) as handle:
            ticket = self._ffi.new("TPMT_TK_VERIFIED **")
            signed = (self._structure("TPM2B_DIGEST", digest), self._structure("TPMT_SIGNATURE", signature, VERIFY))
            self._call(VERIFY, self._lib.Esys_VerifySignature, handle, *self._sessions(), *signed, ticket)
            return self._owned(ticket)

    def policy_pcr(self, session: int, selection: bytes) -> None:
        """Take what the PCRs of the TPML_PCR_SELECTION hold now into the policy of `session`."""
        given = (self._structure("TPM2B_DIGEST", _EMPTY), self._structure("TPML_PCR_SELECTION", selection))
        self._call("compare PCRs", self._lib.Esys_PolicyPCR, session, *self._sessions(), *given)

    def policy_authorize(self, session: int, approved: bytes, key_name: bytes, ticket: Any) -> None:
        """Put who signed the policy of `session` in its place: TPM2B_DIGEST, TPM2B_NAME, and a ticket for both."""
        given = (self._structure("TPM2B_DIGEST", approved), self._structure("TPM2B_DIGEST", _EMPTY))
        named = self._structure("TPM2B_NAME", key_name)
        operation = "take the signed policy"
        self._call(operation, self._lib.Esys_PolicyAuthorize, session, *self._sessions(), *given, named, ticket)

    @contextmanager
    def _flushed(self, handle: int) -> Iterator[int]:
        try:
            yield handle
        except BaseException as error:
            try:
                self._call("flush", self._lib.Esys_FlushContext, handle)
            except LuksctlError as another:
                # What went wrong first says more; a TPM that is gone has nothing left to flush.
                error.add_note(str(another))
            raise
        self._call("flush", self._lib.Esys_FlushContext, handle)

    def _call(self, operation: str, function: Any, *arguments: Any) -> None:
        self._check(operation, function(self._context[0], *arguments))

    def _check(self, operation: str, rc: int) -> None:
        if rc:
            raise translate(rc, operation)

    def _sessions(self, first: int | None = None) -> tuple[int, int, int]:
        none = self._lib.ESYS_TR_NONE
        return (none if first is None else first, none, none)

    def _no_creation_data(self) -> tuple[Any, Any]:
        return self._ffi.new("TPM2B_DATA *"), self._ffi.new("TPML_PCR_SELECTION *")

    def _outputs(self, *kinds: str) -> tuple[Any, ...]:
        return tuple(self._ffi.new(f"{kind} **") for kind in kinds)

    def _owned(self, output: Any) -> Any:
        """Return what the library left in `output`; it is freed with the last reference to it."""
        return self._ffi.gc(output[0], self._lib.Esys_Free)

    def _structure(self, kind: str, content: bytes, operation: str = "take a structure") -> Any:
        made = self._ffi.new(f"{kind} *")
        unmarshal = getattr(self._lib, f"Tss2_MU_{kind}_Unmarshal")
        self._check(operation, unmarshal(content, len(content), self._ffi.new("size_t *"), made))
        return made

    def _bytes(self, kind: str, structure: Any) -> bytes:
        content, end = self._ffi.new("uint8_t[]", _ANY_SIZE), self._ffi.new("size_t *")
        marshal = getattr(self._lib, f"Tss2_MU_{kind}_Marshal")
        self._check("give a structure", marshal(structure, content, _ANY_SIZE, end))
        return bytes(self._ffi.buffer(content, end[0]))
