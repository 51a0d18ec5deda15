"""Stands in the place of the kms provider where there is no network yet: in what a boot does before local-fs.target."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from luksctl.errors import KmsReason, KmsUnavailable
from luksctl.hints import NoReturn, final
from luksctl.model.config import ConfiguredKey
from luksctl.model.ports import MadeKey
from luksctl.secret import Secret


@final
class KmsLater:
    """Asks nobody: both methods raise KmsUnavailable, NETWORK_LATER; `missed` is called with the volume before that."""

    def __init__(self, missed: Callable[[str], None]) -> None:
        self._missed = missed

    def make(self, volume: str, key: ConfiguredKey) -> MadeKey:
        """Raise KmsUnavailable."""
        self._postpone(volume, key)

    def recover(self, volume: str, key: ConfiguredKey, token: str | None) -> Iterator[Secret]:
        """Raise KmsUnavailable; TokenInvalid where no KMS could help either."""
        from luksctl.providers.kms_token import read_token  # noqa: PLC0415  # seldom needed, and a start is timed

        read_token(token)
        self._postpone(volume, key)

    def explain_rejection(self, volume: str, key: ConfiguredKey) -> str | None:  # noqa: ARG002
        """Return None: nobody was asked."""
        return None

    def _postpone(self, volume: str, key: ConfiguredKey) -> NoReturn:
        self._missed(volume)
        error = KmsUnavailable(
            "the KMS is asked once the network is up",
            reason=KmsReason.NETWORK_LATER,
            hint=f"systemctl status luksctl-network@{volume}",
        )
        error.volume, error.slot = volume, key.slot
        raise error
