"""How a policy is run: what the node's parameters and the contract come down to."""

from __future__ import annotations

from dataclasses import dataclass, field

from dql_core.errors import ConfigError, ContractError
from dql_core.runtime.guard import GuardLimits
from dql_core.streams import SECOND_NS
from dql_ros.codecs.installed import message_class
from dql_ros.contract import Contract, ObservationStream, TransformStream
from dql_ros.control.loaded_policy import TooSlow


@dataclass(frozen=True)
class LoopSettings:
    """How a policy is run.

    Attributes:
        lockstep: Answer each simulated instant, instead of ticking at the contract's rate.
        seed: Seed of the sampled actions.
        limits: When the guards trip, as far as the contract does not say it.
        inference_limit_s: In real time a result that took longer is dropped; 0 for the period.
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

    def steady_ns(self, seconds: float) -> int:
        """How long the robot's ``seconds`` take on the steady clock, in nanoseconds."""
        return round(seconds / self._factor * SECOND_NS)

    def period_ns(self, contract: Contract) -> int:
        """The control period on the steady clock, in nanoseconds."""
        return round(contract.period_ns / self._factor)

    def inference_limit_ns(self, contract: Contract) -> int | None:
        """How long a decision is waited for, in nanoseconds; ``None`` for ever.

        Raises:
            ConfigError: If that is longer than a period.
        """
        if self.lockstep:
            return None
        period_ns = self.period_ns(contract)
        limit_ns = round(self.inference_limit_s * SECOND_NS) or period_ns
        if limit_ns > period_ns:
            raise ConfigError(
                f"inference_limit_s is {self.inference_limit_s:g}, longer than the control "
                f"period of {period_ns / SECOND_NS:g} s: give at most that, or 0"
            )
        return limit_ns

    def send_after_ns(self, contract: Contract) -> int:
        """How long after its tick an action is sent at the earliest, on the steady clock.

        Raises:
            ConfigError: If the next tick would come first, or in lockstep, where time waits.
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
    def _factor(self) -> float:
        return 1.0 if self.lockstep else self.real_time_factor


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
