"""Answer the host's requests, one JSON object a line, over the virtio-serial port named "rig".

Runs inside the guest on Debian's own Python, started by rig-agent.service; imports nothing but the standard library.
Each request gets a thread, so a long command does not block the next question. Bytes travel as base64.
"""

import base64
import contextlib
import fcntl
import json
import os
import struct
import subprocess
import threading
import time

TYPE_CHECKING = False
if TYPE_CHECKING:  # typing is slow to import in an emulated guest
    from collections.abc import Callable
    from typing import Any

    Message = dict[str, Any]

PORTS = "/sys/class/virtio-ports"
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
RNDADDENTROPY = 0x40085203
RNDRESEEDCRNG = 0x5207


def find_port() -> str:
    """Return the path of the port's device node once the kernel shows it; udev is not needed for it."""
    while True:
        with contextlib.suppress(OSError):
            for name in os.listdir(PORTS):
                if port_name(name) == "rig":
                    return f"/dev/{name}"
        time.sleep(0.05)


def port_name(device: str) -> str:
    """Return what the host calls a port."""
    with open(f"{PORTS}/{device}/name") as file:
        return file.read().strip()


class Agent:
    """Hold the open port and the lock that keeps lines whole."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.lock = threading.Lock()

    def send(self, message: "Message") -> None:
        """Send one object, a line of its own whatever was cut off before it."""
        data = b"\n" + json.dumps(message).encode() + b"\n"
        with self.lock:
            while data:
                data = data[os.write(self.fd, data) :]

    def serve(self) -> None:
        """Say that the guest is ready, then answer for ever."""
        with open("/proc/sys/kernel/random/boot_id") as file:
            self.send({"ready": file.read().strip()})
        pending = b""
        while True:
            chunk = os.read(self.fd, 65536)
            if not chunk:  # the host has gone; it may come back
                time.sleep(0.1)
                continue
            *lines, pending = (pending + chunk).split(b"\n")
            for line in lines:
                if line.strip():
                    threading.Thread(target=self.answer, args=(json.loads(line),), daemon=True).start()

    def answer(self, request: "Message") -> None:
        """Do what one request asks for and send what came of it."""
        try:
            reply = OPERATIONS[request["op"]](request)
        except Exception as error:  # noqa: BLE001 - whatever it is, the host must hear of it
            reply = {"error": f"{type(error).__name__}: {error}"}
        self.send({"id": request["id"], **reply})


def run(request: "Message") -> "Message":
    """Run an argument list to its end, or kill its process group after the timeout."""
    process = subprocess.Popen(
        request["argv"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        cwd="/",
        env={"PATH": PATH, "LC_ALL": "C.UTF-8", "HOME": "/root"},
    )
    timed_out = False
    try:
        out, err = process.communicate(base64.b64decode(request.get("stdin", "")), timeout=request["timeout_s"])
    except subprocess.TimeoutExpired:
        timed_out = True
        os.killpg(process.pid, 9)
        out, err = process.communicate()
    return {"rc": process.returncode, "out": encoded(out), "err": encoded(err), "timed_out": timed_out}


def encoded(data: bytes) -> str:
    """Return bytes as JSON can carry them."""
    return base64.b64encode(data).decode()


def read_file(request: "Message") -> "Message":
    """Return a file's bytes."""
    with open(request["path"], "rb") as file:
        return {"content": encoded(file.read())}


def write_file(request: "Message") -> "Message":
    """Write a file's bytes and permission bits, its directories too, and flush them to the disk below."""
    os.makedirs(os.path.dirname(request["path"]), exist_ok=True)
    with open(request["path"], "wb") as file:
        file.write(base64.b64decode(request["content"]))
        os.fchmod(file.fileno(), request["mode"])
        file.flush()
        os.fsync(file.fileno())
    return {}


def ping(_request: "Message") -> "Message":
    """Show that the guest still schedules."""
    return {"uptime_s": time.monotonic()}


def mix(request: "Message") -> "Message":
    """Mix the host's randomness into the kernel's: guests restored from one snapshot must not share a seed."""
    seed = base64.b64decode(request["seed"])
    with open("/dev/urandom", "wb", buffering=0) as file:
        fcntl.ioctl(file, RNDADDENTROPY, struct.pack(f"ii{len(seed)}s", 8 * len(seed), len(seed), seed))
        fcntl.ioctl(file, RNDRESEEDCRNG)
    time.clock_settime(time.CLOCK_REALTIME, request["now_s"])
    return {}


OPERATIONS: "dict[str, Callable[[Message], Message]]" = {
    "run": run,
    "read_file": read_file,
    "write_file": write_file,
    "ping": ping,
    "mix": mix,
}

if __name__ == "__main__":
    Agent(os.open(find_port(), os.O_RDWR)).serve()
