"""When a lockstep policy answers: once for each instant, whatever order messages come in."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

# A simulator that asks again sooner than this after an answer has only not read it yet.
REPEAT_AFTER_NS = 250_000_000


class Answer(Enum):
    """What to do about an arrival."""

    NOTHING = "nothing"
    ACT = "act"
    REPEAT = "repeat"


@dataclass(frozen=True)
class Reply:
    """What to do, and the simulated instant that it is for.

    Attributes:
        answer: What to do.
        stamp_ns: The tick's time in nanoseconds; the stamp that all streams have reached.
    """

    answer: Answer
    stamp_ns: int


class LockstepTrigger:
    """Turns arriving observations into ticks.

    A tick is due when every stream has reached a stamp that was not answered yet. A simulator that
    missed the answer sends the same stamps again; then the last command is sent again, so that it
    is never computed twice.
    """

    def __init__(self, streams: Iterable[str], repeat_after_ns: int = REPEAT_AFTER_NS) -> None:
        """Wait for all of ``streams``; repeat no answer younger than ``repeat_after_ns``."""
        self._newest_ns: dict[str, int | None] = dict.fromkeys(streams)
        self._repeat_after_ns = repeat_after_ns
        self._answered_stamp_ns: int | None = None
        self._answered_at_ns = 0

    def arrived(self, stream: str, stamp_ns: int, steady_ns: int) -> Reply:
        """Take note of a message.

        Args:
            stream: Name of its stream.
            stamp_ns: Its header's stamp in simulated nanoseconds.
            steady_ns: Now, on a clock of the process that always advances.
        """
        self._newest_ns[stream] = stamp_ns
        stamps = [stamp for stamp in self._newest_ns.values() if stamp is not None]
        if len(stamps) < len(self._newest_ns):
            return Reply(Answer.NOTHING, stamp_ns)
        reached_ns = min(stamps)
        if reached_ns != self._answered_stamp_ns:
            return Reply(Answer.ACT, reached_ns)
        asked_again = steady_ns - self._answered_at_ns >= self._repeat_after_ns
        # While the streams of a new instant come in, the slowest still shows the answered one.
        in_step = reached_ns == max(stamps)
        return Reply(Answer.REPEAT if asked_again and in_step else Answer.NOTHING, reached_ns)

    def answered(self, stamp_ns: int, steady_ns: int) -> None:
        """Take note that the command for ``stamp_ns`` went out at ``steady_ns``."""
        self._answered_stamp_ns = stamp_ns
        self._answered_at_ns = steady_ns

    def clear(self) -> None:
        """Forget everything, as before a new run."""
        self._newest_ns = dict.fromkeys(self._newest_ns)
        self._answered_stamp_ns = None
