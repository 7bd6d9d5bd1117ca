"""The commands that others send, and flags that people raise, as they are heard; knows no ROS."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dql_core.errors import MAX_LINE, ContractError, visible
from dql_core.streams import SECOND_NS
from dql_ros.codecs import CommandEndedError, StreamDecoder
from dql_ros.codecs.field_values import kind_of, number_of
from dql_ros.codecs.message_path import AbsentError, MessagePath, with_remedy
from dql_ros.contract import ActionStream, FlagStream, matches, parts


@dataclass
class Heard:
    """What was heard of one action stream.

    Attributes:
        decoded: How many commands were read.
        refused: How many messages could not be read, or are no numbers.
        refusal: Why the newest was refused; empty if it was not.
        value: The newest command, shape (width,); ``None`` before the first, after one that was
            refused and after one that ends the command.
        at_ns: When the newest message was heard, on the clock of `HeardCommands.receive`; ``None``
            before the first.
    """

    decoded: int = 0
    refused: int = 0
    refusal: str = ""
    value: NDArray[np.float64] | None = None
    at_ns: int | None = None


class HeardCommands:
    """Hears commands on one thread, and is asked on any.

    Args:
        streams: Where the commands are heard, with their ``max_age_s``; they are decoded as a
            conversion does it.
        complaint: What is said of a message that is refused, before the reason.
        real_time_factor: Simulated seconds over those of the clock; 1 for a robot.

    Attributes:
        complaint: As given.
        heard: What was heard of each stream, by topic.
    """

    def __init__(
        self, streams: Sequence[ActionStream], complaint: str, real_time_factor: float = 1.0
    ) -> None:
        self.complaint = complaint
        self.heard = {stream.key: Heard() for stream in streams}
        self._factor = real_time_factor
        self._streams = {stream.key: stream for stream in streams}
        self._decoders = {key: StreamDecoder(stream) for key, stream in self._streams.items()}
        self._columns = dict(zip(self._streams, parts(streams), strict=True))
        self._fields = [spec for stream in streams for spec in stream.specs]
        self._lock = threading.Lock()

    def receive(self, topic: str, message: Any, now_ns: int) -> None:
        """Hear a command.

        A message that has not got what the contract selects counts as if it had not come, where
        the contract allows that.

        Args:
            topic: Key of its stream.
            message: Of the stream's type.
            now_ns: Now, on a clock that always goes on.

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
            heard.value, heard.at_ns, heard.refusal = value, now_ns, refusal
            if refusal:
                heard.value, heard.refused = None, heard.refused + 1
            else:
                heard.decoded += value is not None
        if refusal:
            raise ContractError(refusal)

    def in_force(self, now_ns: int) -> NDArray[np.float64]:
        """The command in force now, shape (A,); NaN where there is none.

        Args:
            now_ns: As for `receive`.
        """
        command = np.full(len(self._fields), np.nan)
        with self._lock:
            for key, columns in self._columns.items():
                heard = self.heard[key]
                if heard.value is not None and self._is_fresh(key, now_ns):
                    command[columns] = heard.value
        return command

    def silence(self, now_ns: int, if_never: str = "") -> str:
        """Where no command was heard lately, as a clause; empty if nowhere.

        Args:
            now_ns: As for `receive`.
            if_never: What is said after those on which none ever was.
        """
        with self._lock:
            silent_ns = {
                key: None if heard.at_ns is None else self._age_ns(heard.at_ns, now_ns)
                for key, heard in self.heard.items()
                if not self._is_fresh(key, now_ns)
            }
        never = ", ".join(f"'{key}'" for key, age_ns in silent_ns.items() if age_ns is None)
        clauses = [
            *([f"no command was heard on {never}{if_never}"] if never else []),
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
                f"{self.complaint}: {heard.refusal}"
                for heard in self.heard.values()
                if heard.refusal
            ]

    def _is_fresh(self, key: str, now_ns: int) -> bool:
        at_ns = self.heard[key].at_ns
        limit_ns = self._streams[key].max_age_ns
        return at_ns is not None and self._age_ns(at_ns, now_ns) <= limit_ns

    def _age_ns(self, at_ns: int, now_ns: int) -> int:
        return round((now_ns - at_ns) * self._factor)


class HeardFlag:
    """A flag that a person raises, such as a switch or a button.

    Attributes:
        is_raised: Whether the newest message that could be read raises it.
        refusal: Why the newest message cannot be read; empty if it can.

    Args:
        rule: What the contract says of it.
        key: The contract's key, for messages.
    """

    def __init__(self, rule: FlagStream, key: str) -> None:
        self.is_raised = False
        self.refusal = ""
        self._rule, self._key = rule, key
        self._path = MessagePath(rule.path, rule.topic)

    def receive(self, message: Any) -> bool:
        """Hear a message, and say whether it raises what was not raised before.

        One that cannot be read changes nothing, and neither does one that has nothing at the path
        where the contract allows that.

        Raises:
            ContractError: If it cannot be read.
        """
        rule = self._rule
        try:
            found = self._path.get(message)
            number = number_of(found)
            is_finite = number is not None and np.isfinite(number)
            if not (is_finite or isinstance(found, str)):
                what = kind_of(found) if number is None else str(number)
                raise ContractError(
                    f"{rule.topic}: '{rule.path}' is {what}, no flag; correct 'path' of the "
                    f"contract's {self._key}"
                )
        except ContractError as error:
            if isinstance(error, AbsentError) and rule.skips_absent:
                return False
            self.refusal = visible(with_remedy(error))[:MAX_LINE]
            raise ContractError(self.refusal) from error
        was_raised, self.is_raised = self.is_raised, matches(found, rule.equals)
        self.refusal = ""
        return self.is_raised and not was_raised
