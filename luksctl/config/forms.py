"""The two places that configure encryption, and which fields each knows."""

from __future__ import annotations

from luksctl.hints import Final
from luksctl.model.config import KeyKind
from luksctl.value import frozen


@frozen
class Form:
    """What one of the two places that configure encryption allows. `elsewhere` has hints for the other's fields."""

    provider_required: bool
    fields: tuple[str, ...]
    key_fields: tuple[str, ...]
    tpm_fields: tuple[str, ...]
    elsewhere: dict[str, str]


_FIELDS: Final = ("provider", "keys", "cipher", "keySize", "blockSize", "options")
_KEY_FIELDS: Final = ("slot", *(kind.value for kind in KeyKind))
_TPM_FIELDS: Final = ("checkSecurebootStatusOnEnroll",)
ONLY_IN_VOLUME_CONFIG: Final = "this field exists only in a VolumeConfig document"

V1ALPHA1: Final = Form(
    provider_required=False,
    fields=_FIELDS,
    key_fields=_KEY_FIELDS,
    tpm_fields=_TPM_FIELDS,
    elsewhere=dict.fromkeys(("lockToState", "allowDiscards"), ONLY_IN_VOLUME_CONFIG),
)
VOLUME_CONFIG: Final = Form(
    provider_required=True,
    fields=(*_FIELDS, "allowDiscards"),
    key_fields=(*_KEY_FIELDS, "lockToState"),
    tpm_fields=(*_TPM_FIELDS, "options"),
    elsewhere={},
)
