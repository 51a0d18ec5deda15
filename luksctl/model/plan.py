"""A plan: the steps that turn what is observed into what is desired, or the reason why none may be taken."""

from __future__ import annotations

from luksctl.errors import LuksctlError
from luksctl.model.destroys import Destroys
from luksctl.model.step import Step
from luksctl.value import frozen


@frozen
class Plan:
    """`steps` in order; `refusal` set means: no step, and this is why. `notes` are findings that block nothing."""

    volume: str
    steps: tuple[Step, ...] = ()
    refusal: LuksctlError | None = None
    notes: tuple[str, ...] = ()

    @property
    def destroys_data(self) -> bool:
        """Tell whether any step destroys data."""
        return any(step.destroys is Destroys.DATA for step in self.steps)

    @property
    def converged(self) -> bool:
        """Tell whether nothing is left to do."""
        return not self.steps and self.refusal is None
