"""The service: systemd takes it, finds little that it may do, and reads back what was written."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from luksctl.devices.programs import Program, locate
from luksctl.kms.unit_text import service
from tests.devices.fake_tree import needs

_ANALYZE = Program("systemd-analyze", "systemd")
# systemd finds 9.6 of an ordinary service, and 0.2 of one that may do nothing at all.
MOST_EXPOSED = 1.5


def test_options_are_read_back_as_they_were() -> None:
    """What systemd would take apart or replace is quoted, but for %d, which is meant."""
    text = service(("/opt/my luksctl",), ("--audit", 'a"b\\c', "--note", "100 $x"))
    assert 'ExecStart="/opt/my luksctl" kms serve --audit "a\\"b\\\\c" --note "100 $$x"' in text


def test_credentials_may_be_named_by_their_directory() -> None:
    """%d is the directory of the credentials (systemd.unit(5)); another % is one."""
    text = service(("/usr/bin/luksctl",), ("--tls-cert", "%d/tls.crt", "--audit", "/a%b"))
    assert '--tls-cert %d/tls.crt --audit "/a%%b"' in text


@needs(_ANALYZE)
def test_systemd_understands_every_line(tmp_path: Path) -> None:
    """It tells of each key and value that it does not know, and would ignore."""
    unit = tmp_path / "luksctl-kms.service"
    command = [locate(_ANALYZE), "verify", "--man=no", str(unit)]
    text = service(("/bin/sh",), ("--tls-cert", "%d/tls.crt"))
    unit.write_text(text, encoding="utf-8")
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    unit.write_text(text.replace("ProtectClock", "ProtectClocks"), encoding="utf-8")
    assert "ProtectClocks" in subprocess.run(command, capture_output=True, text=True, check=False).stderr


@needs(_ANALYZE)
def test_the_service_may_do_little(tmp_path: Path) -> None:
    """By the judgement of systemd-analyze on what a service that was taken over could reach."""
    unit = tmp_path / "luksctl-kms.service"
    unit.write_text(service(("/bin/sh",), ()), encoding="utf-8")
    command = [locate(_ANALYZE), "security", "--offline=true", "--no-pager", str(unit)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found = re.search(r"Overall exposure level for \S+: ([\d.]+)", done.stdout)
    assert found is not None
    assert float(found[1]) <= MOST_EXPOSED
