"""What a boot pays for a tpm key, step by step, and beside systemd's own token; on a software TPM.

Processor time of this process alone: what a TPM itself needs is another on every board, and the same for both.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from luksctl.cryptsetup.headers import LuksHeaders
from luksctl.devices import medium
from luksctl.model.config import CHEAPEST_KDF, ConfiguredKey, TpmKey, VolumeEncryption
from luksctl.model.ports import HeaderFormat
from luksctl.model.probe import Device
from luksctl.providers.tpm_connection import TpmConnection
from luksctl.providers.tpm_device import Sealed, Tpm
from luksctl.providers.tpm_files import PUBLIC_KEY, SIGNATURE, PolicyFiles
from luksctl.providers.tpm_judge import proofs_to_unseal
from luksctl.providers.tpm_text import base64_text
from luksctl.providers.tpm_token import read_token
from luksctl.secret import Secret
from tests.bench.images import blank
from tests.bench.measure import BARE_START_MS, Figure, medians_ms, python
from tests.bench.systemd_token import SystemdVolume, systemd_volume
from tests.providers.measured_boot import IMAGE, Machine, boot, image_value, loaded_handles
from tests.providers.swtpm import Swtpm

UNLOCK_GOAL = 0.7
RECOVER_GOAL_MS = 20.0
IMPORT_GOAL_MS = 25.0
ROUNDS = 25
_SLOT = 4
_KEY = ConfiguredKey(_SLOT, TpmKey())
_UUID = "1b4e28ba-2fa1-41d2-883f-0016d3cca428"


@dataclass(frozen=True, slots=True)
class Volume:
    """A volume with one slot that the TPM of `machine` opens."""

    machine: Machine
    device: Device
    token: str

    def unlock(self) -> None:
        """Do what a boot does: the key from the TPM, then the slot."""
        with TpmConnection(self.machine.tpm.tcti) as connection:
            (key,) = self.machine.provider(connection).recover("STATE", _KEY, self.token)
            with key:
                self.test(key)

    def test(self, key: Secret) -> None:
        """Open the slot."""
        LuksHeaders(medium.read).test_key(self.device, _SLOT, key)


def importing(_: Path) -> Figure:
    """Measure the load of the TPM's library by itself, as a start where nothing else was loaded."""
    bare, package = "python -c pass", "import tpm2_pytss"
    ours = "from luksctl.providers.tpm_library import load_library; load_library()"
    taken = medians_ms({bare: python("-c", "pass"), ours: python("-c", ours), package: python("-c", package)})
    more = {what: (taken[what] - taken[bare]) * BARE_START_MS / taken[bare] for what in (ours, package)}
    unit = f"ms more, where {bare} takes {BARE_START_MS:.0f}"
    words = f"{package}: {more[package]:.0f}; paid only on nodes with tpm keys"
    return Figure("tpm: the compiled part of tpm2-pytss, loaded", more[ours], unit, words, IMPORT_GOAL_MS)


def steps(directory: Path) -> Figure:
    """Measure each step of getting a key from an open TPM: a signed PCR 11, and PCR 7."""
    whole = "all of it"
    with _volume(directory) as volume:
        with Tpm(volume.machine.tpm.tcti) as tpm:
            taken = _medians({name: _timed(step) for name, step in _steps_of(volume, tpm).items()})
        # A software TPM talks to one program at a time.
        taken |= _medians({"connect": _timed(lambda: _connect(volume)), whole: _timed(volume.unlock)})
    words = ", ".join(f"{name} {value:.1f}" for name, value in taken.items() if name != whole)
    return Figure("tpm: key and slot, step by step", taken[whole], "ms of processor time", words, RECOVER_GOAL_MS)


def unlocking(directory: Path) -> Figure:
    """Measure key and slot beside systemd's token plugin in libcryptsetup, on a volume as cryptsetup formats it."""
    with _volume(directory) as ours:
        peer = "systemd-tpm2 token, default digest"
        image, files = directory / "theirs", ours.machine.files.directory
        blank(image)
        with systemd_volume(image, ours.machine.tpm.tcti, files / PUBLIC_KEY, files / SIGNATURE) as theirs:
            taken = _medians({"ours": _timed(ours.unlock), peer: lambda: _swept(ours.machine.tpm, theirs)})
    words = f"ours: {taken['ours']:.1f} ms, {peer}: {taken[peer]:.1f} ms of processor time, without any start"
    return Figure("tpm: key and slot", taken["ours"] / taken[peer], f"x {peer}", words, UNLOCK_GOAL)


def _swept(tpm: Swtpm, theirs: SystemdVolume) -> float:
    """Open the volume; what systemd leaves in a TPM is for a resource manager to clear, and this TPM has none."""
    import tpm2_pytss  # type: ignore[import-untyped]  # noqa: PLC0415  # another figure is about its import

    handles = loaded_handles(tpm)
    with tpm2_pytss.ESAPI(tpm.tcti) as esys:
        for handle in handles:
            esys.flush_context(esys.tr_from_tpmpublic(handle))
    return theirs.unlock()


def _timed(action: Callable[[], object]) -> Callable[[], float]:
    """Return what runs `action` and returns the milliseconds of processor time that this process needed."""

    def run() -> float:
        begun = time.process_time()
        action()
        return (time.process_time() - begun) * 1000

    return run


def _medians(actions: Mapping[str, Callable[[], float]]) -> dict[str, float]:
    """Return the median of what each action returns, all taken in turn, after a round that is not counted."""
    taken = [{name: action() for name, action in actions.items()} for _ in range(ROUNDS + 1)][1:]
    return {name: median(values[name] for values in taken) for name in actions}


@contextmanager
def _volume(directory: Path) -> Iterator[Volume]:
    with Swtpm() as tpm:
        machine = Machine(tpm, directory)
        machine.files.sign(image_value(IMAGE))
        boot(tpm)
        device = blank(directory / "ours")
        headers = LuksHeaders(medium.read)
        how = HeaderFormat(_UUID, "", VolumeEncryption((_KEY,)), talos_readable=True)
        with TpmConnection(tpm.tcti) as connection, Secret.random(64) as volume_key:
            made = machine.provider(connection).make("STATE", _KEY)
            headers.format(device, how, volume_key)
            headers.add_keyslot(device, _SLOT, made.key, volume_key, CHEAPEST_KDF)
            made.key.close()
        assert made.token is not None
        yield Volume(machine, device, made.token)


def _connect(volume: Volume) -> None:
    with Tpm(volume.machine.tpm.tcti):
        return


def _steps_of(volume: Volume, tpm: Tpm) -> dict[str, Callable[[], object]]:
    """Return each step of what TpmProvider.recover does, and all of it; a step stands on those before it."""
    machine = volume.machine
    token = read_token(volume.token)
    files = PolicyFiles(directories=(str(machine.files.directory),))
    values = tpm.pcr_values(token.policy.pcrs)
    (proof,) = proofs_to_unseal(token.policy, token.policy_hash, files.read(), values, None)
    sealed = Sealed(token.private, token.public, token.srk_name)

    def unseal() -> None:
        tpm.unseal(sealed, token.policy, proof.approval).close()

    def slot() -> None:
        with tpm.unseal(sealed, token.policy, proof.approval) as content, base64_text(content) as key:
            volume.test(key)

    def measured() -> None:
        tpm.check_bank()
        tpm.pcr_values(token.policy.pcrs)

    return {
        "token and files": lambda: (read_token(volume.token), files.read()),
        "bank and PCRs": measured,
        "policy": lambda: proofs_to_unseal(token.policy, token.policy_hash, files.read(), values, None),
        "root key": tpm.srk_name,
        "root key, signature, policy and unseal": unseal,
        "the same and the slot": slot,
    }
