"""Lost messages of a topic, counted from the numbers that its publishers give them."""

from __future__ import annotations

# Publishers that have gone cannot be told from silent ones; more than so many are not followed.
_MAX_FOLLOWED = 64


class SequenceNumbers:
    """Follows the ascending numbers of a topic's publishers.

    A message does not tell which of several publishers has sent it, but mistaking them for each
    other does not change the sum: what is lost is what the highest numbers exceed the lowest ones
    by, less what was received.

    Args:
        from_start: Whether no publisher had sent anything before it could have been received, so
            that what its first message's number exceeds 1 by was lost as well.

    Attributes:
        received: Messages that were received, each once.
        lost: Messages that were not received, although an earlier and a later one were.
    """

    def __init__(self, *, from_start: bool = False) -> None:
        self._from_start = from_start
        self.received = 0
        self.lost = 0
        # Number and time of the last message of each publisher.
        self._last: list[tuple[int, int]] = []

    def note(self, number: int | None, source_ns: int, publishers: int = 1) -> bool:
        """Count a message.

        Args:
            number: Its publisher's number for it; ``None`` if the middleware gives none.
            source_ns: When it was sent.
            publishers: How many publishers the topic has now.

        Returns:
            Whether it is new; one that a latching publisher sends again is not.
        """
        if number is None:
            self.received += 1
            return True
        if (number, source_ns) in self._last:
            return False
        self.received += 1
        below = [index for index, (last, _) in enumerate(self._last) if last < number]
        nearest = max(below, key=lambda index: self._last[index][0], default=None)
        gap = 0 if nearest is None else number - self._last[nearest][0] - 1
        if nearest is None or (gap and len(self._last) < publishers):
            self.lost += number - 1 if self._from_start else 0
            self._last = [*self._last[-_MAX_FOLLOWED + 1 :], (number, source_ns)]
        else:
            self._last[nearest] = (number, source_ns)
            self.lost += gap
        return True
