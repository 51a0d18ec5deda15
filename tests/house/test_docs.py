"""The documents are true where a test can tell: links, paths, commands and numbers."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from luksctl.model.config import Timeouts
from luksctl.model.destroys import Destroys
from luksctl.model.step import Step
from luksctl.value import as_dict
from tests.house.tree import ROOT
from tests.model.samples import samples_of_union

PAGES = tuple(
    sorted(
        path.relative_to(ROOT)
        for path in (*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").rglob("*.md"))
    )
)
_LINK = re.compile(r"\[[^\]]+\]\((?P<target>[^)\s]+)\)")
_CODE = re.compile(r"`(?P<text>[^`\n]+)`")
_OURS = re.compile(r"^(luksctl|native|tests|vm-tests|docs|examples|\.ci)(/[\w.-]+)+/?$|^[\w-]+\.(md|toml|py)$")
_HEADING = re.compile(r"^#+ (?P<text>.+)$", re.MULTILINE)
_MAKE = re.compile(r"^ *make (?P<target>[a-z][a-z-]*)\b", re.MULTILINE)
_FENCED = re.compile(r"(?:^    .*\n)+", re.MULTILINE)
_GUARANTEE = re.compile(r"^\d+\. \*\*.*?(?=^\d+\. \*\*|^## )", re.MULTILINE | re.DOTALL)


def _text(page: Path) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def _commands(page: Path) -> str:
    """Return what stands in code on `page`: indented blocks and backticks."""
    text = _text(page)
    return "\n".join([*_FENCED.findall(text), *(match["text"] for match in _CODE.finditer(text))])


def _anchor(heading: str) -> str:
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_links_lead_somewhere(page: Path) -> None:
    """Each relative link names a file that is there, and a heading in it where it names one."""
    for match in _LINK.finditer(_text(page)):
        if match["target"].startswith(("https://", "http://")):
            continue
        name, _, anchor = match["target"].partition("#")
        target = (ROOT / page).parent / name if name else ROOT / page
        assert target.exists(), f"{page}: {match['target']}"
        if anchor:
            headings = {_anchor(found["text"]) for found in _HEADING.finditer(target.read_text(encoding="utf-8"))}
            assert anchor in headings, f"{page}: {match['target']}"


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_paths_in_the_text_exist(page: Path) -> None:
    """What looks like a file or folder of the project is one; CONTRIBUTING's bad examples are no paths."""
    for match in _CODE.finditer(_text(page)):
        text = match["text"]
        if _OURS.match(text) and text != "test_torn_meta.py":
            beside = (ROOT / page).parent / text
            assert (ROOT / text).exists() or beside.exists() or (ROOT / "luksctl" / text).exists(), f"{page}: {text}"


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_make_targets_in_the_text_exist(page: Path) -> None:
    """Whoever types a command from the documents finds it in the Makefile."""
    targets = set(re.findall(r"^([a-z][a-z-]*):", _text(Path("Makefile")), re.MULTILINE))
    assert {match["target"] for match in _MAKE.finditer(_commands(page))} <= targets


def test_the_readme_shows_both_commands() -> None:
    """Demo and test are what a newcomer types first, and what the build machine runs is the README's."""
    commands = _commands(Path("README.md"))
    assert "make demo" in commands
    assert "make test" in commands
    assert "make test" in _text(Path(".ci/run"))


def test_every_page_can_be_found() -> None:
    """Each page below docs/ is linked from another page."""
    linked = {
        ((ROOT / page).parent / match["target"].partition("#")[0]).resolve()
        for page in PAGES
        for match in _LINK.finditer(_text(page))
    }
    orphans = [str(page) for page in PAGES if page.parts[0] == "docs" and (ROOT / page).resolve() not in linked]
    assert orphans == []


def test_the_table_of_timeouts_is_that_of_the_code() -> None:
    """docs/design.md lists every timeout with its default."""
    rows = dict(re.findall(r"^\| `(\w+_s)` \| (\d+) s \|", _text(Path("docs/design.md")), re.MULTILINE))
    defaults = {name: f"{seconds:.0f}" for name, seconds in as_dict(Timeouts()).items()}
    assert rows == defaults


def test_the_threat_model_names_every_step_that_destroys_data() -> None:
    """A new destructive step is a change of what the project promises."""
    section = _text(Path("docs/threat-model.md")).partition("## Steps that destroy data")[2].partition("\n## ")[0]
    named = {match["text"] for match in _CODE.finditer(section)}
    destructive = {type(step).__name__ for step in samples_of_union(Step) if step.destroys is Destroys.DATA}
    assert destructive <= named
    assert {name for name in named if name in {type(step).__name__ for step in samples_of_union(Step)}} == destructive


def test_every_guarantee_names_the_tests_that_hold_it() -> None:
    """Each numbered guarantee ends with at least one place in the tests; the places are checked above."""
    guarantees = _GUARANTEE.findall(_text(Path("docs/threat-model.md")))
    assert len(guarantees) >= 5
    for number, guarantee in enumerate(guarantees, start=1):
        assert guarantee.startswith(f"{number}. ")
        assert re.search(r"`(vm-)?tests[/`]", guarantee), guarantee


def test_decisions_are_numbered_without_gaps_and_listed() -> None:
    """Every decision has the next number, and its title stands in the list."""
    pages = sorted((ROOT / "docs" / "decisions").glob("0*.md"))
    index = _text(Path("docs/decisions/README.md"))
    for number, page in enumerate(pages, start=1):
        title = page.read_text(encoding="utf-8").splitlines()[0]
        assert title.startswith(f"# {number:04} ")
        assert f"[{number:04}]({page.name}) | {title[7:]} |" in index
