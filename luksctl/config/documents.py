"""Parse a machine config: the documents and sections about encryption strictly, everything else carried as it is."""

from __future__ import annotations

from luksctl.config.cautions import note_cautions
from luksctl.config.policy import KIND as POLICY_KIND
from luksctl.config.policy import read_policy
from luksctl.config.report import Report
from luksctl.config.split import ROOTS_KIND, VOLUME_KINDS, Document, split
from luksctl.config.volumes import Wish, read_machine, read_volume_document
from luksctl.model.config import EPHEMERAL, STATE, EncryptionPolicy, KeyKind, MachineConfig
from luksctl.value import replace


def parse_machine_config(text: bytes, source: str) -> MachineConfig:
    """Return what `text` wants; `source` names it in messages.

    Raises ConfigError with every problem found. A text without any document that concerns luksctl is a problem too:
    a file that was cut to nothing must not read as "everything plain".
    """
    report = Report(source)
    wishes: list[Wish] = []
    policy = EncryptionPolicy()
    documents = split(text, report)
    for document in documents:
        if document.kind == POLICY_KIND:
            policy = read_policy(document.block)
        else:
            wishes += _wishes(document)
    if not report.failed and all(document.kind in (None, ROOTS_KIND) for document in documents):
        report.error(1, "", "no machine configuration, volume or EncryptionPolicy document in this text")
    _refuse_conflicts(wishes, report)
    wanted = {wish.volume: wish.encryption for wish in wishes}
    if any(key.kind is KeyKind.KMS for encryption in wanted.values() for key in encryption.keys):
        # Not at the top: few need it, and the start of a boot is timed.
        from luksctl.config.kms_reach import read_reach  # noqa: PLC0415

        policy = replace(policy, kms=read_reach(documents, policy.kms, wanted, report))
    report.raise_problems()
    note_cautions(wanted, policy, report)
    return MachineConfig(
        text=text,
        source=source,
        encryption=tuple((volume, wanted[volume]) for volume in (STATE, EPHEMERAL) if volume in wanted),
        policy=policy,
        warnings=report.warnings,
    )


def _wishes(document: Document) -> list[Wish]:
    if document.kind == "":
        return read_machine(document)
    if document.kind in VOLUME_KINDS:
        wish = read_volume_document(document)
        return [] if wish is None else [wish]
    return []


def _refuse_conflicts(wishes: list[Wish], report: Report) -> None:
    first: dict[str, Wish] = {}
    for wish in wishes:
        other = first.setdefault(wish.volume, wish)
        if other is not wish:
            report.error(
                wish.line,
                wish.path,
                f"encryption of {wish.volume} is configured twice, first in line {other.line} ({other.path})",
                "keep it in the VolumeConfig document only",
            )
