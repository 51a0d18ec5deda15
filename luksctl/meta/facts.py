"""What META says to the node: its tags turned into MetaFacts."""

from __future__ import annotations

from luksctl.errors import MetaError
from luksctl.meta import record, state_encryption
from luksctl.meta.image import Image
from luksctl.model.meta import (
    TAG_KMS_ACCESS,
    TAG_LUKSCTL,
    TAG_STATE_ENCRYPTION,
    TAG_UUID_OVERRIDE,
    MetaFacts,
    MetaState,
    NodeRecord,
)


def facts_of(image: Image) -> MetaFacts:
    """Return what `image` says to the node.

    A record of ours that this luksctl cannot understand counts as unreadable META, so that nothing is formatted over
    what it may announce; what tag 9 says is reported all the same.
    """
    tags = image.tags()
    state, problem = image.state, image.problem
    try:
        known = record.decode(tags.get(TAG_LUKSCTL)).record
    except MetaError as error:
        state, problem, known = MetaState.UNREADABLE, error.cause, NodeRecord()
    encryption, tag9_problem = None, None
    if TAG_STATE_ENCRYPTION in tags:
        try:
            encryption = state_encryption.decode(tags[TAG_STATE_ENCRYPTION])
        except MetaError as error:
            tag9_problem = error.cause
    access, access_problem = None, None
    if TAG_KMS_ACCESS in tags:
        from luksctl.meta import kms_access  # noqa: PLC0415  # few nodes have it, and a boot's start is timed

        try:
            access = kms_access.decode(tags[TAG_KMS_ACCESS])
        except MetaError as error:
            access_problem = error.cause
    # Talos takes the override as it stands, whatever its bytes are; surrogateescape gives the same bytes back.
    override = tags.get(TAG_UUID_OVERRIDE, b"").decode("utf-8", "surrogateescape")
    return MetaFacts(
        state=state,
        state_encryption=encryption,
        has_tag9=TAG_STATE_ENCRYPTION in tags,
        tag9_problem=tag9_problem,
        uuid_override=override or None,
        record=known,
        problem=problem,
        kms_access=access,
        kms_access_problem=access_problem,
    )
