"""What a robot is sent in place of actions: while none can be, or a person asked for a stop.

`Fallback` holds the last command, then ramps to the safe command; `Interlock` is the stop that
latches, and the pause.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dql_core.errors import DqlError


@dataclass(frozen=True)
class FallbackRules:
    """The steps of the way to the safe command.

    Attributes:
        safe_command: Where it ends, length A.
        hold_ns: The last command is kept for so long from the first withheld action on.
        ramp_ns: It then goes to the safe command in a straight line within so long.
        give_up_after_ns: After so long without an action the robot is given up; ``None``: never.
        patience_ns: The way begins when it is asked for, unless the last action is longer ago;
            then it has begun with that action, as after a suspension of the process.
    """

    safe_command: Sequence[float]
    hold_ns: int = 0
    ramp_ns: int = 0
    give_up_after_ns: int | None = None
    patience_ns: int | None = None


class Fallback:
    """Goes the way to the safe command once an action is withheld.

    Attributes:
        safe_command: Where it ends, shape (A,).
        given_up: Whether it has gone on for too long.
    """

    def __init__(self, rules: FallbackRules) -> None:
        self.safe_command = np.array(rules.safe_command, dtype=np.float32)
        self.given_up = False
        self._rules = rules
        self._since_ns: int | None = None
        self._last_action_ns: int | None = None
        self._from = self.safe_command
        self._skips_hold = False
        self._is_at_end = False

    def command(
        self, now_ns: int, last_sent: NDArray[np.float32], *, skip_hold: bool = False
    ) -> NDArray[np.float32]:
        """Return what is to be sent, shape (A,).

        Args:
            now_ns: Now.
            last_sent: The last command sent, shape (A,), from which the way begins.
            skip_hold: Begin the ramp at once; counts where the way begins.
        """
        if self._since_ns is None:
            self._since_ns = self._begin_ns(now_ns)
            self._from, self._skips_hold = last_sent, skip_hold
        elapsed_ns = now_ns - self._since_ns
        # The way is gone once, also where a clock jumps back and passes its time again.
        self._is_at_end |= elapsed_ns < 0
        share = 1.0 if self._is_at_end else self._share(elapsed_ns)
        self._is_at_end |= share == 1.0
        limit_ns = self._rules.give_up_after_ns
        self.given_up |= limit_ns is not None and elapsed_ns >= limit_ns
        if share == 1.0:
            return self.safe_command.copy()
        way = self.safe_command.astype(np.float64) - self._from
        return (self._from + share * way).astype(np.float32)

    def end(self, now_ns: int | None = None) -> None:
        """Note that an action was sent at ``now_ns``, or that all begins anew."""
        self._last_action_ns = now_ns
        self._since_ns = None
        self._is_at_end = False
        self.given_up = False

    def _begin_ns(self, now_ns: int) -> int:
        last_ns, patience_ns = self._last_action_ns, self._rules.patience_ns
        if last_ns is None or patience_ns is None or now_ns - last_ns <= patience_ns:
            return now_ns
        return last_ns

    def _share(self, elapsed_ns: int) -> float:
        """How much of the way from the held to the safe command is gone, in [0, 1]."""
        hold_ns = 0 if self._skips_hold else self._rules.hold_ns
        if elapsed_ns < hold_ns:
            return 0.0
        ramp_ns = self._rules.ramp_ns
        return min(1.0, (elapsed_ns - hold_ns) / ramp_ns) if ramp_ns else 1.0


class StillStoppedError(DqlError):
    """A stop was to be reset while its cause is still there."""


class Interlock:
    """Remembers that a stop was asked for until it is reset by hand, and whether there is a pause.

    All of it may be called from any thread.

    Attributes:
        stopped: Whether a stop was asked for and not reset.
        paused: Whether there is a pause.
        stops: How many stops there were, also such as are reset again.
    """

    def __init__(self) -> None:
        self.stopped = False
        self.paused = False
        self.stops = 0
        self._lock = threading.Lock()
        self._is_pressed = False

    def set_button(self, pressed: bool) -> bool:
        """Note whether the stop button is pressed; return whether this begins a stop.

        Args:
            pressed: Whether it is pressed. That it is released resets nothing.
        """
        with self._lock:
            self._is_pressed = pressed
            begins = pressed and not self.stopped
            self.stopped |= pressed
            self.stops += begins
        return begins

    def reset(self) -> bool:
        """End the stop; return whether there was one.

        Raises:
            StillStoppedError: If the button is still pressed.
        """
        with self._lock:
            if self._is_pressed:
                raise StillStoppedError("still stopped: release the stop first, then reset it")
            was_stopped, self.stopped = self.stopped, False
        return was_stopped
