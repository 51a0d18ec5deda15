"""Which libcryptsetup may re-encrypt is told from the version in its file, since some corrupt what is mounted."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from luksctl.cryptsetup.soundness import exact_version, objection_to, why_not_reencrypt
from tests.cryptsetup.other_version import library_that_says, run_with_library

_ASK = "from luksctl.cryptsetup.soundness import why_not_reencrypt; print(why_not_reencrypt())"


@pytest.mark.parametrize("told", ["2.4.0", "2.6.1", "2.7.5", "2.7.10", "2.8.0", "2.8.0-rc1", "3.0.0"])
def test_sound_versions_may(told: str) -> None:
    """Everything before 2.7.0, and from 2.7.5 on."""
    assert objection_to(told) is None


@pytest.mark.parametrize("told", ["2.7.0", "2.7.0-rc1", "2.7.1", "2.7.2", "2.7.3", "2.7.4"])
def test_corrupting_versions_may_not(told: str) -> None:
    """The five releases, and what came before the first of them; the version is named."""
    assert told in (objection_to(told) or "")


def test_one_that_hides_its_version_may_not() -> None:
    """It may be one of them."""
    assert "does not tell its version" in (objection_to(None) or "")


def test_the_installed_version_is_that_of_the_command() -> None:
    """The command is of the same release as the library beside it."""
    said = subprocess.run(["cryptsetup", "--version"], capture_output=True, text=True, check=True).stdout
    assert re.findall(r"\d+\.\d+\.\d+", said)[:1] == [exact_version()]
    assert why_not_reencrypt() is None


@pytest.mark.parametrize("told", ["2.7.0", "2.7.4"])
def test_it_is_read_from_the_library_that_was_opened(told: str, tmp_path: Path) -> None:
    """Not from the one that is installed, which may have been replaced since."""
    answer = run_with_library(library_that_says(told, tmp_path), _ASK)
    assert f"libcryptsetup {told} can corrupt data" in answer.stdout, answer.stderr


def test_a_library_without_a_version_is_said_to_hide_it(tmp_path: Path) -> None:
    """As one that a distribution has changed may be."""
    answer = run_with_library(library_that_says("", tmp_path), _ASK)
    assert "does not tell its version" in answer.stdout, answer.stderr
