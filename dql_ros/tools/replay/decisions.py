"""What a policy node would have decided at each tick of a recording; knows no ROS.

The path is the node's own: `Observer` takes in the messages, `make_controller` makes guards,
fallback and inference, and each tick does what the node's `ControlLoop` does. The clock is the
recording's: a message is received at its log time, which stands for the node's clock and for the
steady one; a tick comes after all that was received up to its instant.

Ticks are a grid of the contract's period. It begins as a node becomes active: at the first
instant at which every stream has a fresh value. It goes on, whatever is missing, to the last
message that is read. Only after a pause of a minute without any message it ends, and a new one
begins with the messages that follow, as of a node that is activated again, with the same seed.

What cannot be as it was live: a decision takes no time here, so that none is dropped for being
late, and a chunk of actions is played from its first one on, as in lockstep; ticks lie otherwise
on the recording's clock than those of a node in real time; nobody stops or pauses; and a node that
gives up (``deactivate_after_s``) is taken for one that a person activates again at once. A person
who took over does it here, too, by what the recording has of the takeover's topics. Where previous
actions are observed, they are the recorded ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from dql_core.errors import BagError, ContractError, counted, listed
from dql_core.runtime.controller import Command
from dql_core.runtime.fallback import Interlock
from dql_core.runtime.inference import SameThread
from dql_core.streams import SECOND_NS, Observation
from dql_ros.bag.reader import Bag
from dql_ros.bag.storage.storage import DAMAGE, reason_of
from dql_ros.codecs import CommandEndedError, StreamDecoder, stamp_ns
from dql_ros.codecs.block import MessageBlock
from dql_ros.codecs.message_path import AbsentError
from dql_ros.contract import ActionStream, Contract, ObservationStream, resolve_topic
from dql_ros.control.loaded_policy import LoadedPolicy
from dql_ros.control.observer import Observer
from dql_ros.control.person import PersonHeard
from dql_ros.control.safety_chain import make_controller, make_decider
from dql_ros.control.settings import LoopSettings
from dql_ros.convert.bag_episodes import latched_topics, require_topic
from dql_ros.convert.topic_decoders import TopicRole, present_roles, takeover_roles
from dql_ros.tools.replay.arrivals import Arrival, arrivals, require_one_clock

# After so long without a message there is nobody to whom a command could have gone.
LONGEST_PAUSE_NS = 60 * SECOND_NS
# So often a node's executor looks after its observer, which else takes it for suspended.
_HEARTBEAT_NS = 50_000_000
_MAX_NAMED = 3


@dataclass(frozen=True)
class ReplayedTick:
    """One tick.

    Attributes:
        time_ns: When, on the recording's clock.
        span: Which grid of ticks it is of, from 0.
        observation: What was known.
        command: What was decided; its ``inference_ns`` is 0.
        given_up: Whether a node would have deactivated itself by now (``deactivate_after_s``).
    """

    time_ns: int
    span: int
    observation: Observation
    command: Command
    given_up: bool


class Replay:
    """A policy over one bag; iterate over it once.

    Args:
        bag: An opened bag.
        contract: The robot contract.
        loaded: The policy, compared with the contract.
        settings: How it is run: seed, limits of the guards, smoothing. It is never late,
            whatever they say.
        namespace: Namespace of the contract's relative topics in the bag.
        also: Further topics that are read; ticks go on to the last of their messages, too.
        visit: Is given each block that is read.
        progress: Called, now and then, with how many of the bag's bytes are done.

    Attributes:
        observer: What came of each stream's messages.
        person: Who may take over, by the contract's ``takeover``; else ``None``.
        interventions: How many commands the recording says to be a person's, so far.

    Raises:
        BagError: If an observed topic is missing, of another type or silent, or a topic of the
            takeover is of another type.
        ConfigError: If the safe command is beyond the policy's bounds.
        ContractError: If previous actions are observed that come after their ticks.
    """

    def __init__(
        self,
        bag: Bag,
        contract: Contract,
        loaded: LoadedPolicy,
        settings: LoopSettings,
        namespace: str = "/",
        also: frozenset[str] = frozenset(),
        visit: Callable[[MessageBlock], None] = lambda _: None,
        progress: Callable[[int], None] = lambda _: None,
    ) -> None:
        contract.require_known_past("a replay")
        self._roles: dict[str, list[TopicRole]] = {}
        for role in present_roles(bag, contract, namespace):
            is_observed = role.kind == "action" and contract.previous_action > 0
            if role.kind == "observation" or is_observed:
                require_topic(bag, role)
                self._roles.setdefault(role.topic, []).append(role)
        for role in takeover_roles(bag, contract, namespace, ("person", "switch", "info")):
            self._roles.setdefault(role.topic, []).append(role)
        self._stores = {
            role.topic: bag.typestore(role.topic, role.rule.type)
            for roles in self._roles.values()
            for role in roles
        }
        self._decoders = {stream.key: StreamDecoder(stream) for stream in contract.action}
        self._bag, self._contract, self._seed = bag, contract, settings.seed
        self._namespace = namespace
        self._visit, self._also, self._progress = visit, also, progress
        self.observer = Observer(contract)
        takeover = contract.takeover
        self.person = None if takeover is None else PersonHeard(contract, takeover)
        self.interventions = 0
        # A decision takes no time, by a clock that stands still.
        self._inference = make_decider(contract, settings, loaded, SameThread(), None, lambda: 0)
        self._controller = make_controller(
            contract, settings, self._inference, loaded, Interlock()
        )
        self._pause_ns = max(LONGEST_PAUSE_NS, 10 * contract.period_ns)
        self._span = -1
        self._now_ns: int | None = None
        self._tick_ns: int | None = None
        self._episode_begins = False

    def __iter__(self) -> Iterator[ReplayedTick]:
        """Yield the ticks in the order of their times.

        Raises:
            BagError: If the bag is damaged, its recorder's clock was set back, or there was no
                instant at which every stream had a fresh value.
            Exception: Whatever the policy raises.
        """
        topics = frozenset(self._roles) | self._also
        for arrival in arrivals(self._bag, topics, self._visit, self._progress):
            yield from self._advance(arrival.time_ns)
            for role in self._roles.get(arrival.topic, ()):
                if role.rule.type == arrival.msgtype:
                    self._receive(role, arrival)
        if self._now_ns is not None:
            yield from self._ticks_until(self._now_ns + 1, self._now_ns)
        self._require_sound()

    def _advance(self, time_ns: int) -> Iterator[ReplayedTick]:
        """Let time go on to an arrival; what came before it is known."""
        before_ns, self._now_ns = self._now_ns, time_ns
        if before_ns is None or time_ns == before_ns:
            return
        yield from self._ticks_until(min(time_ns, before_ns + self._pause_ns), before_ns)
        if time_ns - before_ns > self._pause_ns:
            self._tick_ns = None
        # As the node's executor does all the time; what is older than a second does not matter.
        for beat_ns in range(max(before_ns, time_ns - SECOND_NS), time_ns, _HEARTBEAT_NS):
            self.observer.heartbeat(beat_ns)

    def _ticks_until(self, end_ns: int, known_ns: int) -> Iterator[ReplayedTick]:
        """Tick at each instant of the grid before ``end_ns``; all until ``known_ns`` is there."""
        if self._tick_ns is None and self.observer.at(known_ns, known_ns).is_fresh:
            self._activate(known_ns)
        while self._tick_ns is not None and self._tick_ns < end_ns:
            yield self._tick(self._tick_ns)
            self._tick_ns += self._contract.period_ns

    def _activate(self, now_ns: int) -> None:
        """As `ControlLoop.start`."""
        self._inference.seed(self._seed)
        self._controller.reset()
        self.observer.begin_episode()
        self._span, self._tick_ns = self._span + 1, now_ns

    def _tick(self, now_ns: int) -> ReplayedTick:
        """As `ControlLoop` does."""
        if self._episode_begins:
            self._episode_begins = False
            self.observer.begin_episode()
            self._controller.begin_episode()
        observation = self.observer.at(now_ns, now_ns)
        person = None if self.person is None else self.person.at(now_ns)
        command = self._controller.step(now_ns, observation, person)
        return ReplayedTick(now_ns, self._span, observation, command, self._controller.given_up)

    def _receive(self, role: TopicRole, arrival: Arrival) -> None:
        """As the node's `StreamInputs` do: what is refused is counted, and changes nothing."""
        time_ns = arrival.time_ns
        message = self._deserialised(arrival)
        if role.kind == "action":
            self._receive_command(role, message, time_ns)
            return
        if role.kind != "observation":
            self._receive_person(role, message, time_ns)
            return
        try:
            stamp_ns = self.observer.receive(role.name, message, time_ns, time_ns)
        except ContractError:
            return
        latched = isinstance(role.rule, ObservationStream) and role.rule.latched
        self._episode_begins |= latched and stamp_ns is not None

    def _receive_command(self, role: TopicRole, message: Any, time_ns: int) -> None:
        """As a conversion does: a trajectory without points ends the command in force.

        Raises:
            ContractError: If the command lacks what the contract names.
        """
        stream = role.rule
        assert isinstance(stream, ActionStream)
        try:
            value = self._decoders[role.name](message)
        except CommandEndedError:
            value = None
        except AbsentError:
            if stream.skips_absent:
                return
            raise
        if stream.stamp == "header":
            time_ns = stamp_ns(message, stream.topic)
        self.observer.hear_command(role.name, time_ns, value)

    def _receive_person(self, role: TopicRole, message: Any, time_ns: int) -> None:
        """As the node's `CommanderInputs` and `SwitchInput` do; what is refused is counted."""
        if role.kind == "info":
            self.interventions += bool(message.data)
        elif self.person is not None:
            with suppress(ContractError):
                if role.kind == "switch":
                    self.person.receive_switch(message)
                else:
                    self.person.receive(role.name, message, time_ns)

    def _deserialised(self, arrival: Arrival) -> Any:
        try:
            return self._stores[arrival.topic].deserialize_cdr(arrival.cdr, arrival.msgtype)
        except DAMAGE as cause:
            where = f"{(arrival.time_ns - self._bag.start_ns) / 1e9:.3f} s from its start"
            raise BagError(
                f"{self._bag.path}, {where}: {arrival.topic}: a message is no "
                f"{arrival.msgtype}: {reason_of(cause)}; the bag is damaged: --salvage leaves the "
                f"message out"
            ) from cause

    def persons_missing(self) -> list[str]:
        """The person's topics that the bag does not have; the person counts as silent there."""
        takeover = self._contract.takeover
        topics = () if takeover is None else takeover.heard_topics
        names = (resolve_topic(topic, self._namespace) for topic in topics)
        return [name for name in names if name not in self._bag.topics]

    def _require_sound(self) -> None:
        roles = (role for roles in self._roles.values() for role in roles)
        require_one_clock(self._bag, self._contract.period_ns, latched_topics(roles))
        if self.interventions and (silent := self.persons_missing()):
            raise BagError(
                f"{self._bag.path}: a person commanded, but {listed(silent, _MAX_NAMED)} by which "
                f"they did is not in the bag: record it too, or replay a bag without takeovers"
            )
        if self._span >= 0:
            return
        never = [
            f"'{topic}' {'; '.join(refusals(self.observer, topic)) or 'had no message'}"
            for topic, arrived in self.observer.arrivals.items()
            if arrived.newest_ns is None
        ]
        what = f": {', '.join(never)}" if never else " at the same time: see their 'max_age_s'"
        raise BagError(
            f"{self._bag.path}: nothing to replay, since there is no instant at which every "
            f"observed stream has a fresh value{what}"
        )


def refusals(observer: Observer, topic: str) -> list[str]:
    """Say how many messages of a stream were not taken in and why, a clause each."""
    arrived = observer.arrivals[topic]
    said = []
    if arrived.refused:
        last = f" (the last: {arrived.refusal})" if arrived.refusal else ""
        said.append(f"{counted(arrived.refused, 'message')} refused{last}")
    if arrived.absent:
        said.append(f"{counted(arrived.absent, 'message')} skipped, without what is selected")
    if arrived.delayed:
        said.append(f"{counted(arrived.delayed, 'message')} dropped, of unknown age")
    return said
