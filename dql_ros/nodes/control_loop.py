"""One policy at work on the robot's topics, from configure to cleanup.

In real time three threads work. The executor's takes in messages and reports. The tick thread
decides and publishes at absolute deadlines of a steady clock; it never waits for a decision beyond
its limit, so that the fallback goes out in time whatever the policy does, and it looks for a stop
itself, so that nothing that keeps the executor busy can delay that. The inference thread alone
calls the policy. In lockstep the executor's thread ticks.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack

import numpy as np

from dql_core.runtime.controller import Command, State
from dql_core.runtime.fallback import Interlock
from dql_core.runtime.guard import describe_missing
from dql_core.runtime.inference import Caller
from dql_core.streams import Observation
from dql_ros.contract import Contract, ObservationStream, Takeover
from dql_ros.contract.shadow import shadow_streams
from dql_ros.control.agreement import LiveAgreement
from dql_ros.control.health import LoopStatistics
from dql_ros.control.loaded_policy import LoadedPolicy
from dql_ros.control.observer import Observer
from dql_ros.control.person import PersonHeard
from dql_ros.control.safety_chain import make_controller, make_decider
from dql_ros.control.settings import LoopSettings
from dql_ros.control.ticking import (
    Answer,
    DeadlineTicker,
    LockstepTrigger,
    raise_priority_of_this_thread,
    steady_ns,
)
from dql_ros.nodes.base import ManagedNode
from dql_ros.nodes.control_topics import (
    CandidatePublisher,
    CommanderInputs,
    CommandOutputs,
    StreamInputs,
    SwitchInput,
)
from dql_ros.nodes.goals import GoalOutput
from dql_ros.nodes.readiness import await_arrival, await_readiness
from dql_ros.nodes.start import END_REQUESTED
from dql_ros.nodes.topics import QosConflicts, Rivals, require_unmixed, require_unremapped

# The first tick's distance from an arrival: what taking in a message needs, and a share of the
# period for messages that are late, since a state that is just missed costs a whole period.
_TAKEN_IN_AFTER_NS, _LATE_SHARE = 300_000, 0.05
# An action that is sent so many periods after its tick began is not that of any state.
_OVERDUE_PERIODS = 2
# While an action waits to be sent, a stop is looked for so often.
_LOOK_S = 0.001


class ControlLoop:
    """What acts between configure and cleanup.

    Attributes:
        active: Whether it acts.
        settings: How the policy is run.
        controller: What decides.
        observer: What is known of the robot.
        statistics: The last ticks in figures.
        conflicts: Endpoints that cannot be met.
        rivals: Other nodes that command the robot; nobody in shadow mode, where one is to.
        agreement: With whoever drives, in shadow mode; else ``None``.
        person: Who may take over, by the contract's ``takeover``; in shadow mode ``None``.
        clock_jumps: How often the clock was set back.
        overdue: Actions that were not sent, since the process was stopped after they were decided.
    """

    def __init__(
        self,
        node: ManagedNode,
        contract: Contract,
        loaded: LoadedPolicy,
        settings: LoopSettings,
        interlock: Interlock,
        caller: Caller,
        look_for_stop: Callable[[], None],
    ) -> None:
        """Prepare to act, and open the topics.

        Args:
            node: The node whose topics are used.
            contract: The robot contract.
            loaded: The policy.
            settings: How to run it.
            interlock: Whether people asked for a stop or a pause.
            caller: Makes the policy's calls.
            look_for_stop: Takes in a stop that the executor has not come to, from any thread.

        Raises:
            DqlError: If the contract cannot be run as the settings ask.
        """
        self.active = False
        self.clock_jumps = 0
        self.overdue = 0
        self._period_ns = settings.period_ns(contract)
        self._send_after_ns = settings.send_after_ns(contract)
        self.statistics = LoopStatistics(None if settings.lockstep else self._period_ns)
        self.conflicts = QosConflicts(node.get_logger().name)
        self.rivals = _rivals(node, contract, settings)
        self.agreement: LiveAgreement | None = None
        self.person: PersonHeard | None = None
        self.observer = Observer(
            contract,
            lockstep=settings.lockstep,
            is_simulated=bool(node.get_parameter("use_sim_time").value),
            real_time_factor=settings.real_time_factor,
        )
        self.settings = settings
        self._node = node
        self._interlock = interlock
        self._look_for_stop = look_for_stop
        self._trigger = LockstepTrigger(settings.triggering_topics(contract))
        limit_ns = settings.inference_limit_ns(contract, loaded)
        self._inference = make_decider(contract, settings, loaded, caller, limit_ns, steady_ns)
        self.controller = make_controller(contract, settings, self._inference, loaded, interlock)
        self._ticker: DeadlineTicker | None = None
        self._failure: BaseException | None = None  # in lockstep, where no ticker knows it
        self._episode_begins = threading.Event()
        self._last_now_ns = 0
        self._live = [stream.key for stream in contract.observation if not stream.latched]
        self._candidates: CandidatePublisher | None = None
        with ExitStack() as opened:
            streams = contract.action
            if settings.shadow:
                streams = shadow_streams(streams)
                require_unremapped(node, streams)
            takeover = None if settings.shadow else contract.takeover
            self._outputs = CommandOutputs(
                node,
                streams,
                self.conflicts,
                settings,
                None if takeover is None else takeover.flag,
                contract.period_ns,
            )
            opened.callback(self._outputs.close)
            if settings.shadow:
                self.agreement = LiveAgreement(contract, settings.real_time_factor)
                commanders = CommanderInputs(node, contract.action, self.agreement, steady_ns)
                opened.callback(commanders.close)
            if takeover is not None:
                self.person = self._listen_to_person(contract, takeover, opened)
            if settings.candidates_hz > 0:
                self._candidates = CandidatePublisher(node, settings.candidates_hz)
                opened.callback(self._candidates.close)
            self._inputs = StreamInputs(
                node, contract, self.observer, self.conflicts, self._on_arrival
            )
            opened.callback(self._inputs.close)
            self._opened = opened.pop_all()

    def _listen_to_person(
        self, contract: Contract, takeover: Takeover, opened: ExitStack
    ) -> PersonHeard:
        """Subscribe to the topics by which a person takes over."""
        require_unmixed(self._node, contract)
        factor = 1.0 if self.settings.lockstep else self.settings.real_time_factor
        person = PersonHeard(contract, takeover, factor)
        streams = takeover.streams(contract.action)
        inputs = CommanderInputs(self._node, streams, person, self._clock_ns, self._is_late)
        opened.callback(inputs.close)
        if (switch := takeover.switch) is not None:
            opened.callback(SwitchInput(self._node, switch, person, self._note_instant).close)
        return person

    def _clock_ns(self) -> int:
        """The clock by which fallback and person go: in lockstep the newest tick's time."""
        return self._last_now_ns if self.settings.lockstep else steady_ns()

    def _is_late(self) -> bool:
        """Whether what a person sent may have waited while the process was stopped."""
        is_late = self.observer.has_just_woken(steady_ns())
        if is_late and self.person is not None:
            self.person.delayed += 1
        return is_late

    @property
    def state(self) -> State:
        """The controller's state, now or from its next tick on."""
        if self._interlock.stopped:
            return State.STOPPED
        return State.PAUSED if self._interlock.paused else self.controller.state

    @property
    def goals(self) -> Sequence[GoalOutput]:
        """What sends commands as goals of actions."""
        return self._outputs.goals

    def chunk_figures(self) -> dict[str, str]:
        """What the diagnostics say of the policy's chunks of actions, by name."""
        return self._inference.figures()

    @property
    def missed_ticks(self) -> int:
        """Ticks that were left out since the loop was started."""
        return 0 if self._ticker is None else self._ticker.missed

    @property
    def failure(self) -> BaseException | None:
        """The exception that ended the work, if one did."""
        return self._failure if self._ticker is None else self._ticker.failure

    def await_readiness(self) -> None:
        """Wait until the robot is this node's alone, and in real time takes goals and is heard.

        A lockstep simulator waits itself for the policy.

        Raises:
            NotReadyError: If that is not so in time; says what is missing, and why.
        """

        def poll() -> None:
            self._look_for_stop()
            self._inputs.poll()

        timeout_s, logger = self.settings.activation_timeout_s, self._node.get_logger()
        await_readiness(poll, self._missing, timeout_s, logger.info)

    def start(self) -> None:
        """Begin to act."""
        self._inference.seed(self.settings.seed)
        self.controller.reset()
        self.observer.begin_episode()
        self.statistics.clear()
        if self.agreement is not None:
            self.agreement.clear()
        for goal in self.goals:
            goal.begin()
        self._trigger.clear()
        if self.settings.lockstep and self.person is not None:
            self.person.clear()  # by whose clock what was heard may lie ahead of a new simulation
        self._last_now_ns = 0
        self.active = True
        if not self.settings.lockstep:
            self._ticker = DeadlineTicker(
                self._period_ns, self._tick_now, self._prepare_tick_thread
            )
            # Ticks find a state that is young and taken in, as long as both keep their pace.
            await_arrival(self._inputs.poll, self._newest_ns, self._period_ns / 1e9)
            margin_ns = max(_TAKEN_IN_AFTER_NS, round(_LATE_SHARE * self._period_ns))
            self._ticker.start(margin_ns)

    def stop(self) -> None:
        """Stop acting; the safe command is the last one sent."""
        was_active, self.active = self.active, False
        try:
            if self._ticker is not None:
                self._ticker.stop()
        finally:
            if was_active:
                try:
                    self._send_safe_command()
                finally:
                    self._outputs.flush()

    def close(self) -> None:
        """Close the topics."""
        self._opened.close()

    def apply_stop(self) -> None:
        """Send the safe command at once if there is a stop; all else waits for the next tick."""
        if self.active and self._interlock.stopped:
            self._send_safe_command()

    def problems(self) -> list[str]:
        """What is wrong with the topics, a clause each."""
        streams = {topic: self.observer.problem(topic) for topic in self.observer.arrivals}
        found = [f"'{topic}': {problem}" for topic, problem in streams.items() if problem]
        heard = self.agreement or self.person
        refusals = [] if heard is None else heard.refusals()
        conflicts = (self.conflicts.problem(topic) for topic in self.conflicts.counts)
        return [*found, *refusals, *conflicts, *([] if self.active else self._absent_servers())]

    def dangers(self) -> list[str]:
        """What of the goals is an error in any state, also after a stop; a clause each."""
        return [*filter(None, (goal.problem() for goal in self.goals))] if self.active else []

    def _absent_servers(self) -> list[str]:
        return [*filter(None, (goal.missing() for goal in self.goals))]

    def notes(self) -> list[str]:
        """What of shadow mode is to be said and is nothing wrong, a clause each."""
        if self.agreement is None:
            return []
        silence = self.agreement.silence(steady_ns()) if self.active else ""
        return ["shadow mode: the robot is sent nothing", *([silence] if silence else [])]

    def _missing(self) -> str:
        """What keeps the node from acting, as a clause; empty if nothing does."""
        if self.settings.rivals_stop and (problem := self.rivals.problem()):
            return f"{problem}, or set on_rival to 'warn'"
        if self.settings.lockstep or self.settings.activation_timeout_s == 0:
            return ""
        observation = self.observer.at(self._ros_now_ns(), steady_ns())
        if observation.is_fresh:
            return "; ".join(self._absent_servers())
        return "; ".join([describe_missing(observation), *self.problems()])

    def _newest_ns(self) -> list[int]:
        """The newest message's time of each stream that is not latched; 0 before the first."""
        return [self.observer.arrivals[topic].newest_ns or 0 for topic in self._live]

    def _on_arrival(self, stream: ObservationStream, stamp_ns: int) -> None:
        if stream.latched:
            # What is sent once an episode says that a new one begins.
            self._episode_begins.set()
        self._note_instant(stream.key, stamp_ns)

    def _note_instant(self, topic: str, stamp_ns: int) -> None:
        if self.active and topic in self._trigger.streams:
            try:
                self._answer(topic, stamp_ns)
            except BaseException as error:
                self._failure = error
                raise

    def _answer(self, topic: str, stamp_ns: int) -> None:
        """In lockstep: act if the simulator has shown a whole new instant."""
        answer, tick_ns = self._trigger.arrived(topic, stamp_ns, time.monotonic_ns())
        if answer is Answer.ACT and self._is_heard():
            self._look_for_stop()
            if self._tick(tick_ns, tick_ns, self._outputs.sent):
                self._trigger.answered(tick_ns, time.monotonic_ns())
        elif answer is Answer.REPEAT and self._outputs.last is not None:
            self._outputs.send(
                self._outputs.last, lambda: tick_ns, is_persons=self._outputs.is_persons
            )
            self._trigger.answered(tick_ns, time.monotonic_ns())

    def _is_heard(self) -> bool:
        """Whether robot and recorders will get the first command; later ones are not checked."""
        if self._outputs.last is not None:
            return True
        return self._outputs.are_heard_by(1, self.settings.recorders)

    def _prepare_tick_thread(self) -> None:
        """Let it go before the process's other threads, if those go before other programs."""
        if self.settings.thread_priority:
            raise_priority_of_this_thread(self.settings.thread_priority + 1)

    def _tick_now(self) -> None:
        """In real time: act, or send the safe command and end the thread."""
        tick_ns, done = steady_ns(), False  # chunks are played by it: nothing may come before
        try:
            self._look_for_stop()
            sent_before = self._outputs.sent
            self._tick(self._ros_now_ns(), tick_ns, sent_before)
            done = True
        finally:
            if not done:
                self._send_safe_command()

    def _tick(self, now_ns: int, fallback_ns: int, sent_before: int) -> bool:
        """Decide and publish; say whether anything was sent.

        Args:
            now_ns: The tick, on the clock of the observation's stamps.
            fallback_ns: The tick, on the clock by which the fallback goes: in real time the
                steady one, since a simulated one can stop.
            sent_before: How many commands had been sent then.
        """
        begun_ns = time.monotonic_ns()
        back_ns = self._note_clock(now_ns)
        if self._episode_begins.is_set():
            self._episode_begins.clear()
            self.observer.begin_episode()
            self.controller.begin_episode()
        in_force = None if self.agreement is None else self.agreement.in_force(fallback_ns)
        observation = self.observer.at(now_ns, fallback_ns, in_force)
        before = self._outputs.last
        if before is not None:  # a stop's safe command, perhaps
            self.controller.continue_from(before)
        person = None if self.person is None else self.person.at(fallback_ns)
        command = self.controller.step(fallback_ns, observation, person)
        self._look_for_stop()
        self._hold_back(command, fallback_ns)
        overdue_ns = self._overdue_ns(fallback_ns)
        valid_until_ns = self._valid_until_ns(observation, command, fallback_ns)

        def is_void() -> bool:
            """Whether what was decided must not be sent any more."""
            # By a stop's safe command, whose stamp is newer; the stop may be reset already.
            is_overtaken = self._outputs.sent != sent_before
            if command.state is State.STOPPED:
                return is_overtaken and not self.settings.lockstep
            if self._interlock.stopped or is_overtaken:
                return True
            is_running, is_persons = (
                command.state is state for state in (State.RUNNING, State.TAKEOVER)
            )
            is_overdue = steady_ns() > (valid_until_ns if is_running else overdue_ns)
            self.overdue += is_overdue
            is_ending = END_REQUESTED.is_set or not self.active
            return is_overdue or ((is_running or is_persons) and is_ending)

        sent = command.values is not None and self._outputs.send(
            command.values,
            lambda: now_ns,
            is_void,
            is_persons=command.state is State.TAKEOVER,
            is_safe=self._is_safe(command),
            ahead=command.ahead,
        )
        self._note_sent(now_ns, sent_before)
        self.statistics.add(begun_ns, observation, command)
        if self.agreement is not None and in_force is not None:
            is_action = sent and command.state is State.RUNNING
            self.agreement.compare(in_force, command.values if is_action else None)
        if sent and command.state is State.RUNNING:
            self._note_latency(observation, time.monotonic_ns() - begun_ns)
        if self._candidates is not None and command.decision is not None:
            self._candidates.newest = command.decision
        if back_ns:
            self._node.get_logger().warning(
                f"the clock jumped back by {back_ns / 1e9:.3f} s: starting again with new data; "
                f"on a robot, check its time synchronisation (chrony, NTP)"
            )
        return sent

    def _hold_back(self, command: Command, tick_ns: int) -> None:
        """Wait until the policy's action is to be sent; a stop and the end do not wait."""
        if command.state is not State.RUNNING or self.settings.lockstep:  # by another clock
            return
        due_ns = tick_ns + self._send_after_ns
        while (left := due_ns - steady_ns()) > 0 and self.active and not self._interlock.stopped:
            time.sleep(min(left / 1e9, _LOOK_S))
            self._look_for_stop()

    def _note_sent(self, now_ns: int, sent_before: int) -> None:
        """Remember what the robot was sent in a tick, also by a stop that came meanwhile."""
        told = self._outputs.last if self._outputs.sent != sent_before else None
        if told is not None and self.agreement is None:
            self.observer.note_command(now_ns, told)

    def _valid_until_ns(self, observation: Observation, command: Command, tick_ns: int) -> float:
        """Until when an action may be sent, on the steady clock: its states must be fresh then."""
        if self.settings.lockstep:
            return math.inf
        fresh_ns = observation.fresh_ns / self.settings.real_time_factor
        return min(tick_ns + fresh_ns, command.until_ns, self._overdue_ns(tick_ns))

    def _overdue_ns(self, tick_ns: int) -> float:
        """Until when a command may be sent, on the steady clock, whatever it is but the stop's."""
        if self.settings.lockstep:
            return math.inf
        return tick_ns + _OVERDUE_PERIODS * self._period_ns

    def _is_safe(self, command: Command) -> bool:
        """Whether a command is the safe one, and nobody's wish."""
        if command.values is None or command.state in {State.RUNNING, State.TAKEOVER}:
            return False
        return np.array_equal(command.values, self.controller.safe_command)

    def _send_safe_command(self) -> None:
        def stamp_ns() -> int:
            return self._outputs.last_stamp_ns if self.settings.lockstep else self._ros_now_ns()

        self._outputs.send(self.controller.safe_command, stamp_ns, is_safe=True)

    def _note_clock(self, now_ns: int) -> int:
        """Begin anew where the clock was set back; return by how much."""
        back_ns, self._last_now_ns = max(0, self._last_now_ns - now_ns), now_ns
        if back_ns:
            self.clock_jumps += 1
            if not self.settings.lockstep:
                # In lockstep the new instant's messages are there already.
                self.observer.clock_went_back(now_ns)
            elif self.person is not None:
                self.person.clear()
            self.observer.begin_episode()
            self.controller.restart()
        return back_ns

    def _note_latency(self, observation: Observation, since_tick_ns: int) -> None:
        ages_ns = [observation.ages_ns[topic] for topic in self._live]
        newest_ns = min(age_ns for age_ns in ages_ns if age_ns is not None)
        self.statistics.add_latency(newest_ns + since_tick_ns)

    def _ros_now_ns(self) -> int:
        return int(self._node.get_clock().now().nanoseconds)


def _rivals(node: ManagedNode, contract: Contract, settings: LoopSettings) -> Rivals:
    """What looks for others who command the robot; in shadow mode somebody else is to."""
    streams = () if settings.shadow else contract.action
    goals = [] if settings.lockstep else [each.send_as for each in streams if each.send_as]
    topics, actions = [each.topic for each in streams], [each.action for each in goals]
    return Rivals(node, topics, actions, is_commander=True)
