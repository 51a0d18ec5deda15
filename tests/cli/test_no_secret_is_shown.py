"""Whole flows with a marker for a passphrase and a marker for the node's UUID: neither reaches any output.

Searched are both output streams of every verb, in text, as JSON and with --debug, what programs are started with, and
all files but those that hold the config by intent (the config itself, META, and the volumes).
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest

from luksctl.boot import hook
from luksctl.cli.main import main
from luksctl.model.config import Settings
from luksctl.model.step import Done
from luksctl.node.node import Node
from luksctl.reconcile.converge import converge
from luksctl.wiring import build_node, read_settings
from tests.cli.desk import Answer, Desk, encrypted
from tests.marker import MARKER, shown_in
from tests.reconcile.images import Node as ImageNode
from tests.reconcile.images import cheap_wish
from tests.reconcile.providers import encrypted as with_keys
from tests.reconcile.providers import static

SECRET = MARKER.decode()
UUID = "4d61726b-6572-2d55-5549-442d31663963"
HOLDS_THE_CONFIG = {"machine.yaml", "given.yaml", "meta.img", "state.img", "ephemeral.img"}

NODE_ID = encrypted().replace("static: {passphrase: a passphrase for tests}", "nodeID: {}")
MIXED = encrypted(passphrase=SECRET).replace(
    f"static: {{passphrase: {SECRET}}}", f"static: {{passphrase: {SECRET}}}\n    - slot: 1\n      nodeID: {{}}"
)


@dataclass
class Started:
    """What programs were started with: arguments and environment."""

    listening: bool = False
    seen: list[str] = field(default_factory=list)

    def __call__(self, event: str, arguments: tuple[object, ...]) -> None:
        """Note one event of the interpreter (sys.addaudithook)."""
        if self.listening and event == "subprocess.Popen":
            self.seen.append(repr(arguments))


_STARTED = Started()
sys.addaudithook(_STARTED)


@pytest.fixture
def started() -> Iterator[list[str]]:
    """Return what is started from now on."""
    _STARTED.seen.clear()
    _STARTED.listening = True
    yield _STARTED.seen
    _STARTED.listening = False


def _expect_nothing_shown(desk: Desk, texts: list[str]) -> None:
    for text in texts:
        for secret in (MARKER, UUID.encode(), UUID.replace("-", "").encode()):
            assert shown_in(text, secret) == [], text
    for path in desk.directory.rglob("*"):
        if path.is_file() and path.name not in HOLDS_THE_CONFIG:
            assert shown_in(path.read_bytes()) == [], path
            assert shown_in(path.read_bytes(), UUID.encode()) == [], path


def _every_way(desk: Desk, *words: str) -> list[Answer]:
    return [desk.run(*words), desk.run("--json", *words), desk.run("--debug", *words)]


FLOW = (
    ("validate", "machine.yaml"),
    ("plan",),
    ("plan", "-f", "given.yaml"),
    ("boot", "STATE"),
    ("status",),
    ("get", "machineconfig"),
    ("get", "mc", "persistent", "-o", "yaml"),
    ("get", "volumestatus"),
    ("get", "vs", "-o", "yaml"),
    ("get", "meta"),
    ("patch", "mc", "-p", "machine: {type: worker}"),
    ("check",),
    ("doctor",),
    ("doctor", "--check"),
    ("boot", "EPHEMERAL"),
    ("boot", "--all"),
    ("retry", "STATE"),
    ("retry", "STATE", "--drop-intent", "--yes"),
    ("apply-config", "-f", "given.yaml"),
    ("apply-config", "--insecure", "-f", "given.yaml"),
    ("recovery", "list"),
    ("recovery", "add", "STATE"),
    ("recovery", "remove", "STATE", "--slot", "0", "--yes"),
    ("unlock", "STATE", "--recovery", "--key-fd", "999"),
    ("keys", "rotate"),
    ("keys", "rotate", "STATE", "--slot", "0"),
    ("meta", "list"),
    ("meta", "read", "9"),
    ("meta", "read", "9", "-o", "raw"),
    ("meta", "read", "0x0f"),
    ("meta", "read", "0xe0"),
)


@pytest.mark.parametrize("text", [encrypted(passphrase=SECRET), NODE_ID, MIXED], ids=["static", "nodeID", "both"])
@pytest.mark.parametrize("state", ["blank", "foreign"])
def test_no_verb_shows_a_key(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, started: list[str], text: str, state: str
) -> None:
    """Format, failure to map, refusal, status: in text, as JSON, and with --debug."""
    monkeypatch.chdir(desk.directory)
    desk.write_config(text)
    (desk.directory / "given.yaml").write_text(text + "# another\n", encoding="utf-8")
    desk.run("meta", "write", "0x0f", UUID, "--yes")
    if state == "foreign":
        desk.format("state", slots={0: "somebody else's", 1: "and another"})
    answers = [answer for words in FLOW for answer in _every_way(desk, *words)]
    assert {answer.code for answer in answers} >= {0, 4 if state == "foreign" else 3}
    assert not any("a bug in luksctl" in answer.err for answer in answers)
    _expect_nothing_shown(desk, [*(answer.out + answer.err for answer in answers), *started])


def test_the_search_finds_what_is_there(desk: Desk) -> None:
    """The one way to see a secret is to ask for it by name."""
    desk.run("meta", "write", "0x0f", UUID, "--yes")
    shown = desk.run("meta", "read", "0x0f", "--show-secrets")
    with pytest.raises(AssertionError):
        _expect_nothing_shown(desk, [shown.out])


WRONG = (
    "static: {{passphrase: {0}}}\n      kms: {{endpoint: {0}",
    "static: {{passphrase: [{0}]}}",
    "static: {0}",
    "static: {{passphrase: *{0}}}",
    "static: {{passphrase: !{0} x}}",
    'static: {{passphrase: "{0}\\q"}}',
    "static: {{passphrase: @{0}}}",
    "static:\n        passphrase: {0}: {0}",
)


@pytest.mark.parametrize("keys", WRONG)
def test_no_mistake_in_a_config_shows_the_key_beside_it(desk: Desk, keys: str) -> None:
    """A passphrase that is not quoted may be what the parser stumbles over; --debug shows the parser's own words."""
    desk.write_config(encrypted().replace("static: {passphrase: a passphrase for tests}", keys.format(SECRET)))
    verbs = (("validate", str(desk.config)), ("boot", "STATE"), ("plan",), ("status",))
    answers = [answer for words in verbs for answer in _every_way(desk, *words)]
    assert {answer.code for answer in answers} >= {2}
    _expect_nothing_shown(desk, [answer.out + answer.err for answer in answers])


@pytest.mark.parametrize("text", [encrypted(passphrase=SECRET), MIXED], ids=["static", "both"])
def test_the_hook_and_its_report_show_no_key(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], text: str
) -> None:
    """The journal of a boot that formats, fails to map, and is refused the third time."""
    desk.write_config(text)
    desk.run("meta", "write", "0x0f", UUID, "--yes")
    settings = read_settings(str(desk.settings))
    monkeypatch.setattr(hook, "read_settings", lambda: settings)

    def joined(
        known: Settings, announce: Callable[[Done], None], *, tell: Callable[[str], None], network: bool
    ) -> Node:
        return build_node(known, announce, desk.paths, tell, network=network)

    monkeypatch.setattr(hook, "build_node", joined)
    codes = [hook.run([volume]) for volume in ("STATE", "STATE", "EPHEMERAL", "STATE", "STATE")]
    said = capsys.readouterr()
    assert codes[-1] == 3
    assert (desk.directory / "run" / "report" / "STATE.json").exists()
    _expect_nothing_shown(desk, [said.out + said.err])


def test_no_step_of_a_whole_format_shows_a_key(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    """Every step to the end, with what each told, as the hook would write it and as a debugger would show it."""
    directory = desk.directory / "images"
    directory.mkdir()
    node = ImageNode(directory)
    steps: list[Done] = list(converge(cheap_wish(with_keys(static(0, MARKER))), node.volume_settings, node.ports))
    assert type(steps[-1].step).__name__ == "ConcludeFormat"
    for done in steps:
        hook.announce(done)
    said = capsys.readouterr()
    for text in (repr(steps), repr(node.facts()), repr(node.observe()), said.out + said.err):
        assert shown_in(text) == [], text


def test_a_generated_passphrase_stands_in_the_config_alone(desk: Desk) -> None:
    """Written to a file, it is on neither stream; as JSON it is not either."""
    path = desk.directory / "etc" / "made.yaml"
    answers = [desk.run("gen", "config", "--keys", "static", "-o", str(path))]  # in a directory not there before
    line = next(line for line in path.read_text(encoding="utf-8").splitlines() if "passphrase:" in line)
    secret = line.split("passphrase:")[1].strip(" '\"{}")
    answers += _every_way(desk, "validate", str(path))
    assert len(secret) > 20
    assert all(shown_in(answer.out + answer.err, secret.encode()) == [] for answer in answers)
    assert main(("gen", "config", "-o", str(path))) == 3
