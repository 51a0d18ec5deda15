# Written by native/write_stub.py from native/decl; do not edit.
# ruff: noqa: A002, N801
from collections.abc import Callable
from typing import Generic, Literal, NewType, Protocol, TypeAlias, TypeVar, overload

_T = TypeVar("_T")

class CData:
    def __bool__(self) -> bool: ...

class Null(CData): ...
class Chars(CData): ...
class Callback(CData): ...
class Handle(CData): ...

Text: TypeAlias = bytes | Chars | Null
Fields: TypeAlias = dict[str, object]

class Out(CData, Generic[_T]):
    def __getitem__(self, index: Literal[0]) -> _T: ...
    def __setitem__(self, index: Literal[0], value: _T) -> None: ...

CryptDevice = NewType("CryptDevice", CData)
KeyslotContext = NewType("KeyslotContext", CData)
BlkidProbe = NewType("BlkidProbe", CData)
BlkidPartlist = NewType("BlkidPartlist", CData)
BlkidPartition = NewType("BlkidPartition", CData)
BlkidParttable = NewType("BlkidParttable", CData)

class PbkdfType(CData):
    type: Chars | Null
    hash: Chars | Null
    time_ms: int
    iterations: int
    max_memory_kb: int
    parallel_threads: int
    flags: int

class ParamsIntegrity(CData):
    journal_size: int
    journal_watermark: int
    journal_commit_time: int
    interleave_sectors: int
    tag_size: int
    sector_size: int
    buffer_sectors: int
    integrity: Chars | Null
    integrity_key_size: int
    journal_integrity: Chars | Null
    journal_integrity_key: Chars | Null
    journal_integrity_key_size: int
    journal_crypt: Chars | Null
    journal_crypt_key: Chars | Null
    journal_crypt_key_size: int

class ParamsLuks2(CData):
    pbkdf: PbkdfType | Null
    integrity: Chars | Null
    integrity_params: ParamsIntegrity | Null
    data_alignment: int
    data_device: Chars | Null
    sector_size: int
    label: Chars | Null
    subsystem: Chars | Null

class ActiveDevice(CData):
    offset: int
    iv_offset: int
    size: int
    flags: int

class ParamsReencrypt(CData):
    mode: int
    direction: int
    resilience: Chars | Null
    hash: Chars | Null
    data_shift: int
    max_hotzone_size: int
    device_size: int
    luks2: ParamsLuks2 | Null
    flags: int

class CType(Protocol):
    kind: str
    args: tuple[object, ...]

class FFI:
    NULL: Null
    class error(Exception): ...

    def string(self, cdata: Chars | Null, maxlen: int = -1) -> bytes: ...
    def from_buffer(self, buffer: bytes | bytearray | memoryview) -> Chars: ...
    def release(self, cdata: CData) -> None: ...
    def new_handle(self, value: object) -> Handle: ...
    def from_handle(self, handle: Handle) -> object: ...
    def sizeof(self, ctype: str) -> int: ...
    def offsetof(self, ctype: str, field: str) -> int: ...
    def typeof(self, value: object) -> CType: ...
    def def_extern(
        self,
        *,
        name: str = ...,
        error: int = ...,
        onerror: Callable[[type[BaseException], BaseException, object], None] = ...,
    ) -> Callable[[_T], _T]: ...
    @overload
    def new(self, ctype: Literal["char[]"], init: bytes | int) -> Chars: ...
    @overload
    def new(self, ctype: Literal["size_t *"]) -> Out[int]: ...
    @overload
    def new(self, ctype: Literal["uint32_t *"]) -> Out[int]: ...
    @overload
    def new(self, ctype: Literal["uint64_t *"]) -> Out[int]: ...
    @overload
    def new(self, ctype: Literal["const char **"]) -> Out[Chars]: ...
    @overload
    def new(self, ctype: Literal["struct crypt_device **"]) -> Out[CryptDevice]: ...
    @overload
    def new(self, ctype: Literal["struct crypt_keyslot_context **"]) -> Out[KeyslotContext]: ...
    @overload
    def new(self, ctype: Literal["struct crypt_pbkdf_type *"], init: Fields = ...) -> PbkdfType: ...
    @overload
    def new(self, ctype: Literal["struct crypt_params_integrity *"], init: Fields = ...) -> ParamsIntegrity: ...
    @overload
    def new(self, ctype: Literal["struct crypt_params_luks2 *"], init: Fields = ...) -> ParamsLuks2: ...
    @overload
    def new(self, ctype: Literal["struct crypt_active_device *"], init: Fields = ...) -> ActiveDevice: ...
    @overload
    def new(self, ctype: Literal["struct crypt_params_reencrypt *"], init: Fields = ...) -> ParamsReencrypt: ...

class Lib:
    CRYPT_LOG_NORMAL: int
    CRYPT_LOG_ERROR: int
    CRYPT_LOG_VERBOSE: int
    CRYPT_LOG_DEBUG: int
    CRYPT_LOG_DEBUG_JSON: int
    CRYPT_DEBUG_ALL: int
    CRYPT_DEBUG_JSON: int
    CRYPT_DEBUG_NONE: int
    CRYPT_RNG_URANDOM: int
    CRYPT_RNG_RANDOM: int
    CRYPT_PBKDF_ITER_TIME_SET: int
    CRYPT_PBKDF_NO_BENCHMARK: int
    CRYPT_ANY_SLOT: int
    CRYPT_VOLUME_KEY_NO_SEGMENT: int
    CRYPT_VOLUME_KEY_SET: int
    CRYPT_VOLUME_KEY_DIGEST_REUSE: int
    CRYPT_SLOT_INVALID: int
    CRYPT_SLOT_INACTIVE: int
    CRYPT_SLOT_ACTIVE: int
    CRYPT_SLOT_ACTIVE_LAST: int
    CRYPT_SLOT_UNBOUND: int
    CRYPT_SLOT_PRIORITY_INVALID: int
    CRYPT_SLOT_PRIORITY_IGNORE: int
    CRYPT_SLOT_PRIORITY_NORMAL: int
    CRYPT_SLOT_PRIORITY_PREFER: int
    CRYPT_KC_TYPE_PASSPHRASE: int
    CRYPT_KC_TYPE_KEYFILE: int
    CRYPT_KC_TYPE_TOKEN: int
    CRYPT_KC_TYPE_KEY: int
    CRYPT_ACTIVATE_READONLY: int
    CRYPT_ACTIVATE_SHARED: int
    CRYPT_ACTIVATE_ALLOW_DISCARDS: int
    CRYPT_ACTIVATE_PRIVATE: int
    CRYPT_ACTIVATE_SAME_CPU_CRYPT: int
    CRYPT_ACTIVATE_SUBMIT_FROM_CRYPT_CPUS: int
    CRYPT_ACTIVATE_KEYRING_KEY: int
    CRYPT_ACTIVATE_NO_JOURNAL: int
    CRYPT_ACTIVATE_IGNORE_PERSISTENT: int
    CRYPT_ACTIVATE_ALLOW_UNBOUND_KEY: int
    CRYPT_ACTIVATE_REFRESH: int
    CRYPT_ACTIVATE_SERIALIZE_MEMORY_HARD_PBKDF: int
    CRYPT_ACTIVATE_SUSPENDED: int
    CRYPT_ACTIVATE_NO_READ_WORKQUEUE: int
    CRYPT_ACTIVATE_NO_WRITE_WORKQUEUE: int
    CRYPT_DEACTIVATE_DEFERRED: int
    CRYPT_DEACTIVATE_FORCE: int
    CRYPT_DEACTIVATE_DEFERRED_CANCEL: int
    CRYPT_INVALID: int
    CRYPT_INACTIVE: int
    CRYPT_ACTIVE: int
    CRYPT_BUSY: int
    CRYPT_REQUIREMENT_OFFLINE_REENCRYPT: int
    CRYPT_REQUIREMENT_ONLINE_REENCRYPT: int
    CRYPT_REQUIREMENT_UNKNOWN: int
    CRYPT_FLAGS_ACTIVATION: int
    CRYPT_FLAGS_REQUIREMENTS: int
    CRYPT_ANY_TOKEN: int
    CRYPT_TOKEN_INVALID: int
    CRYPT_TOKEN_INACTIVE: int
    CRYPT_TOKEN_INTERNAL: int
    CRYPT_TOKEN_INTERNAL_UNKNOWN: int
    CRYPT_TOKEN_EXTERNAL: int
    CRYPT_TOKEN_EXTERNAL_UNKNOWN: int
    CRYPT_WIPE_NO_DIRECT_IO: int
    CRYPT_WIPE_ZERO: int
    CRYPT_WIPE_RANDOM: int
    CRYPT_WIPE_ENCRYPTED_ZERO: int
    CRYPT_WIPE_SPECIAL: int
    CRYPT_REENCRYPT_INITIALIZE_ONLY: int
    CRYPT_REENCRYPT_MOVE_FIRST_SEGMENT: int
    CRYPT_REENCRYPT_RESUME_ONLY: int
    CRYPT_REENCRYPT_RECOVERY: int
    CRYPT_REENCRYPT_REPAIR_NEEDED: int
    CRYPT_REENCRYPT_FORWARD: int
    CRYPT_REENCRYPT_BACKWARD: int
    CRYPT_REENCRYPT_REENCRYPT: int
    CRYPT_REENCRYPT_ENCRYPT: int
    CRYPT_REENCRYPT_DECRYPT: int
    CRYPT_REENCRYPT_NONE: int
    CRYPT_REENCRYPT_CLEAN: int
    CRYPT_REENCRYPT_CRASH: int
    CRYPT_REENCRYPT_INVALID: int
    BLKID_SUBLKS_LABEL: int
    BLKID_SUBLKS_UUID: int
    BLKID_SUBLKS_TYPE: int
    BLKID_SUBLKS_USAGE: int
    BLKID_SUBLKS_BADCSUM: int
    BLKID_PARTS_FORCE_GPT: int
    BLKID_PARTS_ENTRY_DETAILS: int
    luksctl_on_log: Callback
    luksctl_on_progress: Callback
    def luksctl_open(self, library: int, soname: bytes | Null, /) -> int: ...
    def luksctl_open_error(self, library: int, /) -> Chars: ...
    def luksctl_function_count(self) -> int: ...
    def luksctl_function_name(self, index: int, /) -> Chars: ...
    def luksctl_function_since(self, index: int, /) -> Chars: ...
    def luksctl_function_library(self, index: int, /) -> int: ...
    def luksctl_function_present(self, index: int, /) -> int: ...
    def crypt_init(self, cd: Out[CryptDevice], device: Text, /) -> int: ...
    def crypt_init_data_device(self, cd: Out[CryptDevice], device: Text, data_device: Text, /) -> int: ...
    def crypt_init_by_name(self, cd: Out[CryptDevice], name: Text, /) -> int: ...
    def crypt_init_by_name_and_header(self, cd: Out[CryptDevice], name: Text, header_device: Text, /) -> int: ...
    def crypt_free(self, cd: CryptDevice | Null, /) -> None: ...
    def crypt_set_data_device(self, cd: CryptDevice | Null, device: Text, /) -> int: ...
    def crypt_set_data_offset(self, cd: CryptDevice | Null, data_offset: int, /) -> int: ...
    def crypt_metadata_locking(self, cd: CryptDevice | Null, enable: int, /) -> int: ...
    def crypt_get_dir(self) -> Chars: ...
    def crypt_set_log_callback(self, cd: CryptDevice | Null, log: Callback | Null, usrptr: CData, /) -> None: ...
    def crypt_log(self, cd: CryptDevice | Null, level: int, msg: Text, /) -> None: ...
    def crypt_set_debug_level(self, level: int, /) -> None: ...
    def crypt_set_confirm_callback(
        self,
        cd: CryptDevice | Null,
        confirm: Callback | Null,
        usrptr: CData,
        /,
    ) -> None: ...
    def crypt_set_rng_type(self, cd: CryptDevice | Null, rng_type: int, /) -> None: ...
    def crypt_get_rng_type(self, cd: CryptDevice | Null, /) -> int: ...
    def crypt_set_pbkdf_type(self, cd: CryptDevice | Null, pbkdf: PbkdfType | Null, /) -> int: ...
    def crypt_get_pbkdf_type(self, cd: CryptDevice | Null, /) -> PbkdfType: ...
    def crypt_get_pbkdf_type_params(self, pbkdf_type: Text, /) -> PbkdfType: ...
    def crypt_get_pbkdf_default(self, type: Text, /) -> PbkdfType: ...
    def crypt_set_iteration_time(self, cd: CryptDevice | Null, iteration_time_ms: int, /) -> None: ...
    def crypt_set_metadata_size(self, cd: CryptDevice | Null, metadata_size: int, keyslots_size: int, /) -> int: ...
    def crypt_get_metadata_size(
        self,
        cd: CryptDevice | Null,
        metadata_size: Out[int],
        keyslots_size: Out[int],
        /,
    ) -> int: ...
    def crypt_format(
        self,
        cd: CryptDevice | Null,
        type: Text,
        cipher: Text,
        cipher_mode: Text,
        uuid: Text,
        volume_key: Text,
        volume_key_size: int,
        params: CData,
        /,
    ) -> int: ...
    def crypt_load(self, cd: CryptDevice | Null, requested_type: Text, params: CData, /) -> int: ...
    def crypt_repair(self, cd: CryptDevice | Null, requested_type: Text, params: CData, /) -> int: ...
    def crypt_set_uuid(self, cd: CryptDevice | Null, uuid: Text, /) -> int: ...
    def crypt_set_label(self, cd: CryptDevice | Null, label: Text, subsystem: Text, /) -> int: ...
    def crypt_get_type(self, cd: CryptDevice | Null, /) -> Chars: ...
    def crypt_get_default_type(self) -> Chars: ...
    def crypt_get_label(self, cd: CryptDevice | Null, /) -> Chars: ...
    def crypt_get_subsystem(self, cd: CryptDevice | Null, /) -> Chars: ...
    def crypt_format_inline(
        self,
        cd: CryptDevice | Null,
        type: Text,
        cipher: Text,
        cipher_mode: Text,
        uuid: Text,
        volume_key: Text,
        volume_key_size: int,
        params: CData,
        /,
    ) -> int: ...
    def crypt_keyslot_add_by_passphrase(
        self,
        cd: CryptDevice | Null,
        keyslot: int,
        passphrase: Text,
        passphrase_size: int,
        new_passphrase: Text,
        new_passphrase_size: int,
        /,
    ) -> int: ...
    def crypt_keyslot_change_by_passphrase(
        self,
        cd: CryptDevice | Null,
        keyslot_old: int,
        keyslot_new: int,
        passphrase: Text,
        passphrase_size: int,
        new_passphrase: Text,
        new_passphrase_size: int,
        /,
    ) -> int: ...
    def crypt_keyslot_add_by_volume_key(
        self,
        cd: CryptDevice | Null,
        keyslot: int,
        volume_key: Text,
        volume_key_size: int,
        passphrase: Text,
        passphrase_size: int,
        /,
    ) -> int: ...
    def crypt_keyslot_add_by_key(
        self,
        cd: CryptDevice | Null,
        keyslot: int,
        volume_key: Text,
        volume_key_size: int,
        passphrase: Text,
        passphrase_size: int,
        flags: int,
        /,
    ) -> int: ...
    def crypt_keyslot_destroy(self, cd: CryptDevice | Null, keyslot: int, /) -> int: ...
    def crypt_keyslot_status(self, cd: CryptDevice | Null, keyslot: int, /) -> int: ...
    def crypt_keyslot_get_priority(self, cd: CryptDevice | Null, keyslot: int, /) -> int: ...
    def crypt_keyslot_set_priority(self, cd: CryptDevice | Null, keyslot: int, priority: int, /) -> int: ...
    def crypt_keyslot_max(self, type: Text, /) -> int: ...
    def crypt_keyslot_area(
        self,
        cd: CryptDevice | Null,
        keyslot: int,
        offset: Out[int],
        length: Out[int],
        /,
    ) -> int: ...
    def crypt_keyslot_get_key_size(self, cd: CryptDevice | Null, keyslot: int, /) -> int: ...
    def crypt_keyslot_get_encryption(self, cd: CryptDevice | Null, keyslot: int, key_size: Out[int], /) -> Chars: ...
    def crypt_keyslot_get_pbkdf(self, cd: CryptDevice | Null, keyslot: int, pbkdf: PbkdfType | Null, /) -> int: ...
    def crypt_keyslot_set_encryption(self, cd: CryptDevice | Null, cipher: Text, key_size: int, /) -> int: ...
    def crypt_keyslot_context_free(self, kc: KeyslotContext | Null, /) -> None: ...
    def crypt_keyslot_context_init_by_passphrase(
        self,
        cd: CryptDevice | Null,
        passphrase: Text,
        passphrase_size: int,
        kc: Out[KeyslotContext],
        /,
    ) -> int: ...
    def crypt_keyslot_context_init_by_volume_key(
        self,
        cd: CryptDevice | Null,
        volume_key: Text,
        volume_key_size: int,
        kc: Out[KeyslotContext],
        /,
    ) -> int: ...
    def crypt_keyslot_context_get_error(self, kc: KeyslotContext | Null, /) -> int: ...
    def crypt_keyslot_context_get_type(self, kc: KeyslotContext | Null, /) -> int: ...
    def crypt_keyslot_add_by_keyslot_context(
        self,
        cd: CryptDevice | Null,
        keyslot_existing: int,
        kc: KeyslotContext | Null,
        keyslot_new: int,
        new_kc: KeyslotContext | Null,
        flags: int,
        /,
    ) -> int: ...
    def crypt_volume_key_get_by_keyslot_context(
        self,
        cd: CryptDevice | Null,
        keyslot: int,
        volume_key: Chars | Null,
        volume_key_size: Out[int],
        kc: KeyslotContext | Null,
        /,
    ) -> int: ...
    def crypt_activate_by_keyslot_context(
        self,
        cd: CryptDevice | Null,
        name: Text,
        keyslot: int,
        kc: KeyslotContext | Null,
        additional_keyslot: int,
        additional_kc: KeyslotContext | Null,
        flags: int,
        /,
    ) -> int: ...
    def crypt_resume_by_keyslot_context(
        self,
        cd: CryptDevice | Null,
        name: Text,
        keyslot: int,
        kc: KeyslotContext | Null,
        /,
    ) -> int: ...
    def crypt_keyslot_context_init_by_vk_in_keyring(
        self,
        cd: CryptDevice | Null,
        key_description: Text,
        kc: Out[KeyslotContext],
        /,
    ) -> int: ...
    def crypt_activate_by_passphrase(
        self,
        cd: CryptDevice | Null,
        name: Text,
        keyslot: int,
        passphrase: Text,
        passphrase_size: int,
        flags: int,
        /,
    ) -> int: ...
    def crypt_activate_by_volume_key(
        self,
        cd: CryptDevice | Null,
        name: Text,
        volume_key: Text,
        volume_key_size: int,
        flags: int,
        /,
    ) -> int: ...
    def crypt_deactivate_by_name(self, cd: CryptDevice | Null, name: Text, flags: int, /) -> int: ...
    def crypt_resize(self, cd: CryptDevice | Null, name: Text, new_size: int, /) -> int: ...
    def crypt_suspend(self, cd: CryptDevice | Null, name: Text, /) -> int: ...
    def crypt_resume_by_passphrase(
        self,
        cd: CryptDevice | Null,
        name: Text,
        keyslot: int,
        passphrase: Text,
        passphrase_size: int,
        /,
    ) -> int: ...
    def crypt_resume_by_volume_key(
        self,
        cd: CryptDevice | Null,
        name: Text,
        volume_key: Text,
        volume_key_size: int,
        /,
    ) -> int: ...
    def crypt_get_active_device(self, cd: CryptDevice | Null, name: Text, cad: ActiveDevice | Null, /) -> int: ...
    def crypt_status(self, cd: CryptDevice | Null, name: Text, /) -> int: ...
    def crypt_volume_key_keyring(self, cd: CryptDevice | Null, enable: int, /) -> int: ...
    def crypt_set_keyring_to_link(
        self,
        cd: CryptDevice | Null,
        key_description: Text,
        old_key_description: Text,
        key_type_desc: Text,
        keyring_to_link_vk: Text,
        /,
    ) -> int: ...
    def crypt_volume_key_get(
        self,
        cd: CryptDevice | Null,
        keyslot: int,
        volume_key: Chars | Null,
        volume_key_size: Out[int],
        passphrase: Text,
        passphrase_size: int,
        /,
    ) -> int: ...
    def crypt_volume_key_verify(self, cd: CryptDevice | Null, volume_key: Text, volume_key_size: int, /) -> int: ...
    def crypt_get_volume_key_size(self, cd: CryptDevice | Null, /) -> int: ...
    def crypt_get_old_volume_key_size(self, cd: CryptDevice | Null, /) -> int: ...
    def crypt_get_cipher(self, cd: CryptDevice | Null, /) -> Chars: ...
    def crypt_get_cipher_mode(self, cd: CryptDevice | Null, /) -> Chars: ...
    def crypt_get_uuid(self, cd: CryptDevice | Null, /) -> Chars: ...
    def crypt_get_device_name(self, cd: CryptDevice | Null, /) -> Chars: ...
    def crypt_get_metadata_device_name(self, cd: CryptDevice | Null, /) -> Chars: ...
    def crypt_get_data_offset(self, cd: CryptDevice | Null, /) -> int: ...
    def crypt_get_iv_offset(self, cd: CryptDevice | Null, /) -> int: ...
    def crypt_get_sector_size(self, cd: CryptDevice | Null, /) -> int: ...
    def crypt_get_integrity_info(self, cd: CryptDevice | Null, ip: ParamsIntegrity | Null, /) -> int: ...
    def crypt_dump_json(self, cd: CryptDevice | Null, json: Out[Chars] | Null, flags: int, /) -> int: ...
    def crypt_header_is_detached(self, cd: CryptDevice | Null, /) -> int: ...
    def crypt_persistent_flags_set(self, cd: CryptDevice | Null, type: int, flags: int, /) -> int: ...
    def crypt_persistent_flags_get(self, cd: CryptDevice | Null, type: int, flags: Out[int], /) -> int: ...
    def crypt_token_json_get(self, cd: CryptDevice | Null, token: int, json: Out[Chars] | Null, /) -> int: ...
    def crypt_token_json_set(self, cd: CryptDevice | Null, token: int, json: Text, /) -> int: ...
    def crypt_token_status(self, cd: CryptDevice | Null, token: int, type: Out[Chars] | Null, /) -> int: ...
    def crypt_token_assign_keyslot(self, cd: CryptDevice | Null, token: int, keyslot: int, /) -> int: ...
    def crypt_token_unassign_keyslot(self, cd: CryptDevice | Null, token: int, keyslot: int, /) -> int: ...
    def crypt_token_is_assigned(self, cd: CryptDevice | Null, token: int, keyslot: int, /) -> int: ...
    def crypt_token_max(self, type: Text, /) -> int: ...
    def crypt_token_external_disable(self) -> None: ...
    def crypt_token_external_path(self) -> Chars: ...
    def crypt_token_set_external_path(self, path: Text, /) -> int: ...
    def crypt_header_backup(self, cd: CryptDevice | Null, requested_type: Text, backup_file: Text, /) -> int: ...
    def crypt_header_restore(self, cd: CryptDevice | Null, requested_type: Text, backup_file: Text, /) -> int: ...
    def crypt_wipe(
        self,
        cd: CryptDevice | Null,
        dev_path: Text,
        pattern: int,
        offset: int,
        length: int,
        wipe_block_size: int,
        flags: int,
        progress: Callback | Null,
        usrptr: CData,
        /,
    ) -> int: ...
    def crypt_reencrypt_init_by_passphrase(
        self,
        cd: CryptDevice | Null,
        name: Text,
        passphrase: Text,
        passphrase_size: int,
        keyslot_old: int,
        keyslot_new: int,
        cipher: Text,
        cipher_mode: Text,
        params: ParamsReencrypt | Null,
        /,
    ) -> int: ...
    def crypt_reencrypt_status(self, cd: CryptDevice | Null, params: ParamsReencrypt | Null, /) -> int: ...
    def crypt_reencrypt_run(self, cd: CryptDevice | Null, progress: Callback | Null, usrptr: CData, /) -> int: ...
    def crypt_reencrypt_init_by_keyslot_context(
        self,
        cd: CryptDevice | Null,
        name: Text,
        kc_old: KeyslotContext | Null,
        kc_new: KeyslotContext | Null,
        keyslot_old: int,
        keyslot_new: int,
        cipher: Text,
        cipher_mode: Text,
        params: ParamsReencrypt | Null,
        /,
    ) -> int: ...
    def crypt_safe_alloc(self, size: int, /) -> Handle: ...
    def crypt_safe_free(self, data: CData, /) -> None: ...
    def crypt_safe_memzero(self, data: CData, size: int, /) -> None: ...
    def crypt_safe_memcpy(self, dst: CData, src: CData, size: int, /) -> Handle: ...
    def blkid_new_probe(self) -> BlkidProbe: ...
    def blkid_free_probe(self, pr: BlkidProbe, /) -> None: ...
    def blkid_probe_set_device(self, pr: BlkidProbe, fd: int, off: int, size: int, /) -> int: ...
    def blkid_probe_get_size(self, pr: BlkidProbe, /) -> int: ...
    def blkid_probe_get_sectorsize(self, pr: BlkidProbe, /) -> int: ...
    def blkid_probe_enable_superblocks(self, pr: BlkidProbe, enable: int, /) -> int: ...
    def blkid_probe_set_superblocks_flags(self, pr: BlkidProbe, flags: int, /) -> int: ...
    def blkid_probe_enable_partitions(self, pr: BlkidProbe, enable: int, /) -> int: ...
    def blkid_probe_set_partitions_flags(self, pr: BlkidProbe, flags: int, /) -> int: ...
    def blkid_do_probe(self, pr: BlkidProbe, /) -> int: ...
    def blkid_do_safeprobe(self, pr: BlkidProbe, /) -> int: ...
    def blkid_do_fullprobe(self, pr: BlkidProbe, /) -> int: ...
    def blkid_probe_numof_values(self, pr: BlkidProbe, /) -> int: ...
    def blkid_probe_lookup_value(
        self,
        pr: BlkidProbe,
        name: Text,
        data: Out[Chars] | Null,
        len: Out[int],
        /,
    ) -> int: ...
    def blkid_probe_get_partitions(self, pr: BlkidProbe, /) -> BlkidPartlist: ...
    def blkid_partlist_numof_partitions(self, ls: BlkidPartlist, /) -> int: ...
    def blkid_partlist_get_table(self, ls: BlkidPartlist, /) -> BlkidParttable: ...
    def blkid_partlist_get_partition(self, ls: BlkidPartlist, n: int, /) -> BlkidPartition: ...
    def blkid_partition_get_name(self, par: BlkidPartition, /) -> Chars: ...
    def blkid_partition_get_uuid(self, par: BlkidPartition, /) -> Chars: ...
    def blkid_partition_get_type_string(self, par: BlkidPartition, /) -> Chars: ...
    def blkid_partition_get_partno(self, par: BlkidPartition, /) -> int: ...
    def blkid_partition_get_start(self, par: BlkidPartition, /) -> int: ...
    def blkid_partition_get_size(self, par: BlkidPartition, /) -> int: ...
    def blkid_parttable_get_type(self, tab: BlkidParttable, /) -> Chars: ...
    def blkid_parttable_get_id(self, tab: BlkidParttable, /) -> Chars: ...
    def blkid_probe_set_sectorsize(self, pr: BlkidProbe, sz: int, /) -> int: ...

ffi: FFI
lib: Lib
