"""The KMS as a service: the unit that `luksctl kms unit` prints, under systemd, as a user that nobody made."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from pathlib import Path

from rig.machine import Machine
from rig.spec import MachineSpec

from luksctl.kms.keyfile import Costs
from luksctl.kms.room import Kms
from luksctl.secret import Secret

DIRECTORY = "/var/lib/luksctl-kms"
UNIT = "/etc/systemd/system/luksctl-kms.service"
PASSPHRASE = b"a passphrase for tests"
CREDENTIAL = "/etc/luksctl/luksctl-kms.passphrase.cred"
# Users that exist while their service runs (systemd.exec(5), DynamicUser=).
DYNAMIC_USERS = range(61184, 65520)
NODE = "4d61726b-6572-2d55-5549-442d31663963"
SHORT_HASH = "c351ccab"

# A node: seals what it is given or unseals it, and prints what comes back, or the status.
CLIENT = f"""
import sys
sys.path.insert(0, "/opt/luksctl")
import grpc
from luksctl.model.kms_wire import decode_response, encode_request
method, data = sys.argv[1], bytes.fromhex(sys.argv[2])
with open("{DIRECTORY}/self-signed.crt", "rb") as file:
    credentials = grpc.ssl_channel_credentials(file.read())
with grpc.secure_channel("127.0.0.1:4050", credentials) as channel:
    call = channel.unary_unary("/sidero.kms.KMSService/" + method, None, None)
    try:
        print(bytes(decode_response(call(encode_request("{NODE}", data), timeout=60, wait_for_ready=True))).hex())
    except grpc.RpcError as error:
        print(error.code().name)
"""


def made() -> dict[str, bytes]:
    """Return the files of `luksctl kms init`, with a passphrase that costs an emulated processor nothing."""
    with tempfile.TemporaryDirectory() as directory, Secret.take(PASSPHRASE) as passphrase:
        Kms(Costs(memory_kib=8, time=1, lanes=1)).initialise(directory, passphrase)
        return {f"{DIRECTORY}/{file.name}": file.read_bytes() for file in Path(directory).iterdir()}


def asked(node: Machine, method: str, data: str) -> str:
    """Return what the KMS answers."""
    return node.check("python3", "-I", "-c", CLIENT, method, data).strip()


def test_the_service_serves_as_nobody_and_comes_back(machine: Callable[[MachineSpec], Machine]) -> None:
    """Sealed under a passphrase that systemd keeps; rotated, reloaded and killed: what was sealed unseals."""
    node = machine(MachineSpec(memory_mib=768))
    node.start()
    for path, content in made().items():
        node.check("mkdir", "-p", "-m", "700", DIRECTORY)
        node.check("sh", "-c", f"umask 077; cat >{path}", stdin=content)
    encrypt = f"mkdir -p /etc/luksctl && systemd-creds encrypt --name=luksctl-kms.passphrase - {CREDENTIAL}"
    node.check("sh", "-c", encrypt, stdin=PASSPHRASE)
    node.check(
        "sh", "-c", f"luksctl kms unit --command /usr/bin/luksctl -- --workers 2 --listen 127.0.0.1:4050 >{UNIT}"
    )
    node.check("systemctl", "daemon-reload")
    node.check("systemctl", "start", "luksctl-kms.service")

    files = [DIRECTORY, f"{DIRECTORY}/nodes.db", f"{DIRECTORY}/audit.log"]
    owned = node.check("stat", "-L", "-c", "%u %a", *files).split()
    assert all(int(user) in DYNAMIC_USERS for user in owned[::2])
    assert owned[1::2] == ["700", "600", "600"]
    assert asked(node, "Seal", "aa" * 32) == "PERMISSION_DENIED"
    node.check("sh", "-c", f"until luksctl kms node list | grep -q {SHORT_HASH}; do sleep 1; done")
    node.check("luksctl", "kms", "node", "allow", SHORT_HASH)
    sealed = asked(node, "Seal", "aa" * 32)
    assert asked(node, "Unseal", sealed) == "aa" * 32

    rotate = f"luksctl kms key rotate --passphrase-fd 0 --key {DIRECTORY}/master.key"
    # With the usual costs, which an emulated processor feels; the file stays that of the service, which reads it anew.
    node.check("sh", "-c", rotate, stdin=PASSPHRASE, timeout_s=600)
    assert int(node.check("stat", "-L", "-c", "%u", f"{DIRECTORY}/master.key")) in DYNAMIC_USERS
    node.check("systemctl", "reload", "luksctl-kms.service")
    node.wait_until("journalctl -u luksctl-kms.service | grep -q 'master key was read again'", timeout_s=600)
    assert asked(node, "Unseal", sealed) == "aa" * 32
    assert asked(node, "Seal", "aa" * 32)[:10] == "0100000002"

    node.check("systemctl", "kill", "--kill-whom=main", "-s", "KILL", "luksctl-kms.service")
    node.check("sh", "-c", "until systemctl is-active luksctl-kms.service; do sleep 1; done", timeout_s=600)
    assert asked(node, "Unseal", sealed) == "aa" * 32
    ready = node.check(
        "python3", "-c", "import urllib.request as r; print(r.urlopen('http://127.0.0.1:4051/readyz').read())"
    )
    assert json.loads(ready.strip()[2:-1])["workers"] == 2

    node.check("systemctl", "stop", "luksctl-kms.service")
    journal = node.check("journalctl", "-u", "luksctl-kms.service", "-o", "cat")
    assert "stopped" in journal
    log = node.check("cat", f"{DIRECTORY}/audit.log")
    assert [json.loads(line)["outcome"] for line in log.splitlines()] == ["unknown", *["ok"] * 5]
    assert NODE not in journal + log
