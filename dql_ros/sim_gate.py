"""Whether the simulation may step: pause, single steps and resets, as its services ask."""

from __future__ import annotations

# A reset ends the running episode with one step and begins the next with another.
_STEPS_OF_RESET = 2


class StepGate:
    """Keeps what people have asked of a simulation.

    Attributes:
        paused: Whether it stands still but for steps that are asked for.
        reset_requested: Whether the next step ends the episode.
    """

    def __init__(self) -> None:
        self.paused = False
        self.reset_requested = False
        self._allowed = 0

    @property
    def is_open(self) -> bool:
        """Whether the simulation may step."""
        return not self.paused or self._allowed > 0

    def pause(self, paused: bool) -> None:
        """Pause, or go on."""
        self.paused = paused
        self._allowed = 0

    def allow(self, steps: int) -> None:
        """Allow so many more steps while paused."""
        self._allowed += steps

    def request_reset(self) -> None:
        """End the episode with the next step and begin another, also while paused."""
        self.reset_requested = True
        self._allowed = max(self._allowed, _STEPS_OF_RESET)

    def pass_through(self) -> bool:
        """Take a step; return whether it is to end the episode."""
        self._allowed = max(0, self._allowed - 1)
        reset, self.reset_requested = self.reset_requested, False
        return reset
