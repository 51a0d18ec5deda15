"""Where things are on a machine, as values, and every problem of a settings file."""

from __future__ import annotations

import pytest

from luksctl.config.settings import parse_settings
from luksctl.errors import ConfigError, Problem
from luksctl.model.config import (
    EPHEMERAL,
    META,
    STATE,
    ByDevice,
    ByImage,
    ByLabel,
    Settings,
    Timeouts,
    VolumeSettings,
)
from tests.config.reading import yaml

PATH = "/etc/luksctl/luksctl.yaml"


def _parse(text: str, path: str = PATH) -> Settings:
    return parse_settings(yaml(text), path)


def _problems(text: str) -> tuple[Problem, ...]:
    with pytest.raises(ConfigError) as caught:
        _parse(text)
    return caught.value.problems


@pytest.mark.parametrize("text", ["", "# nothing\n", "---\n", "{}", "volumes:\ntimeouts:\n", "volumes: {STATE: {}}"])
def test_nothing_said_means_the_defaults(text: str) -> None:
    """Labels, mount points and timeouts all have defaults."""
    assert _parse(text) == Settings()


def test_every_field() -> None:
    """Each field arrives in the value it stands for."""
    settings = _parse(
        """
        volumes:
          META: {device: /dev/vdb}
          STATE:
            label: KEEP
            disk: /dev/vda
            mountPoint: /srv//state/
          EPHEMERAL:
            image: /var/lib/ephemeral.img
            mountPoint: null
        timeouts: {device: 10s, hook: 1m, lock: 500ms, retryMin: 2s, retryMax: 1.5m}
        """
    )
    assert settings == Settings(
        volumes=(
            (META, VolumeSettings(ByDevice("/dev/vdb"))),
            (STATE, VolumeSettings(ByLabel("KEEP", "/dev/vda"), "/srv/state")),
            (EPHEMERAL, VolumeSettings(ByImage("/var/lib/ephemeral.img"))),
        ),
        timeouts=Timeouts(device_s=10, hook_s=60, lock_s=0.5, retry_min_s=2, retry_max_s=90),
        path=PATH,
    )


def test_a_disk_without_a_label_narrows_the_default_label() -> None:
    """`disk` alone keeps the volume's own name as label."""
    assert _parse("volumes: {STATE: {disk: /dev/vda}}").volume(STATE).location == ByLabel(STATE, "/dev/vda")


@pytest.mark.parametrize(
    ("path", "meta", "state"),
    [
        ("/srv/luksctl.yaml", "/srv/luksctl.meta", "/srv/state.img"),
        ("here/luksctl.yaml", "here/luksctl.meta", "here/state.img"),
        ("luksctl.yaml", "luksctl.meta", "state.img"),
    ],
)
def test_state_in_an_image_file_takes_meta_with_it(path: str, meta: str, state: str) -> None:
    """Image paths count from the settings file, and META lies beside it unless it is named."""
    settings = _parse("volumes: {STATE: {image: state.img}}", path)
    assert settings.volume(META).location == ByImage(meta)
    assert settings.volume(STATE) == VolumeSettings(ByImage(state), "/system/state")
    named = _parse("volumes: {STATE: {image: state.img}, META: {label: META}}", path)
    assert named.volume(META).location == ByLabel(META)


def test_ephemeral_in_an_image_file_leaves_meta_alone() -> None:
    """META belongs to STATE."""
    assert _parse("volumes: {EPHEMERAL: {image: e.img}}").volume(META).location == ByLabel(META)


@pytest.mark.parametrize(
    ("text", "line", "path", "message"),
    [
        ("- a\n", 1, "", "must be a mapping, not a list"),
        ("volumes: {}\n---\nvolumes: {}\n", 3, "", "one document"),
        ("volume: {}\n", 1, "volume", "unknown field 'volume'"),
        ("volumes: {}\nvolumes: {}\n", 2, "volumes", "given twice"),
        ("volumes: {DATA: {}}\n", 1, "volumes.DATA", "unknown field 'DATA'"),
        ("volumes:\n  STATE:\n", 2, "volumes.STATE", "STATE is empty"),
        ("volumes: {STATE: {path: /x}}\n", 1, "volumes.STATE.path", "unknown field 'path'"),
        ("volumes:\n  STATE:\n    label: A\n    image: b\n", 4, "volumes.STATE.image", "several places"),
        ("volumes: {STATE: {device: /dev/a, disk: /dev/b}}\n", 1, "volumes.STATE.disk", "does not go with device"),
        ("volumes: {STATE: {device: sda1}}\n", 1, "volumes.STATE.device", "no absolute path"),
        ("volumes: {STATE: {disk: vda}}\n", 1, "volumes.STATE.disk", "no absolute path"),
        ("volumes: {STATE: {label: ''}}\n", 1, "volumes.STATE.label", "empty text"),
        ("volumes: {STATE: {label: 7}}\n", 1, "volumes.STATE.label", "must be text, not a number"),
        ('volumes: {STATE: {image: "a\\n"}}\n', 1, "volumes.STATE.image", "cannot be printed"),
        (f"volumes: {{STATE: {{label: {'x' * 37}}}}}\n", 1, "volumes.STATE.label", "at most 36"),
        ("volumes: {META: {mountPoint: /meta}}\n", 1, "volumes.META.mountPoint", "unknown field"),
        ("volumes: {STATE: {mountPoint: state}}\n", 1, "volumes.STATE.mountPoint", "no absolute path"),
        ("volumes: {STATE: {mountPoint: /}}\n", 1, "volumes.STATE.mountPoint", "cannot be mounted on"),
        ("volumes: {STATE: {mountPoint: /a/../b}}\n", 1, "volumes.STATE.mountPoint", "cannot be mounted on"),
        (
            "volumes:\n  EPHEMERAL: {label: STATE}\n",
            2,
            "volumes.EPHEMERAL",
            "EPHEMERAL and STATE are at the same place",
        ),
        ("volumes:\n  STATE: {mountPoint: /system/ephemeral}\n", 1, "volumes.EPHEMERAL", "the same mount point"),
        ("timeouts: {device: 90}\n", 1, "timeouts.device", "must be text, not a number"),
        ("timeouts: {device: 90 sec}\n", 1, "timeouts.device", "not a duration"),
        ("timeouts: {hook: 0s}\n", 1, "timeouts.hook", "outside 1ms-24h"),
        ("timeouts: {hook: 25h}\n", 1, "timeouts.hook", "outside 1ms-24h"),
        (f"timeouts: {{hook: {'9' * 400}s}}\n", 1, "timeouts.hook", "outside 1ms-24h"),
        ("timeouts: {retries: 3s}\n", 1, "timeouts.retries", "unknown field"),
        ("timeouts:\n  retryMin: 2m\n", 2, "timeouts.retryMin", "above retryMax (60 s)"),
    ],
)
def test_one_problem(text: str, line: int, path: str, message: str) -> None:
    """The file has exactly this problem, at this line and path."""
    found = _problems(text)
    assert [(problem.file, problem.line, problem.path) for problem in found] == [(PATH, line, path)]
    assert message in found[0].message


def test_all_problems_at_once() -> None:
    """Problems of volumes and timeouts come together, in order of line."""
    text = "timeouts: {lock: soon}\nvolumes:\n  STATE: {image: a, device: /b}\n  META: {mountPoint: /m}\n"
    assert [problem.line for problem in _problems(text)] == [1, 3, 4]
    assert [problem.line for problem in _problems("a: 1\na: 2\nvolumes: [\n")] == [4]


@pytest.mark.parametrize(
    ("state", "ephemeral"), [("/var/lib/state", "/var"), ("/var", "/var/lib/containers"), ("/srv/a/b/c", "/srv/a")]
)
def test_mount_points_below_one_another_are_refused(state: str, ephemeral: str) -> None:
    """EPHEMERAL is opened by what STATE holds, so STATE mounted in EPHEMERAL would wait for itself."""
    text = f"volumes: {{STATE: {{mountPoint: {state}}}, EPHEMERAL: {{mountPoint: {ephemeral}}}}}"
    assert [" is below that of " in problem.message for problem in _problems(text)] == [True]


def test_mount_points_that_only_begin_alike_are_fine() -> None:
    """A name is no directory of another one."""
    _parse("volumes: {STATE: {mountPoint: /srv/data}, EPHEMERAL: {mountPoint: /srv/data2}}")
