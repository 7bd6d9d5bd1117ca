"""How far a policy in shadow mode is from whoever drives the robot; knows no ROS.

At each tick the policy's action is compared, field by field, with the command that is in force as
the tick begins: the newest one heard by then, if that was no longer ago than the ``max_age_s`` of
the contract's action stream. So nothing is compared with what came after the tick, unlike in a
conversion with ``command: first``, for which the action of a tick is the next command.
"""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dql_core.errors import MAX_LINE, ContractError, visible
from dql_core.runtime.difference import difference, mean_difference
from dql_core.streams import SECOND_NS
from dql_ros.codecs import CommandEndedError, StreamDecoder
from dql_ros.codecs.message_path import AbsentError
from dql_ros.contract import Contract, parts

_WINDOW = 1000  # ticks


@dataclass
class Heard:
    """What was heard of one action stream.

    Attributes:
        decoded: How many commands were read.
        refused: How many messages could not be read, or are no numbers.
        refusal: Why the newest was refused; empty if it was not.
        value: The newest command, shape (width,); ``None`` before the first, after one that was
            refused and after one that ends the command.
        at_ns: When the newest message was heard, on the steady clock; ``None`` before the first.
    """

    decoded: int = 0
    refused: int = 0
    refusal: str = ""
    value: NDArray[np.float64] | None = None
    at_ns: int | None = None


class LiveAgreement:
    """Hears commands on one thread, compares on another, and is asked for figures on any.

    Attributes:
        heard: What was heard of each action stream, by topic.
    """

    def __init__(self, contract: Contract, real_time_factor: float = 1.0) -> None:
        """Prepare for the action streams of ``contract``.

        Args:
            contract: The robot contract, whose decoder reads the commands as a conversion does.
            real_time_factor: Simulated over wall seconds; 1 for a robot.
        """
        self.heard = {stream.key: Heard() for stream in contract.action}
        self._factor = real_time_factor
        self._streams = {stream.key: stream for stream in contract.action}
        self._decoders = {key: StreamDecoder(stream) for key, stream in self._streams.items()}
        self._columns = dict(zip(self._streams, parts(contract.action), strict=True))
        self._fields = [spec for stream in contract.action for spec in stream.specs]
        self._lock = threading.Lock()
        self.clear()

    def clear(self) -> None:
        """Forget what was compared, as when a node is activated; what was heard stays."""
        with self._lock:
            self._compared: deque[NDArray[np.float64]] = deque(maxlen=_WINDOW)

    def receive(self, topic: str, message: Any, steady_ns: int) -> None:
        """Hear a command of whoever drives.

        A message that has not got what the contract selects counts as if it had not come, where
        the contract allows that.

        Args:
            topic: Key of its stream.
            message: Of the stream's type.
            steady_ns: Now, on the steady clock.

        Raises:
            ContractError: If it lacks what the contract names, or has a number that is none.
        """
        stream, heard = self._streams[topic], self.heard[topic]
        value: NDArray[np.float64] | None = None
        refusal = ""
        try:
            value = self._decoders[topic](message)
            if not np.isfinite(value).all():
                refusal = f"{topic}: a command of {value.tolist()} is no command"
        except CommandEndedError:
            pass
        except ContractError as error:
            if isinstance(error, AbsentError) and stream.skips_absent:
                return
            refusal = visible(str(error))[:MAX_LINE]
        with self._lock:
            heard.value, heard.at_ns, heard.refusal = value, steady_ns, refusal
            if refusal:
                heard.value, heard.refused = None, heard.refused + 1
            else:
                heard.decoded += value is not None
        if refusal:
            raise ContractError(refusal)

    def in_force(self, steady_ns: int) -> NDArray[np.float64]:
        """The command in force at a tick that begins now, shape (A,); NaN where there is none.

        Args:
            steady_ns: Now, on the steady clock.
        """
        command = np.full(len(self._fields), np.nan)
        with self._lock:
            for key, columns in self._columns.items():
                heard = self.heard[key]
                if heard.value is not None and self._is_fresh(key, steady_ns):
                    command[columns] = heard.value
        return command

    def compare(self, in_force: NDArray[np.float64], action: NDArray[np.float32] | None) -> None:
        """Take note of a tick.

        Args:
            in_force: What `in_force` said as it began, shape (A,).
            action: What the policy would have sent, shape (A,); ``None`` if it did not act.
        """
        ours = np.full(len(self._fields), np.nan) if action is None else action
        with self._lock:
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

    def silence(self, steady_ns: int) -> str:
        """Where there is nothing to compare with now, as a clause; empty if nowhere.

        Args:
            steady_ns: Now, on the steady clock.
        """
        with self._lock:
            silent_ns = {
                key: None if heard.at_ns is None else self._age_ns(heard.at_ns, steady_ns)
                for key, heard in self.heard.items()
                if not self._is_fresh(key, steady_ns)
            }
        never = ", ".join(f"'{key}'" for key, age_ns in silent_ns.items() if age_ns is None)
        clauses = [
            *([f"no command was heard on {never}: nothing to compare with"] if never else []),
            *(
                f"no command was heard on '{key}' for {age_ns / SECOND_NS:.1f} s"
                for key, age_ns in silent_ns.items()
                if age_ns is not None
            ),
        ]
        return "; ".join(clauses)

    def refusals(self) -> list[str]:
        """Why the newest messages were refused, a clause each."""
        with self._lock:
            return [
                f"a command that was heard is not compared: {heard.refusal}"
                for heard in self.heard.values()
                if heard.refusal
            ]

    def _is_fresh(self, key: str, steady_ns: int) -> bool:
        at_ns = self.heard[key].at_ns
        limit_ns = self._streams[key].max_age_ns
        return at_ns is not None and self._age_ns(at_ns, steady_ns) <= limit_ns

    def _age_ns(self, at_ns: int, steady_ns: int) -> int:
        return round((steady_ns - at_ns) * self._factor)
