"""How far a policy in shadow mode is from whoever drives the robot; knows no ROS.

At each tick the policy's action is compared, field by field, with the command that is in force as
the tick begins: the newest one heard by then, if that was no longer ago than the ``max_age_s`` of
the contract's action stream. So nothing is compared with what came after the tick, unlike in a
conversion with ``command: first``, for which the action of a tick is the next command. With a
``delay_s`` the policy's action is that of so many ticks before: it would be in force only now.
"""

from __future__ import annotations

from collections import deque

import numpy as np
from numpy.typing import NDArray

from dql_core.runtime.difference import difference, mean_difference
from dql_ros.contract import Contract
from dql_ros.control.heard import HeardCommands

_WINDOW = 1000  # ticks


class LiveAgreement(HeardCommands):
    """Hears commands on one thread, compares on another, and is asked for figures on any."""

    def __init__(self, contract: Contract, real_time_factor: float = 1.0) -> None:
        """Prepare for the action streams of ``contract``.

        Args:
            contract: The robot contract, whose decoder reads the commands as a conversion does.
            real_time_factor: Simulated over wall seconds; 1 for a robot.

        Raises:
            ContractError: If previous actions are observed that are not heard in time.
        """
        contract.require_known_past("shadow mode")
        complaint = "a command that was heard is not compared"
        super().__init__(contract.action, complaint, real_time_factor)
        period_ns = contract.period_ns
        delays = [round(stream.lookahead_ns / period_ns) for stream in contract.action]
        self._delays = list(zip(self._columns.values(), delays, strict=True))
        self.clear()

    def clear(self) -> None:
        """Forget what was compared, as when a node is activated; what was heard stays."""
        with self._lock:
            self._compared: deque[NDArray[np.float64]] = deque(maxlen=_WINDOW)
            ticks = max(delay for _, delay in self._delays) + 1
            self._actions: deque[NDArray[np.floating]] = deque(maxlen=ticks)

    def compare(self, in_force: NDArray[np.float64], action: NDArray[np.float32] | None) -> None:
        """Take note of a tick.

        Args:
            in_force: What `in_force` said as it began, shape (A,).
            action: What the policy would have sent, shape (A,); ``None`` if it did not act.
        """
        ours = np.full(len(self._fields), np.nan)
        with self._lock:
            self._actions.append(ours.copy() if action is None else action)
            for columns, delay in self._delays:
                if delay < len(self._actions):
                    ours[columns] = self._actions[-1 - delay][columns]
            self._compared.append(difference(ours, in_force))

    def figures(self) -> dict[str, str]:
        """Return figures of the last 1000 ticks, as the diagnostics show them."""
        with self._lock:
            rows = np.array(self._compared).reshape(-1, len(self._fields))
            counts = {key: (heard.decoded, heard.refused) for key, heard in self.heard.items()}
        figures: dict[str, str] = {}
        for key, columns in self._columns.items():
            found = mean_difference(rows[:, columns])
            share = 100 * found.count / len(rows) if len(rows) else 0.0
            decoded, refused = counts[key]
            figures |= {
                f"heard commands of {key}": str(decoded),
                f"refused commands of {key}": str(refused),
                f"ticks compared with {key} (%)": f"{share:.1f}",
            }
            for field, mean in zip(self._fields[columns], found.by_field, strict=True):
                name = f"mean difference of {field.name}" + f" ({field.unit})" * bool(field.unit)
                figures[name] = f"{mean:.4g}" if found.count else "nothing compared"
        return figures

    def silence(self, now_ns: int, if_never: str = ": nothing to compare with") -> str:
        """Where there is nothing to compare with now; see `HeardCommands.silence`."""
        return super().silence(now_ns, if_never)
