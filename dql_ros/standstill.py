"""Notices a clock that stands still, as a simulated one does when its simulator has died."""

from __future__ import annotations

# A slow simulator may take so long from one tick of its clock to the next.
GRACE_NS = 1_000_000_000


class Standstill:
    """Tells by how much a clock has fallen behind since it stopped.

    What is known of a robot grows old in any case. Where the clock that tells its age stands
    still, the steady clock goes on in its place.
    """

    def __init__(self) -> None:
        """Begin with a clock that has not been read."""
        self._now_ns: int | None = None
        self._moved_ns = 0

    def behind_ns(self, now_ns: int, steady_ns: int) -> int:
        """Return how long the clock has stood still beyond what may be; 0 while it goes.

        Args:
            now_ns: What the clock tells.
            steady_ns: What the steady clock tells.
        """
        if now_ns != self._now_ns:
            self._now_ns, self._moved_ns = now_ns, steady_ns
        return max(0, steady_ns - self._moved_ns - GRACE_NS)
