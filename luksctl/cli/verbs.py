"""All verbs in one table: what each answers, what it destroys, how it ends. Nothing is imported to show it.

docs/verbs.md repeats the table, and a test compares the two.
"""

from __future__ import annotations

from enum import StrEnum

from luksctl.cli.roles import Access, Role, administering, operating, reading, staying
from luksctl.hints import Final
from luksctl.value import frozen


class Group(StrEnum):
    """When a verb is needed; `--help` is grouped by it."""

    DAILY = "daily"
    KEYS = "keys"
    CHANGES = "changes"
    END_OF_LIFE = "end of life"


@frozen
class Verb:
    """One verb. `module` is in luksctl.cli; `exit_codes` are those beside 0, 1, 14 and 64, which belong to every verb.

    `access` says who may run it on another node, for each command that it has.
    """

    name: str
    group: Group
    module: str
    answers: str
    destroys: str
    exit_codes: tuple[int, ...]
    access: tuple[Access, ...]
    aliases: tuple[str, ...] = ()


_FLOW: Final = (2, 3, 4, 6, 8, 9, 10, 11, 12)

VERBS: Final = (
    Verb(
        "status",
        Group.DAILY,
        "status",
        "how the node and its volumes are, and what to type next",
        "nothing; reads only",
        (2, 4, 5, 9, 12),
        (reading("", "volumes"),),
    ),
    Verb(
        "plan",
        Group.DAILY,
        "plan",
        "what a boot or a new config would do, step by step",
        "nothing; reads only",
        (2, 3, 4, 8, 9, 10, 12),
        (reading("", "volumes"),),
    ),
    Verb(
        "check",
        Group.DAILY,
        "check",
        "whether every configured key still opens its keyslot",
        "nothing; opens no volume and writes to none",
        (2, 3, 4, 5, 6, 9, 10, 11, 12),
        (operating("", "volumes"),),
    ),
    Verb(
        "doctor",
        Group.DAILY,
        "doctor",
        "why a volume does not open, or what is about to break, with the shortest fix",
        "nothing; reads only",
        (2, 4, 5, 9, 12),
        (reading("", "volumes", raised=(("check", Role.OPERATOR),)),),
    ),
    Verb(
        "get",
        Group.DAILY,
        "get",
        "the machine config, the volumes or the tags of META, as Talos shows its resources",
        "nothing; reads only",
        (2, 9, 10, 12),
        (reading("", "what", "ids", "output"),),
    ),
    Verb(
        "boot",
        Group.DAILY,
        "boot",
        "open a volume now, as the boot does",
        "nothing; a blank volume is formatted if the config rules here",
        _FLOW,
        (operating("", "volume", "all"),),
    ),
    Verb(
        "retry",
        Group.DAILY,
        "retry",
        "give a volume whose first format failed new attempts, and open it",
        "as boot; what an interrupted format left; with --drop-intent the announcement of that format",
        _FLOW,
        (operating("", "volume", "mount"),),
    ),
    Verb(
        "reboot",
        Group.DAILY,
        "reboot",
        "reboot the node, and say what was left to that boot",
        "nothing of its own: the boot goes on with what was announced, and takes a trial back",
        (2, 9),
        (operating(),),
    ),
    Verb(
        "sync",
        Group.KEYS,
        "sync",
        "make the keyslots those of the config, on a running node",
        "keyslots of ours that the config dropped, and with prune those of others; never the last one that was proven",
        (2, 3, 4, 5, 6, 7, 8, 9, 10, 11),
        (operating("", "volumes", "dry_run"),),
    ),
    Verb(
        "adopt",
        Group.KEYS,
        "adopt",
        "take over a volume that Talos or cryptsetup made",
        "nothing; notes in the header which keyslots the config's keys open",
        (2, 3, 4, 6, 9, 10, 11),
        administering(),
    ),
    Verb(
        "meta",
        Group.KEYS,
        "meta",
        "list, read, write or delete the tags of META",
        "write and delete: the value the tag had",
        (2, 3, 9, 10, 11),
        (reading("list"), reading("read", "key"), *administering("write", "delete")),
    ),
    Verb(
        "keys",
        Group.KEYS,
        "keys",
        "give keyslots new keys",
        "rotate: the keys that the slots had",
        tuple(sorted((*_FLOW, 5, 7, 13))),
        (operating("rotate", "volume"),),
    ),
    Verb(
        "recovery",
        Group.KEYS,
        "recovery",
        "make, list, verify and remove recovery keys; open one that was encrypted to you",
        "remove: that recovery key; the others nothing",
        (2, 3, 4, 5, 6, 9, 10, 11, 13),
        (reading("list", "volumes"), *administering("add", "verify", "remove"), *staying("open")),
    ),
    Verb(
        "header",
        Group.KEYS,
        "header",
        "save the header of a volume, encrypted to an operator; put it back; list and drop kept backups",
        "restore: the header on the device, with keyslots that the backup has not; drop: those backups",
        (2, 3, 9, 10, 11, 13),
        (reading("list"), *administering("backup", "restore", "drop"), *staying("open")),
    ),
    Verb(
        "tpm",
        Group.KEYS,
        "tpm",
        "whether the tpm keys will open at the next boot, with another image or other firmware",
        "nothing; reads only, and unseals nothing",
        (2, 3, 4, 5, 6, 9, 10),
        (reading("preflight", "volumes", "pcr"),),
    ),
    Verb(
        "unlock",
        Group.KEYS,
        "unlock",
        "open a volume by hand with a recovery key",
        "nothing; formats nothing",
        (2, 3, 4, 8, 9, 10, 11),
        administering(),
    ),
    Verb(
        "kms",
        Group.KEYS,
        "kms",
        "serve keys to nodes: the KMS, its nodes and its master key",
        "node revoke: what that node may do; key passphrase: the old passphrase",
        (3, 9, 11, 13),
        (
            *administering("node list", "node allow", "node revoke", "key list"),
            *staying("init", "serve", "key rotate", "key import", "key passphrase", "key export", "unit"),
        ),
    ),
    Verb(
        "validate",
        Group.CHANGES,
        "validate",
        "whether a machine config is right, with every problem and its line",
        "nothing; touches no device",
        (2,),
        staying(),
    ),
    Verb(
        "machineconfig",
        Group.CHANGES,
        "machineconfig",
        "patch a machine config offline; everything that the patches do not name stays, byte for byte",
        "with -o: the file it names",
        (2, 9),
        staying("patch"),
        ("mc",),
    ),
    Verb(
        "gen",
        Group.CHANGES,
        "gen",
        "a commented machine config to start from",
        "nothing; never writes over a file",
        (2, 3, 9),
        staying("config"),
    ),
    Verb(
        "apply-config",
        Group.CHANGES,
        "apply_config",
        "give the node a machine config: its first, or a newer one",
        "the config in STATE is replaced; blank volumes are formatted only by the first config of a node",
        tuple(sorted((*_FLOW, 5, 7))),
        administering(),
        ("apply",),
    ),
    Verb(
        "trial",
        Group.CHANGES,
        "trial",
        "whether a machine config is on trial; take it back",
        "revert: the keys that the trial added",
        tuple(sorted((*_FLOW, 5))),
        (reading("show"), operating("revert")),
    ),
    Verb(
        "patch",
        Group.CHANGES,
        "patch",
        "patch the machine config of this node, and apply it",
        "as apply-config",
        tuple(sorted((*_FLOW, 5, 7))),
        administering(),
    ),
    Verb(
        "edit",
        Group.CHANGES,
        "edit",
        "edit the machine config of this node, and apply it",
        "as apply-config",
        tuple(sorted((*_FLOW, 5, 7))),
        staying(),
    ),
    Verb(
        "install",
        Group.CHANGES,
        "install",
        "lay out META, STATE and EPHEMERAL on a disk",
        "nothing on a blank disk; with --erase everything on that disk",
        (2, 3, 9, 10, 11),
        administering(),
    ),
    Verb(
        "enable",
        Group.CHANGES,
        "enable",
        "have systemd open and mount the volumes at every boot",
        "nothing; earlier units of luksctl are replaced",
        (2, 3, 5, 9),
        administering(),
    ),
    Verb(
        "encrypt",
        Group.CHANGES,
        "encrypt",
        "encrypt what is on a plain volume in place",
        "nothing; every byte of the volume is written anew",
        tuple(sorted((*_FLOW, 7))),
        administering(),
    ),
    Verb(
        "decrypt",
        Group.CHANGES,
        "decrypt",
        "make an encrypted volume plain in place",
        "its keyslots; every byte of the volume is written anew, in the plain",
        tuple(sorted((*_FLOW, 7))),
        administering(),
    ),
    Verb(
        "reencrypt",
        Group.CHANGES,
        "reencrypt",
        "give a volume a new volume key where it stands, also while it is mounted",
        "what opened it before: backups of its header, keyslots that --drop-slot names",
        (2, 3, 4, 5, 6, 7, 8, 9, 10, 11),
        administering(),
    ),
    Verb(
        "reset",
        Group.END_OF_LIFE,
        "reset",
        "erase volumes of this node with proof, in constant time",
        "everything on them: keys, headers, with --zero every byte; in META what is known of them",
        (2, 3, 7, 8, 9, 10, 11),
        administering(),
    ),
    Verb(
        "wipe",
        Group.END_OF_LIFE,
        "wipe",
        "erase disks or partitions that no volume of this node uses",
        "everything on them",
        (2, 3, 9, 11),
        administering("disk"),
    ),
    Verb(
        "disable",
        Group.END_OF_LIFE,
        "disable",
        "take back what enable wrote",
        "the units and links of enable; no volume is touched",
        (2, 9),
        administering(),
    ),
)


def verb_of(word: str) -> Verb | None:
    """Return the verb called `word`, by its name or an alias."""
    return next((verb for verb in VERBS if word == verb.name or word in verb.aliases), None)


def overview() -> str:
    """Return the text of `luksctl --help`."""
    width = max(len(verb.name) for verb in VERBS)
    lines = [
        "usage: luksctl [--settings FILE] [-n HOST,…] [--json] [--debug] VERB …",
        "",
        "Declarative disk encryption: the keys in the config are the keyslots on the disk.",
    ]
    for group in Group:
        verbs = [verb for verb in VERBS if verb.group is group]
        if verbs:
            lines += ["", f"{group}:", *(f"  {verb.name:<{width}}  {verb.answers}" for verb in verbs)]
    return "\n".join([*lines, "", "luksctl VERB --help says more; exit codes are in docs/errors.md.", ""])
