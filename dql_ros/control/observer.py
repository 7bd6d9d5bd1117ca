"""From the robot's messages to what is known at a tick; knows no ROS."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dql_core.errors import MAX_LINE, ContractError, visible
from dql_core.streams import SECOND_NS, Observation, ObservationBuilder, StreamSpec
from dql_ros.codecs import StreamDecoder, stamp_ns
from dql_ros.codecs.message_path import AbsentError, with_remedy
from dql_ros.codecs.stamps import (
    OF_NANOSEC,
    RECEIVE,
    ahead_problem,
    invalid_nanosec,
    nanosec_problem,
)
from dql_ros.codecs.transforms import Broadcast, broadcasts
from dql_ros.contract import Contract, ObservationStream, TransformStream
from dql_ros.control.previous_actions import PreviousActions
from dql_ros.control.transform_buffer import TransformBuffer

# A process that took in nothing for so long was stopped, or its machine suspended.
_AWAY_NS = 75_000_000
# Stamps that are so far behind are of another clock, as those of a bag that is played.
_OTHER_CLOCK_NS = 3600 * SECOND_NS
# What had waited for it has been taken in after so long.
_SETTLE_NS = 50_000_000


@dataclass
class Arrivals:
    """What came of one stream's messages.

    Attributes:
        newest_ns: The newest message's time; ``None`` before the first.
        ahead: How many messages were refused since their stamps lay ahead of the clock.
        refused: How many messages did not fit the contract.
        absent: How many were skipped since they have not got what the contract selects.
        delayed: How many were dropped since they may have waited while the process was stopped.
        refusal: Why the newest message was refused; empty if it was not.
        absence: What the newest message lacks, if it was skipped; else empty.
        absent_since_ns: When the first of those was skipped that came since the last value, on the
            steady clock.
        behind_ns: How old the newest message was when it came.
    """

    newest_ns: int | None = None
    ahead: int = 0
    refused: int = 0
    absent: int = 0
    delayed: int = 0
    refusal: str = ""
    absence: str = ""
    absent_since_ns: int = 0
    behind_ns: int = 0


class Observer:
    """Decodes messages on one thread, and gives on another what was known at a time.

    Attributes:
        arrivals: What came of each stream's messages, by topic.
    """

    def __init__(
        self,
        contract: Contract,
        *,
        lockstep: bool = False,
        is_simulated: bool = False,
        real_time_factor: float = 1.0,
    ) -> None:
        """Prepare for the observation streams of ``contract``.

        Args:
            contract: The robot contract.
            lockstep: The header stamps are the clock, so that none is ahead of it, and values do
                not grow old while the simulator waits.
            is_simulated: The clock comes as messages do, and may be as late as they are.
            real_time_factor: Simulated over wall seconds; 1 for a robot.
        """
        self._lockstep = lockstep
        self._is_simulated = is_simulated
        self._factor = real_time_factor
        self._period_ns = contract.period_ns
        self._last_heartbeat_ns: int | None = None
        self._settled_ns = 0
        self.arrivals = {stream.key: Arrivals() for stream in contract.observation}
        self._lock = threading.Lock()
        self._streams = {stream.key: stream for stream in contract.observation}
        self._decoders = {
            topic: StreamDecoder(stream)
            for topic, stream in self._streams.items()
            if not isinstance(stream, TransformStream)
        }
        self._transforms = {
            stream.key: TransformBuffer(stream)
            for stream in contract.observation
            if isinstance(stream, TransformStream)
        }
        # Each topic of transforms, and the stream that it is of.
        self._broadcasts = {
            each.key: (stream, each.latched)
            for stream in contract.observation
            if isinstance(stream, TransformStream)
            for each in stream.inputs
        }
        self._previous = PreviousActions(contract) if contract.previous_action else None
        self._action_topics = [stream.key for stream in contract.action]
        self._builder = ObservationBuilder(
            [
                StreamSpec(
                    stream.key, stream.width, stream.max_age_ns, stream.ago_ns(self._period_ns)
                )
                for stream in contract.observation
            ],
            contract.fields_from_first,
            self._transforms,
            self._previous,
        )

    def receive(self, topic: str, message: Any, received_ns: int, steady_ns: int) -> int | None:
        """Take in a message.

        Args:
            topic: Key of its stream: the topic, or the stream's name; of transforms that of one
                of the stream's `inputs`.
            message: Of the stream's type.
            received_ns: Now, on the clock of the header stamps.
            steady_ns: Now, on a clock that always goes on.

        Returns:
            The message's time in nanoseconds; ``None`` if it was skipped since it has not got what
            the contract selects, and the contract allows that, or if all its transforms are
            static, or none is known to be in the chain.

        Raises:
            ContractError: If the message lacks what the contract names, or cannot have been
                measured when it says.
        """
        self.heartbeat(steady_ns)
        if topic in self._broadcasts:
            return self._receive_transforms(topic, message, received_ns, steady_ns)
        stream, arrivals = self._streams[topic], self.arrivals[topic]
        try:
            value = self._decoders[topic](message)
            time_ns = _time_of(message, stream, received_ns)
            if self._judges_ahead(stream):
                self._refuse_ahead(stream, time_ns - received_ns)
        except ContractError as error:
            if isinstance(error, AbsentError) and stream.skips_absent:
                arrivals.absent += 1
                if not arrivals.absence:
                    arrivals.absent_since_ns = steady_ns
                arrivals.absence = visible(str(error))[:MAX_LINE]
                return None
            arrivals.refused += 1
            arrivals.refusal = visible(with_remedy(error))[:MAX_LINE]
            raise ContractError(arrivals.refusal) from error
        arrivals.refusal = arrivals.absence = ""
        arrivals.behind_ns = received_ns - time_ns
        if self._is_age_unknown(stream, steady_ns):
            arrivals.delayed += 1
            return time_ns
        arrivals.newest_ns = time_ns
        with self._lock:
            self._builder.push(topic, time_ns, value, self._elapsed_ns(steady_ns))
        return time_ns

    def _receive_transforms(
        self, key: str, message: Any, received_ns: int, steady_ns: int
    ) -> int | None:
        """Take in the transforms of a message, but for those that cannot be right."""
        stream, is_static = self._broadcasts[key]
        arrivals = self.arrivals[stream.key]
        is_delayed = not is_static and self._is_age_unknown(stream, steady_ns)
        found = broadcasts(message, stream.topic, is_static)
        times_ns, refusals = [], []
        with self._lock:
            for broadcast in found:
                try:
                    elapsed_ns = self._elapsed_ns(steady_ns)
                    time_ns = self._push(stream, broadcast, received_ns, elapsed_ns, is_delayed)
                except ContractError as error:
                    refusals.append(visible(with_remedy(error))[:MAX_LINE])
                else:
                    times_ns += [] if time_ns is None else [time_ns]
        if refusals:
            arrivals.refused, arrivals.refusal = arrivals.refused + 1, refusals[0]
            raise ContractError(arrivals.refusal)
        if not times_ns:
            return None
        arrivals.refusal = ""
        if not is_static:
            arrivals.behind_ns = received_ns - max(times_ns)
        if is_delayed:
            arrivals.delayed += 1
        else:
            arrivals.newest_ns = max(times_ns)
        return None if is_static else max(times_ns)

    def _push(
        self,
        stream: TransformStream,
        broadcast: Broadcast,
        received_ns: int,
        elapsed_ns: int | None,
        is_delayed: bool,
    ) -> int | None:
        """Take in a transform; return its time if it is known to be in the chain.

        Raises:
            ContractError: If it is, and cannot be right.
        """
        buffer = self._transforms[stream.key]
        try:
            if not buffer.may_matter(broadcast.edge):
                return None
            time_ns = self._time_of_broadcast(stream, broadcast, received_ns)
            if not is_delayed:
                buffer.push(broadcast, time_ns, elapsed_ns)
        except ContractError:
            if buffer.is_in_chain(broadcast.edge):
                raise
            return None
        return time_ns if buffer.is_in_chain(broadcast.edge) else None

    def _time_of_broadcast(
        self, stream: TransformStream, broadcast: Broadcast, received_ns: int
    ) -> int:
        if broadcast.edge.is_static or stream.stamp == "receive":
            return received_ns
        time_ns = _require_time(broadcast.stamp_ns, stream)
        if self._judges_ahead(stream):
            self._refuse_ahead(stream, time_ns - received_ns)
        return time_ns

    def at(
        self, now_ns: int, steady_ns: int, in_force: NDArray[np.float64] | None = None
    ) -> Observation:
        """Return what is known at a tick.

        Args:
            now_ns: The tick.
            steady_ns: The same instant on the steady clock.
            in_force: What others have the robot do as it begins, shape (A,), if they drive; NaN
                where nothing.
        """
        if in_force is not None and not np.isnan(in_force).any():
            self.note_command(now_ns - self._period_ns, in_force)
        with self._lock:
            return self._builder.at(now_ns, self._elapsed_ns(steady_ns))

    def note_command(self, tick_ns: int, command: NDArray[np.floating]) -> None:
        """Note what the robot was sent for a tick, shape (A,), if the contract observes that."""
        if self._previous is not None:
            with self._lock:
                self._previous.sent(tick_ns, command, is_exact=self._lockstep)

    def hear_command(self, topic: str, time_ns: int, value: NDArray[np.float64] | None) -> None:
        """Note a command of one action stream that others sent, shape (width,), likewise.

        Args:
            topic: Key of the stream.
            time_ns: When it was sent, by the contract's ``stamp``.
            value: The command; ``None`` if from then on there is none.
        """
        if self._previous is not None:
            with self._lock:
                self._previous.push(self._action_topics.index(topic), time_ns, value)

    def begin_episode(self) -> None:
        """Forget what was before: an episode's first values are those known next."""
        with self._lock:
            self._builder.begin_episode()

    def heartbeat(self, steady_ns: int) -> None:
        """Note that messages are being taken in; to be called at least every 0.05 s.

        Messages that waited while this process was stopped look new when they are taken in.
        """
        last_ns, self._last_heartbeat_ns = self._last_heartbeat_ns, steady_ns
        if last_ns is not None and steady_ns - last_ns > _AWAY_NS:
            self._settled_ns = steady_ns + _SETTLE_NS

    def has_just_woken(self, steady_ns: int) -> bool:
        """Whether messages that come now may have waited while this process was stopped."""
        self.heartbeat(steady_ns)
        return not self._lockstep and steady_ns < self._settled_ns

    def clock_went_back(self, now_ns: int) -> None:
        """Forget what is stamped by a clock that was set back to ``now_ns``.

        A latched stream's value from before that time stays known.
        """
        with self._lock:
            ages_ns = self._builder.at(now_ns).ages_ns
            self._builder.clear(
                topic
                for topic, stream in self._streams.items()
                if not (stream.latched and ages_ns[topic] is not None)
            )

    def problem(self, topic: str) -> str:
        """What is wrong with a stream's newest message, as a clause; empty if nothing is."""
        arrivals, stream = self.arrivals[topic], self._streams[topic]
        if topic in self._transforms:
            with self._lock:
                if problem := self._transforms[topic].problem:
                    return problem
        if arrivals.absence and self._is_without_value(topic):
            return f"its messages are skipped: {arrivals.absence}"
        if arrivals.refusal:
            return f"its newest message was refused: {arrivals.refusal}"
        if self._lockstep or stream.latched or arrivals.behind_ns <= _OTHER_CLOCK_NS:
            return ""
        return (
            f"its header stamps are {arrivals.behind_ns / SECOND_NS:.0f} s behind this node's "
            f"clock, as those of a replayed bag: play it with 'ros2 bag play --clock' and set "
            f"use_sim_time to true, or synchronise the robot's clock"
        )

    def _is_without_value(self, topic: str) -> bool:
        """Whether only such messages have come for so long that none of the others is fresh."""
        arrivals, max_age_ns = self.arrivals[topic], self._streams[topic].max_age_ns
        if arrivals.newest_ns is None:
            return True
        since_ns = (self._last_heartbeat_ns or 0) - arrivals.absent_since_ns
        return max_age_ns is not None and since_ns * self._factor > max_age_ns

    def _judges_ahead(self, stream: ObservationStream) -> bool:
        """Whether stamps must not be ahead; a simulation's latched ones may outrun its clock."""
        return not (self._lockstep or (self._is_simulated and stream.latched))

    def _refuse_ahead(self, stream: ObservationStream, ahead_ns: int) -> None:
        limit_ns = stream.max_ahead_ns(self._period_ns)
        if ahead_ns > limit_ns:
            self.arrivals[stream.key].ahead += 1
            remedy = f"synchronise the two clocks, {RECEIVE}, or raise its 'max_ahead_s'"
            if self._is_simulated and ahead_ns > _OTHER_CLOCK_NS:
                remedy = (
                    "use_sim_time is true, and /clock did not come or has another time: play a "
                    "bag with 'ros2 bag play --clock', or set use_sim_time to false for a robot"
                )
            problem = ahead_problem(ahead_ns, limit_ns, "this node's clock")
            raise ContractError(f"{stream.topic}: {problem}; {remedy}")

    def _is_age_unknown(self, stream: ObservationStream, steady_ns: int) -> bool:
        """Whether a message's age is known by its receipt only, and that cannot be trusted."""
        if stream.latched or not (self._is_simulated or stream.stamp == "receive"):
            return False
        return self.has_just_woken(steady_ns)

    def _elapsed_ns(self, steady_ns: int) -> int | None:
        """The steady clock at the robot's pace."""
        return None if self._lockstep else round(steady_ns * self._factor)


def _time_of(message: Any, stream: ObservationStream, received_ns: int) -> int:
    if stream.stamp == "receive":
        return received_ns
    return _require_time(stamp_ns(message, stream.topic), stream)


def _require_time(time_ns: int, stream: ObservationStream) -> int:
    """Return a stamp that is a time.

    Raises:
        ContractError: If it is none.
    """
    nanosec = invalid_nanosec(time_ns)
    if nanosec is not None:
        raise ContractError(f"{stream.topic}: {nanosec_problem(nanosec)}; {OF_NANOSEC}")
    return time_ns
