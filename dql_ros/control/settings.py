"""How a policy is run: what the node's parameters and the contract come down to."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

from dql_core.errors import ConfigError, ContractError, counted
from dql_core.runtime.chunk import ticks_to_decide
from dql_core.runtime.guard import GuardLimits
from dql_core.runtime.policy import default_execute
from dql_core.streams import SECOND_NS
from dql_ros.codecs.installed import message_class
from dql_ros.contract import Contract, ObservationStream, TransformStream
from dql_ros.control.loaded_policy import InferenceTimes, LoadedPolicy, TooSlow


@dataclass(frozen=True)
class LoopSettings:
    """How a policy is run.

    Attributes:
        lockstep: Answer each simulated instant, instead of ticking at the contract's rate.
        seed: Seed of the sampled actions.
        limits: When the guards trip, as far as the contract does not say it.
        inference_limit_s: In real time a result that took longer is dropped; 0 for the period, or
            for as long as chunks of actions last.
        when_too_slow: What to do with a policy that cannot keep that limit.
        send_after_s: In real time the policy's action is sent no sooner than so long after its
            tick, so that inference of any length delays it alike; 0 for at once.
        activation_timeout_s: How long activation waits in real time until every stream is fresh;
            0 to be active while waiting.
        recorders: In lockstep, recorders that must listen before the first command goes out.
        candidates_hz: How often at most the candidates are published; 0 for never.
        action_smoothing: `Controller`'s ``smoothing``.
        thread_priority: SCHED_FIFO priority that the process's threads have; 0 for none.
        real_time_factor: In real time, simulated over wall seconds; 1 for a robot.
        rivals_stop: Whether another node that can command the robot ends the work.
        shadow: Whether commands go beside the robot's topics, while somebody else drives.
        await_person: In lockstep, whether the switch of who may take over belongs to each instant.
        execute: Actions of a chunk that are begun before the next is asked for; 0 for the
            policy's own number.
    """

    lockstep: bool
    seed: int
    limits: GuardLimits = field(default_factory=GuardLimits)
    inference_limit_s: float = 0.0
    when_too_slow: TooSlow = "refuse"
    send_after_s: float = 0.0
    activation_timeout_s: float = 10.0
    recorders: int = 0
    candidates_hz: float = 0.0
    action_smoothing: float = 0.0
    thread_priority: int = 0
    real_time_factor: float = 1.0
    rivals_stop: bool = True
    shadow: bool = False
    await_person: bool = False
    execute: int = 0

    def steady_ns(self, seconds: float) -> int:
        """How long the robot's ``seconds`` take on the steady clock, in nanoseconds."""
        return round(seconds / self.pace * SECOND_NS)

    def period_ns(self, contract: Contract) -> int:
        """The control period on the steady clock, in nanoseconds."""
        return round(contract.period_ns / self.pace)

    def executed(self, loaded: LoadedPolicy) -> int:
        """How many actions of a chunk are begun before the next is asked for.

        Raises:
            ConfigError: If a chunk has not so many.
        """
        horizon = loaded.policy.horizon
        if self.execute > horizon:
            raise ConfigError(
                f"execute is {self.execute}, but this policy decides "
                f"{counted(horizon, 'action')} at once: give at most that, or 0 for its own number"
            )
        return self.execute or loaded.execute or default_execute(horizon)

    def inference_limit_ns(
        self, contract: Contract, loaded: LoadedPolicy | None = None
    ) -> int | None:
        """How long a decision may take, in nanoseconds; ``None`` for ever.

        One of chunks must come in before the chunk in play is over, also where decisions follow
        each other at once, and before its own observation is too old.

        Args:
            contract: The robot contract.
            loaded: The policy; one of single actions by default.

        Raises:
            ConfigError: If ``inference_limit_s`` is longer, or ``execute`` leaves no time.
        """
        if self.lockstep:
            return None
        longest_ns, what = self.period_ns(contract), "the control period"
        if loaded is not None and loaded.policy.horizon > 1:
            horizon, executed = loaded.policy.horizon, self.executed(loaded)
            fresh = self.fresh_ticks(contract)
            ticks = ticks_to_decide(horizon, executed, fresh)
            what = (
                f"what chunks leave (horizon {horizon}, execute {executed}, fresh for "
                f"{counted(fresh, 'tick')} by max_age_s)"
            )
            if ticks == 0:
                raise ConfigError(
                    f"no time is left to decide the next chunk by {what}: lower execute to at "
                    f"most {horizon - 1}, and raise max_age_s to two periods at least"
                )
            longest_ns *= ticks
        limit_ns = round(self.inference_limit_s * SECOND_NS) or longest_ns
        if limit_ns > longest_ns:
            raise ConfigError(
                f"inference_limit_s is {self.inference_limit_s:g}, longer than {what} "
                f"of {longest_ns / SECOND_NS:g} s: give at most that, or 0"
            )
        return limit_ns

    def chunk_remarks(
        self, contract: Contract, loaded: LoadedPolicy, times: InferenceTimes
    ) -> Iterator[str]:
        """Say what a policy of chunks, which decides within ``times``, cannot do as asked for."""
        if self.lockstep or loaded.policy.horizon == 1:
            return
        period_ns, executed = self.period_ns(contract), self.executed(loaded)
        delay, fresh = math.ceil(times.p99_ns / period_ns), self.fresh_ticks(contract)
        if fresh < executed + delay:
            yield (
                f"execute is {executed}, and a decision takes {counted(delay, 'tick')}, but by "
                f"max_age_s an observation is fresh for {counted(fresh, 'tick')}: chunks are "
                f"asked for earlier; raise the shortest max_age_s, or lower execute"
            )
        wait_ns = delay * period_ns
        if times.p99_ns > period_ns / 2 and self.steady_ns(contract.on_fault.hold_s) < wait_ns:
            yield (
                f"on_fault.hold_s is {contract.on_fault.hold_s:g}, and a decision takes "
                f"{times.p99_ns / 1e9:.3f} s: after a takeover, a fault and the begin of an "
                f"episode the robot goes towards the safe command until the first chunk is there; "
                f"raise hold_s to at least {wait_ns / SECOND_NS:g}"
            )

    def fresh_ticks(self, contract: Contract) -> int:
        """At how many ticks, its own included, an observation is fresh that is new at that.

        So it is when their actions are sent.
        """
        left_ns = _shortest_ns(contract) - round(self.send_after_s * SECOND_NS)
        return max(0, math.ceil(left_ns / contract.period_ns))

    def send_after_ns(self, contract: Contract) -> int:
        """How long after its tick an action is sent at the earliest, on the steady clock.

        Raises:
            ConfigError: If the next tick would come first, or what was observed be too old by
                then, or in lockstep, where time waits.
        """
        if self.lockstep and self.send_after_s:
            raise ConfigError(
                f"send_after_s is {self.send_after_s:g}, but in lockstep time waits for the "
                f"action: set it to 0"
            )
        after_ns = self.steady_ns(self.send_after_s)
        if after_ns >= self.period_ns(contract):
            raise ConfigError(
                f"send_after_s is {self.send_after_s:g}, which is no less than the control period "
                f"of {contract.period_ns / SECOND_NS:g} s: give less"
            )
        fresh_s = _shortest_ns(contract) / SECOND_NS
        if self.send_after_s and self.send_after_s >= fresh_s:
            raise ConfigError(
                f"send_after_s is {self.send_after_s:g}, and by max_age_s an observation is too "
                f"old for an action after {fresh_s:g} s: give less, or raise the shortest "
                f"max_age_s"
            )
        return after_ns

    def triggering_topics(self, contract: Contract) -> frozenset[str]:
        """What must have reached a new stamp before a tick in lockstep; in real time nothing.

        Raises:
            ContractError: If nothing says what a simulator asks about, or a person is to be
                awaited whose switch says it neither.
        """
        if not self.lockstep:
            return frozenset()
        topics = [stream.key for stream in triggering_streams(contract)]
        if self.await_person:
            if contract.takeover is None or contract.takeover.switch is None:
                raise ContractError(
                    f"await_person is true, and the contract of '{contract.robot}' has no "
                    f"takeover with a switch: give it one, or set await_person to false"
                )
            switch = contract.takeover.switch
            if not hasattr(message_class(switch.type), "header"):
                raise ContractError(
                    f"await_person is true, and the takeover's switch is a {switch.type}, which "
                    f"has no header to say of which state it is: take a sensor_msgs/msg/Joy, or "
                    f"set await_person to false"
                )
            topics.append(switch.topic)
        return frozenset(topics)

    @property
    def pace(self) -> float:
        """The robot's seconds in one of the clock by which the ticks go."""
        return 1.0 if self.lockstep else self.real_time_factor


def _shortest_ns(contract: Contract) -> int:
    """How long every stream's values may be used."""
    ages_ns = (stream.max_age_ns for stream in contract.observation)
    return min(age_ns for age_ns in ages_ns if age_ns is not None)


def triggering_streams(contract: Contract) -> list[ObservationStream]:
    """Return the streams whose stamps say which instant a lockstep simulator asks about.

    Raises:
        ContractError: If there is none.
    """
    streams = [
        s
        for s in contract.observation
        if not (s.latched or isinstance(s, TransformStream)) and s.stamp == "header"
    ]
    if not streams:
        raise ContractError(
            f"the contract of '{contract.robot}' cannot run in lockstep, since no observation "
            f"stream that is not latched has 'stamp: header'; use mode:=real_time"
        )
    return streams
