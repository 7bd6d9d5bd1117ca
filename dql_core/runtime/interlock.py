"""The stop that latches and the pause: what people ask of a controller, from any thread."""

from __future__ import annotations

import threading

from dql_core.errors import DqlError


class StillStoppedError(DqlError):
    """A stop was to be reset while its cause is still there."""


class Interlock:
    """Remembers that a stop was asked for until it is reset by hand, and whether there is a pause.

    Attributes:
        stopped: Whether a stop was asked for and not reset.
        paused: Whether there is a pause.
        stops: How many stops there were, also such as are reset again.
    """

    def __init__(self) -> None:
        """Begin without stop and pause."""
        self.stopped = False
        self.paused = False
        self.stops = 0
        self._lock = threading.Lock()
        self._is_pressed = False

    def hear(self, pressed: bool) -> bool:
        """Take note of the stop button; say whether this is what stops.

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
        """End the stop; say whether there was one.

        Raises:
            StillStoppedError: If the button is still pressed.
        """
        with self._lock:
            if self._is_pressed:
                raise StillStoppedError("still stopped: release the stop first, then reset it")
            was_stopped, self.stopped = self.stopped, False
        return was_stopped
