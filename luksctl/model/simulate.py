"""What a step leaves behind, worked out without a disk. Pure; tests hold the real library against it."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import assert_never

from luksctl.model.config import DEFAULT_CIPHER, VolumeEncryption
from luksctl.model.header import UNFINISHED_MARK, Copies, HeaderCopies, HeaderCopy, Keyslot, LuksHeader, Segment
from luksctl.model.intent import FormatIntent
from luksctl.model.meta import MetaFacts, MetaState
from luksctl.model.observed import Blank, FilesystemFound, Luks2, Mapping, Observed, Unfinished
from luksctl.model.probe import Device, Signature
from luksctl.model.step import (
    AddKeyslot,
    CloseVolume,
    ConcludeFormat,
    EraseHead,
    FinishVolume,
    FormatVolume,
    MakeFilesystem,
    MakeKey,
    OpenVolume,
    ProveAnyKey,
    ProveKey,
    RepairHeader,
    RepairMeta,
    Step,
    WriteIntent,
    WriteStateEncryption,
    WriteToken,
)
from luksctl.units import KIB, MIB


@dataclass(frozen=True, slots=True)
class World:
    """One volume and META, as observe would find them now."""

    observed: Observed
    meta: MetaFacts


def simulate(world: World, step: Step) -> World:  # noqa: C901, PLR0911, PLR0912  # one case per step
    """Return the world after `step`; ValueError for a step that makes no sense where the world is."""
    match step:
        case MakeKey() | WriteToken() | ProveKey() | ProveAnyKey() | EraseHead():
            return world
        case RepairMeta():
            return replace(world, meta=replace(world.meta, state=MetaState.OK, problem=None))
        case WriteIntent(_, intent):
            return _announce(world, intent)
        case CloseVolume():
            return reboot(world)
        case FormatVolume(_, device, header_uuid, encryption, _):
            header = _empty_header(header_uuid, encryption)
            return replace(world, observed=Unfinished(device, _intent(world, step.volume), header))
        case AddKeyslot(_, _, slot, kdf):
            added = Keyslot(slot, "argon2id", kdf.time, kdf.memory_kib, kdf.threads, None, "aes-xts-plain64")
            return _with_keyslot(world, added)
        case WriteStateEncryption(_, wish):
            facts = replace(world.meta, state_encryption=wish, has_tag9=wish is not None)
            return replace(world, meta=_written(facts))
        case RepairHeader():
            luks = _luks(world)
            return replace(world, observed=replace(luks, copies=_equal_copies(luks.header)))
        case OpenVolume(_, device, mapped_name, _):
            return _opened(world, Mapping(mapped_name, f"/dev/mapper/{mapped_name}", device.path))
        case MakeFilesystem():
            return _with_filesystem(world, step)
        case FinishVolume(_, device, _):
            return _finished(world, device)
        case ConcludeFormat(volume, partition, encrypted):
            record = world.meta.record.with_finished(volume, partition, encrypted=encrypted)
            return _concluded(World(world.observed, _written(replace(world.meta, record=record))))
        case _:
            assert_never(step)


def reboot(world: World) -> World:
    """Return the world after the power went: what is on disk stays, mappings are gone."""
    observed = world.observed
    if isinstance(observed, Unfinished | Luks2):
        return replace(world, observed=replace(observed, mapping=None))
    return world


def _written(meta: MetaFacts) -> MetaFacts:
    return replace(meta, state=MetaState.OK)


def _announce(world: World, intent: FormatIntent) -> World:
    meta = _written(replace(world.meta, record=world.meta.record.with_intent(intent)))
    observed = world.observed
    if isinstance(observed, Unfinished):
        observed = replace(observed, intent=intent)
    return World(observed, meta)


def _intent(world: World, volume: str) -> FormatIntent:
    intent = world.meta.record.intent(volume)
    if intent is None:
        raise ValueError("formatting without an announced intent")
    return intent


def _luks(world: World) -> Luks2:
    if not isinstance(world.observed, Luks2):
        raise ValueError(f"not a finished LUKS2 volume: {type(world.observed).__name__}")
    return world.observed


def _empty_header(uuid: str, encryption: VolumeEncryption) -> LuksHeader:
    segment = Segment(0, "crypt", encryption.cipher or DEFAULT_CIPHER, 4096, 16 * MIB)
    return LuksHeader(
        uuid=uuid,
        label="",
        subsystem=UNFINISHED_MARK,
        seqid=2,
        header_size_bytes=16 * KIB,
        keyslots=(),
        tokens=(),
        segments=(segment,),
        digest_iterations=1000,
        requirements=(),
        flags=(),
        json=json.dumps({}),
    )


def _equal_copies(header: LuksHeader) -> HeaderCopies:
    second = HeaderCopy(header.header_size_bytes, header)
    return HeaderCopies(Copies.EQUAL, HeaderCopy(0, header), second)


def _with_keyslot(world: World, added: Keyslot) -> World:
    observed = world.observed
    if not isinstance(observed, Unfinished) or observed.header is None:
        raise ValueError("a keyslot needs a header")
    header = replace(observed.header, keyslots=(*observed.header.keyslots, added), seqid=observed.header.seqid + 1)
    return replace(world, observed=replace(observed, header=header))


def _opened(world: World, mapping: Mapping) -> World:
    observed = world.observed
    if isinstance(observed, Luks2):
        inside = replace(mapping, signature=Signature("xfs", usage="filesystem"))
        return replace(world, observed=replace(observed, mapping=inside))
    if isinstance(observed, Unfinished) and observed.header is not None and observed.header.keyslots:
        return replace(world, observed=replace(observed, mapping=mapping))
    raise ValueError("nothing to open")


def _with_filesystem(world: World, step: MakeFilesystem) -> World:
    observed = world.observed
    match observed:
        case Unfinished(mapping=Mapping() as mapping):
            inside = replace(mapping, signature=Signature(step.filesystem.value, step.volume, usage="filesystem"))
            return replace(world, observed=replace(observed, mapping=inside))
        case Blank(device) | Unfinished(device):
            # Until the intent is gone, observe takes a plain filesystem with the announced UUID for unfinished.
            return replace(world, observed=Unfinished(device, _intent(world, step.volume), None))
        case _:
            raise ValueError(f"mkfs over {type(observed).__name__}")


def _finished(world: World, device: Device) -> World:
    observed = world.observed
    if not isinstance(observed, Unfinished) or observed.header is None:
        raise ValueError("nothing to finish")
    header = replace(observed.header, subsystem="", seqid=observed.header.seqid + 1)
    done = Luks2(device, _equal_copies(header), header, observed.mapping, format_intent=observed.intent)
    return replace(world, observed=done)


def _concluded(world: World) -> World:
    observed = world.observed
    match observed:
        case Luks2():
            return replace(world, observed=replace(observed, format_intent=None))
        case Unfinished(device, header=None):
            return replace(world, observed=FilesystemFound(device, Signature("xfs", usage="filesystem")))
        case _:
            raise ValueError(f"concluding over {type(observed).__name__}")
