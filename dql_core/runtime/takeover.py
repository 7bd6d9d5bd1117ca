"""A person takes over from the policy and hands back: who commands at a tick, and the way back.

Source: interventions as of HG-DAgger (Kelly et al. 2019, arXiv 1810.02890): the person gates, the
policy yields. Knows neither ROS nor the clock.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import numpy as np
from numpy.typing import NDArray


class Commander(Enum):
    """Whose command the robot is to be sent.

    NOBODY's: a person has the switch and says nothing, so that the robot gets the fallback.
    """

    POLICY = "policy"
    PERSON = "person"
    NOBODY = "nobody"


@dataclass(frozen=True)
class Person:
    """What a person wants at a tick.

    Attributes:
        commander: Who commands.
        command: The person's newest command, shape (A,), finite; ``None`` unless the person
            commands.
        silence: Why there is none although the person has the switch, as a clause; else empty.
    """

    commander: Commander
    command: NDArray[np.float64] | None = None
    silence: str = ""


def who_commands(switch: bool | None, *, speaks: bool, silence_hands_back: bool) -> Commander:
    """Return who commands.

    Args:
        switch: Whether the person's switch is on; ``None`` where there is no switch, so that
            whoever speaks commands.
        speaks: Whether the person's newest command is young enough.
        silence_hands_back: Whether the policy goes on where the switch is on and nothing is said.
    """
    if switch is False:
        return Commander.POLICY
    if speaks:
        return Commander.PERSON
    return Commander.POLICY if switch is None or silence_hands_back else Commander.NOBODY


class HandBack:
    """The ramp from what was sent last to the policy's actions, once the person has handed back.

    It begins with the policy's first action and sends what was sent last once more; from
    ``ramp_ns`` after that on, the policy's actions are sent as they are. Between the two lies, at
    each tick, the point on the straight line between them that the time says. Where the robot was
    sent something else meanwhile, the line begins anew from that and ends at the same time.

    Args:
        ramp_ns: How long it takes, in nanoseconds; 0: no ramp.
    """

    def __init__(self, ramp_ns: int) -> None:
        self._ramp_ns = ramp_ns
        self.cancel()

    def cancel(self) -> None:
        """Let the policy's actions through."""
        self._is_due = False
        self._end_ns: int | None = None
        self._from: tuple[int, NDArray[np.float32]] | None = None

    def prepare(self) -> None:
        """Note that the policy does not command."""
        self.cancel()
        self._is_due = True

    def interrupt(self) -> None:
        """Note that the robot was sent something else than a command of either."""
        self._from = None

    @property
    def is_due(self) -> bool:
        """Whether it has not ended, or is to begin."""
        return self._is_due

    def toward(
        self, now_ns: int, action: NDArray[np.float32], last_sent: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """Return what to send in place of an action of the policy.

        Args:
            now_ns: Now; on any clock.
            action: Shape (A,).
            last_sent: What was sent last, shape (A,).
        """
        if not self._is_due:
            return action
        if self._end_ns is None:
            self._end_ns = now_ns + self._ramp_ns
        if self._from is None:
            self._from = now_ns, last_sent
        begun_ns, start = self._from
        elapsed_ns = now_ns - begun_ns
        # Where the clock was set back, the way is over, as the fallback's is.
        if not 0 <= elapsed_ns < self._end_ns - begun_ns:
            self.cancel()
            return action
        share = elapsed_ns / (self._end_ns - begun_ns)
        way = action.astype(np.float64) - start
        return (start + share * way).astype(np.float32)
