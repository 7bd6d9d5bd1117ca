"""What the robot was commanded in the last control periods, live, as a part of the observation.

The counterpart of `dql_ros/convert/columns.py`, whose `TimedColumn` answers the same for a
recording, by the same rules.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right

import numpy as np
from numpy.typing import NDArray

from dql_ros.contract import ActionStream, Contract, parts


class PreviousActions:
    """The commands of the last control periods, newest first; see `dql_core.streams.Previous`.

    Args:
        contract: Says how many periods, and by which rule each action stream's command is theirs.
    """

    def __init__(self, contract: Contract) -> None:
        self._streams, self._count = contract.action, contract.previous_action
        self._period_ns = contract.period_ns
        self._low, self._high = contract.previous_bounds
        self._times: list[list[int]] = [[] for _ in self._streams]
        # Of each command when it was sent, and what it was.
        self._commands: list[list[tuple[int, NDArray[np.float64] | None]]]
        self._commands = [[] for _ in self._streams]

    def begin(self, now_ns: int) -> None:
        """Forget the commands of before ``now_ns``, and those of another clock."""
        for times, commands in zip(self._times, self._commands, strict=True):
            end = bisect_left(times, now_ns + self._period_ns)
            del times[end:], commands[end:]
            end = bisect_left(times, now_ns)
            del times[:end], commands[:end]

    def push(
        self, stream: int, time_ns: int, value: NDArray[np.float64] | None, shift_ns: int = 0
    ) -> None:
        """Add a command.

        Args:
            stream: Place of its stream among those of the action.
            time_ns: When it was sent.
            value: The command, shape (width,); ``None`` says that none is in force.
            shift_ns: How much later it counts as sent where its period is looked for.
        """
        index = bisect_right(self._times[stream], time_ns + shift_ns)
        self._times[stream].insert(index, time_ns + shift_ns)
        self._commands[stream].insert(index, (time_ns, value))

    def sent(self, tick_ns: int, command: NDArray[np.floating], *, is_exact: bool) -> None:
        """Add the whole command, shape (A,), that the robot was sent for a tick.

        Args:
            tick_ns: The tick.
            command: The command.
            is_exact: Whether ticks are exact; otherwise one may be off by half a period.
        """
        slack_ns = 0 if is_exact else self._period_ns // 2
        for index, (stream, part) in enumerate(
            zip(self._streams, parts(self._streams), strict=True)
        ):
            shift_ns = slack_ns if stream.command == "first" else -slack_ns
            self.push(index, tick_ns, command[part].astype(np.float64), shift_ns)

    def at(self, now_ns: int) -> tuple[NDArray[np.float64] | None, int]:
        """Return what is known at ``now_ns``; later calls must not go back in time.

        Returns:
            The commands, shape (count * A,), and 0; or ``None`` where none was in force in a
            period, and how long ago the newest such period began.
        """
        found: list[NDArray[np.float64]] = []
        for ago in range(1, self._count + 1):
            start_ns = now_ns - ago * self._period_ns
            for index, stream in enumerate(self._streams):
                value = self._in_force(index, stream, start_ns)
                if value is None:
                    return None, ago * self._period_ns
                found.append(value)
        self._forget_before(now_ns - self._count * self._period_ns)
        return np.clip(np.concatenate(found), self._low, self._high), 0

    def _in_force(
        self, index: int, stream: ActionStream, start_ns: int
    ) -> NDArray[np.float64] | None:
        """The command of the period that begins at ``start_ns``."""
        times, commands = self._times[index], self._commands[index]
        held = bisect_right(times, start_ns) - 1
        if stream.command == "first":
            first = bisect_left(times, start_ns)
            if first < len(times) and times[first] < start_ns + self._period_ns:
                return commands[first][1]
            held = first - 1
        if held < 0 or start_ns - commands[held][0] > stream.max_age_ns:
            return None
        return commands[held][1]

    def _forget_before(self, time_ns: int) -> None:
        for times, commands in zip(self._times, self._commands, strict=True):
            count = bisect_left(times, time_ns) - 1
            if count > 0:
                del times[:count], commands[:count]
