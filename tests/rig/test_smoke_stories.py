"""The rig's own stories are skipped where they passed before, and never on a build machine."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
from rig import host


@pytest.fixture
def conftest(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ModuleType:
    """Return what collects the stories, with a record in which every story of the rig passed."""
    spec = importlib.util.spec_from_file_location("stories_conftest", host.CHECKOUT / "vm-tests" / "conftest.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(host, "CACHE", tmp_path)
    monkeypatch.setattr(module, "_rig_key", lambda: "key")
    (tmp_path / "smoke" / "key").mkdir(parents=True)
    (tmp_path / "smoke" / "key" / "test_it").touch()
    for name in ("CI", "LUKSCTL_REQUIRE_VM"):
        monkeypatch.delenv(name, raising=False)
    return module


STORY = SimpleNamespace(name="test_it")


def test_what_passed_here_is_not_run_again(conftest: ModuleType) -> None:
    """The same rig, image and QEMU would do the same."""
    assert conftest._passed_before(STORY)
    assert not conftest._passed_before(SimpleNamespace(name="test_another"))


@pytest.mark.parametrize("variable", [("CI", "true"), ("LUKSCTL_REQUIRE_VM", "1")])
def test_a_build_machine_runs_it_all_the_same(
    conftest: ModuleType, monkeypatch: pytest.MonkeyPatch, variable: tuple[str, str]
) -> None:
    """There a record of earlier days proves nothing, and a skip is a failure."""
    monkeypatch.setenv(*variable)
    assert not conftest._passed_before(STORY)
