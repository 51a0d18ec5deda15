"""luksctl header: what is saved and to whom, what a restore refuses without a byte changed, and what it brings back."""

from __future__ import annotations

import base64
import json
import os
import stat
from pathlib import Path

import pytest

from luksctl.cryptsetup.device import Device
from luksctl.cryptsetup.header_bytes import backup_of
from luksctl.cryptsetup.header_image import copy_header
from luksctl.errors import SlotPassphraseRejected
from luksctl.model.bookkeeping import Bookkeeping, encode
from luksctl.model.config import CHEAPEST_KDF
from luksctl.model.header import UNFINISHED_MARK, Copies
from luksctl.secret import Secret
from tests.cli.desk import PASSPHRASE, PLAIN, Answer, Desk
from tests.cryptsetup.forging import forge_json, overwrite, reader
from tests.marker import MARKER, shown_in
from tests.providers.operators import KINDS, operator

NEWER = "the passphrase it was changed to"


class Bench:
    """STATE with two slots, an operator's key files, and short words for the command."""

    def __init__(self, desk: Desk, kind: str = "x25519") -> None:
        self.desk = desk
        self.public, self.private = desk.directory / "public.pem", desk.directory / "private.pem"
        self.public.write_bytes(operator(kind).public_pem())
        self.private.write_bytes(operator(kind).private_pem())
        self.file = desk.directory / "state.backup"
        self.state = str(desk.path("state"))
        desk.format("state", slots={0: PASSPHRASE, 3: MARKER.decode()})

    def backup(self, *words: str) -> Answer:
        """Save the header of STATE into the file."""
        return self.desk.run("header", "backup", "STATE", "--to", str(self.file), *words)

    def save(self) -> None:
        """Save it encrypted, and expect that it works."""
        assert self.backup("--recipient", str(self.public)).code == 0

    def restore(self, *words: str) -> Answer:
        """Put the file back."""
        identity = () if b"LUKS" in self.file.read_bytes()[:4] else ("--identity", str(self.private))
        return self.desk.run("header", "restore", "STATE", "--from", str(self.file), *identity, *words)

    def refused(self, *words: str, code: int = 3, why: str = "") -> Answer:
        """Expect that a restore is refused and changes no byte."""
        before = self.desk.bytes_of("meta", "state")
        answer = self.restore(*words)
        assert answer.code == code, answer.err
        assert why in answer.err
        assert self.desk.bytes_of("meta", "state") == before
        return answer

    def change(self, slot: int, passphrase: str) -> None:
        """Write another passphrase into a slot."""
        with (
            Device.open(self.state) as device,
            Secret.take(MARKER) as key,
            Secret.take(passphrase.encode()) as other,
            device.volume_key(key, slot=3) as volume_key,
        ):
            if slot in device.keyslots.numbers():
                device.keyslots.destroy(slot)
            device.keyslots.add_by_volume_key(slot, other, volume_key, CHEAPEST_KDF)

    def count(self, counter: int) -> None:
        """Write bookkeeping with this counter; who made it is not asked without a volume key."""
        with Device.open(self.state) as device:
            device.tokens.set(31, encode(Bookkeeping(counter), "00"))

    def opens(self, passphrase: str) -> bool:
        """Tell whether a passphrase opens STATE."""
        with (
            Secret.take(passphrase.encode()) as key,
            Device.from_copy(copy_header(*reader(self.state)), self.state) as d,
        ):
            try:
                d.test_key(key)
            except SlotPassphraseRejected:
                return False
        return True


@pytest.fixture
def bench(desk: Desk) -> Bench:
    """Return STATE with two slots and an operator."""
    return Bench(desk)


# ---- backup ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_what_was_saved_to_an_operator_comes_back(desk: Desk, kind: str) -> None:
    """A slot that was changed, one that was added and one that was kept, each told before, and true afterwards."""
    bench = Bench(desk, kind)
    bench.save()
    bench.change(0, NEWER)
    bench.change(7, "an added one")
    answer = bench.restore("--yes", "--json")
    assert answer.code == 0, answer.err
    told = answer.json
    assert (told["back"], told["changed"], told["gone"], told["same"]) == ([], [0], [7], [3])
    assert [bench.opens(each) for each in (PASSPHRASE, MARKER.decode(), NEWER, "an added one")] == [
        True,
        True,
        False,
        False,
    ]
    assert copy_header(*reader(bench.state)).copies.state is Copies.EQUAL
    assert "slots that vanish: 7" in answer.err


def test_the_document_says_what_it_is_and_shows_nothing(bench: Bench) -> None:
    """Readable by its owner alone; the header itself is in the encrypted part only."""
    answer = bench.backup("--recipient", str(bench.public), "--json")
    assert answer.code == 0
    document = json.loads(bench.file.read_bytes())
    assert stat.S_IMODE(bench.file.stat().st_mode) == 0o600
    assert (document["kind"], document["volume"], document["slots"]) == ("luksctl-header-backup", "STATE", [0, 3])
    assert document["counter"] is None
    assert document["node"] == os.uname().nodename
    assert answer.json["headerUUID"] == document["headerUUID"]
    sealed = base64.b64decode(document["sealed"])
    for shown in (bench.file.read_bytes(), sealed):
        assert b"LUKS\xba\xbe" not in shown
        assert b'"keyslots"' not in shown


def test_without_a_file_the_document_is_on_standard_output(bench: Bench) -> None:
    """So that it can leave the node without ever lying on it."""
    answer = bench.desk.run("header", "backup", "STATE", "--recipient", str(bench.public))
    assert (answer.code, answer.json["kind"], answer.err) == (0, "luksctl-header-backup", "")


def test_saving_changes_no_byte(bench: Bench) -> None:
    """Not even of a damaged copy."""
    overwrite(bench.state, 512, b"damage")
    before = bench.desk.bytes_of("meta", "state")
    bench.save()
    assert bench.desk.bytes_of("meta", "state") == before


def test_a_file_is_never_written_over(bench: Bench) -> None:
    """Neither by a backup nor by one that is decrypted."""
    bench.file.write_text("mine", encoding="utf-8")
    assert bench.backup("--recipient", str(bench.public)).code == 3
    assert bench.file.read_text(encoding="utf-8") == "mine"


@pytest.mark.parametrize("words", [(), ("--unencrypted", "--recipient", "public.pem")])
def test_unencrypted_has_to_be_said(bench: Bench, words: tuple[str, ...]) -> None:
    """Without a recipient nothing is written, and both at once make no sense."""
    assert bench.backup(*words).code == 64
    assert not bench.file.exists()


def test_the_recipient_of_the_policy_is_taken_without_another(bench: Bench) -> None:
    """The config says who holds the private key."""
    key = "".join(f"    {line}\n" for line in operator("x25519").public_pem().decode().splitlines())
    bench.desk.write_config(f"{PLAIN}headerBackup:\n  recipient: |\n{key}")
    assert bench.backup().code == 0
    bench.change(0, NEWER)
    assert bench.restore("--yes").code == 0
    assert bench.opens(PASSPHRASE)


def test_unencrypted_is_a_file_of_cryptsetup(bench: Bench) -> None:
    """Readable by its owner alone, and taken back as it is."""
    assert bench.backup("--unencrypted").code == 0
    assert stat.S_IMODE(bench.file.stat().st_mode) == 0o600
    with Device.open(str(bench.file)) as device:
        assert device.keyslots.numbers() == (0, 3)
    bench.change(0, NEWER)
    assert bench.restore("--yes").code == 0
    assert bench.opens(PASSPHRASE)


def test_an_operator_decrypts_it_elsewhere(bench: Bench) -> None:
    """What comes out is what a node takes without any private key."""
    bench.save()
    out = bench.desk.directory / "decrypted"
    words = ("header", "open", "--identity", str(bench.private), "--to", str(out), str(bench.file))
    assert bench.desk.run(*words).code == 0
    assert bench.desk.run(*words).code == 3
    bench.file = out
    overwrite(bench.state, 0, bytes(65536))
    assert bench.restore("--yes").code == 0
    assert bench.opens(PASSPHRASE)


# ---- restore --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("offsets", [(0,), (16384,), (0, 16384)])
def test_a_damaged_header_is_made_whole(bench: Bench, offsets: tuple[int, ...]) -> None:
    """The first copy, the second, or both."""
    bench.save()
    for offset in offsets:
        overwrite(bench.state, offset, bytes(8192))
    assert bench.restore("--yes").code == 0
    assert bench.opens(PASSPHRASE)
    assert copy_header(*reader(bench.state)).copies.state is Copies.EQUAL


def test_it_asks_and_nobody_is_there(bench: Bench) -> None:
    """What is not confirmed is not done."""
    bench.save()
    bench.refused(code=64, why="nobody is here to confirm it")


def test_another_header_is_refused_whatever_is_said(bench: Bench) -> None:
    """The volume was formatted anew since, so the saved keys open nothing there."""
    bench.save()
    bench.desk.image("state", 32 << 20)
    bench.desk.format("state", slots={0: PASSPHRASE})
    flags = ("--yes", "--older", "--while-open", "--unfinished", "--reencryption")
    bench.refused(*flags, why="the backup is of header")


def test_an_older_backup_has_to_be_allowed(bench: Bench) -> None:
    """Keyslots were changed since; one with the same or a newer counter is no question."""
    bench.count(4)
    bench.save()
    assert bench.restore("--yes").code == 0
    bench.count(5)
    answer = bench.refused("--yes", why="the backup is at change 4, and the keyslots on the device are at change 5")
    assert "--older" in answer.err
    assert bench.restore("--yes", "--older").code == 0


def test_a_backup_from_before_the_bookkeeping_is_older(bench: Bench) -> None:
    """It has no counter at all."""
    bench.save()
    bench.count(1)
    bench.refused("--yes", why="the backup has no bookkeeping")


@pytest.mark.parametrize("where", ["backup", "device"])
def test_an_unfinished_format_has_to_be_allowed(bench: Bench, where: str) -> None:
    """On either side: the mark would lock the volume, or the restore would take it away."""
    if where == "device":
        bench.save()
    with Device.open(bench.state) as device:
        device.header.set_label("", UNFINISHED_MARK)
    if where == "backup":
        bench.save()
        with Device.open(bench.state) as device:
            device.header.set_label("", "")
    answer = bench.refused("--yes", why="was not finished")
    assert "--unfinished" in answer.err
    assert bench.restore("--yes", "--unfinished").code == 0


@pytest.mark.parametrize("where", ["backup", "device"])
def test_a_reencryption_has_to_be_allowed(bench: Bench, where: str) -> None:
    """On either side."""
    if where == "device":
        bench.save()
    requirement = {"mandatory": ["offline-reencrypt"]}
    forge_json(bench.state, lambda document: document["config"].update(requirements=requirement))
    if where == "backup":
        bench.file.write_bytes(backup_of(copy_header(*reader(bench.state))))
        forge_json(bench.state, lambda document: document["config"].pop("requirements"))
    bench.refused("--yes", why="re-encryption is under way")


def test_another_volume_key_has_to_be_allowed(bench: Bench) -> None:
    """After a re-encryption that has ended the UUID is the same, and the data is under another key."""
    bench.save()
    forge_json(bench.state, lambda document: document["digests"]["0"].update(digest="AAAA"))
    bench.refused("--yes", why="another volume key")


def test_other_data_is_not_written_over(bench: Bench) -> None:
    """Where the header was there is something else that libblkid knows."""
    bench.save()
    overwrite(bench.state, 0, bytes(65536))
    overwrite(bench.state, 4086, b"SWAPSPACE2")
    overwrite(bench.state, 1024, b"\x01\0\0\0\xff\0\0\0")
    bench.refused("--yes", why="there is something else")


def test_the_backup_of_another_volume_is_refused(bench: Bench) -> None:
    """The document says which one it is of."""
    bench.save()
    words = ("--from", str(bench.file), "--identity", str(bench.private), "--yes")
    before = bench.desk.bytes_of("ephemeral")
    answer = bench.desk.run("header", "restore", "EPHEMERAL", *words)
    assert answer.code == 3
    assert "the backup is of STATE" in answer.err
    assert bench.desk.bytes_of("ephemeral") == before


CHANGED = [("volume", "EPHEMERAL"), ("counter", 9), ("seqid", 99), ("node", "other"), ("slots", []), ("extra", 1)]


@pytest.mark.parametrize(("field", "value"), CHANGED)
def test_a_changed_document_does_not_open(bench: Bench, field: str, value: object) -> None:
    """Every field is authenticated."""
    bench.save()
    document = json.loads(bench.file.read_bytes())
    bench.file.write_text(json.dumps(document | {field: value}), encoding="utf-8")
    bench.refused("--yes", code=3 if field == "volume" else 13)


@pytest.mark.parametrize(("field", "value"), [("sealed", "!"), ("seqid", "1"), ("slots", ["1"]), ("version", 2)])
def test_a_document_that_makes_no_sense_is_refused(bench: Bench, field: str, value: object) -> None:
    """Fields of a wrong type, and versions to come."""
    bench.save()
    document = json.loads(bench.file.read_bytes())
    bench.file.write_text(json.dumps(document | {field: value}), encoding="utf-8")
    bench.refused("--yes", code=13)


def test_another_private_key_does_not_open_it(bench: Bench) -> None:
    """It says which one would."""
    bench.save()
    bench.private.write_bytes(operator("x25519", "second").private_pem())
    bench.refused("--yes", code=13, why="encrypted to another key")


def test_an_encrypted_backup_needs_the_private_key(bench: Bench) -> None:
    """And names the way that keeps it away from the node."""
    bench.save()
    answer = bench.desk.run("header", "restore", "STATE", "--from", str(bench.file), "--yes")
    assert answer.code == 64
    assert "luksctl header open" in answer.err


def test_what_is_no_backup_is_refused(bench: Bench) -> None:
    """Any file."""
    bench.file.write_bytes(b"LUKS but no more")
    bench.refused("--yes", code=9, why="no whole backup")


# ---- list, drop, and secrets ----------------------------------------------------------------------------------------


def test_nothing_kept_is_no_error(bench: Bench) -> None:
    """STATE is not mounted here, so there is nothing to list or drop."""
    assert bench.desk.run("header", "list", "--json").json == {"headerBackups": []}
    answer = bench.desk.run("header", "drop", "STATE", "--json")
    assert (answer.code, answer.json) == (0, {"volume": "STATE", "dropped": []})


def test_no_secret_is_shown(bench: Bench) -> None:
    """The passphrase of a slot is the marker; no command says it, and no file but the device has it."""
    bench.save()
    for words in (("--yes",), ("--yes", "--json"), ("--yes", "--debug"), ()):
        answer = bench.restore(*words)
        assert shown_in(answer.out + answer.err) == []
    assert shown_in(bench.file.read_bytes()) == []
    assert shown_in(Path(bench.file).read_text(encoding="utf-8"), operator("x25519").private_pem()) == []
