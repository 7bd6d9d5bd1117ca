"""Lives a fuzzer's script: sends a running policy node what it says, and notes when."""

from __future__ import annotations

import math
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from geometry_msgs.msg import PointStamped
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from rcl_interfaces.msg import Parameter, ParameterType, ParameterValue
from rcl_interfaces.srv import ListParameters, SetParameters
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rclpy.serialization import serialize_message
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import JointState
from std_msgs.msg import Bool, Float64MultiArray
from std_srvs.srv import Trigger

from dql_ros.nodes.topics import reliable, time_message
from tests.ros.nodes.fuzz import fuzz_script
from tests.ros.nodes.fuzz.fuzz_oracle import END_S, Event, Kind, Rules, Worth
from tests.ros.nodes.fuzz.fuzz_script import Act, Script
from tests.ros.nodes.robot import SAFE, TIMEOUT_S, Robot

NODE = "policy"
COMMANDS = "joint_commands"
ALLOWANCE_S = 0.1
CONTRACT = f"""
robot: fuzzed
rate_hz: 20.0
observation:
  - topic: joint_states
    type: sensor_msgs/msg/JointState
    stamp: header
    max_age_s: 0.3
    fields: [{{path: position, joints: [shoulder, elbow], unit: rad, low: -3.2, high: 3.2}}]
  - topic: load
    type: std_msgs/msg/Float64MultiArray
    stamp: receive
    max_age_s: 0.4
    fields: [{{path: data, indices: [0], low: -100.0, high: 100.0}}]
  - topic: target
    type: geometry_msgs/msg/PointStamped
    stamp: header
    latched: true
    fields: [{{path: point.x, unit: m}}, {{path: point.y, unit: m}}]
action:
  - topic: {COMMANDS}
    type: sensor_msgs/msg/JointState
    fields:
      - {{path: velocity, joints: [shoulder], unit: rad/s, low: -2.0, high: 2.0, max_rate: 15.0}}
      - {{path: velocity, joints: [elbow], unit: rad/s, low: -2.0, high: 2.0}}
on_fault: {{command: {SAFE}}}
"""
RULES = Rules(
    safe=tuple(SAFE),
    low=(-2.0, -2.0),
    high=(2.0, 2.0),
    max_step=(0.75, math.inf),
    period_s=0.05,
    max_age_s={"joint_states": 0.3, "load": 0.4},
    allowance_s=ALLOWANCE_S,
)
RIVAL = (77.0, 77.0)
_STATE_S, _CLOCK_S, _LOAD_S, _RIVAL_S, _SECOND_CLOCK_S = 0.01, 0.01, 0.05, 0.01, 0.05
_AHEAD_S = {"ahead": 2.0, "far ahead": 3600.0, "back": -5.0, "slightly old": -0.1}
_NUMBERS = {"nan": math.nan, "infinite": math.inf, "1e3": 1e3, "1e30": 1e30, "1e300": 1e300}
_TRANSITIONS = {
    "configure": Transition.TRANSITION_CONFIGURE,
    "activate": Transition.TRANSITION_ACTIVATE,
    "deactivate": Transition.TRANSITION_DEACTIVATE,
    "cleanup": Transition.TRANSITION_CLEANUP,
    "shutdown": Transition.TRANSITION_ACTIVE_SHUTDOWN,
    "destroy": Transition.TRANSITION_DESTROY,
    "nonsense": 200,
}


class Fuzzer:
    """Lives one script."""

    def __init__(
        self, robot: Robot, script: Script, folder: Path, contract: Path, bundle: Path
    ) -> None:
        self._robot, self._script = robot, script
        self._events: list[Event] = []
        self._rng = random.Random(0)
        commands = {"topic": COMMANDS, "out": str(folder / "commands.jsonl")}
        self._recorder = robot.run("tests.ros.nodes.command_recorder", "recorder", **commands)
        self._process = robot.start(
            NODE,
            contract=str(contract),
            policy=str(bundle),
            device="cpu",
            activation_timeout_s=0.5,
            when_too_slow="warn",
            use_sim_time=script.is_simulated,
        )
        node = self._node = robot.probe.node
        self._states = node.create_publisher(JointState, "joint_states", reliable(10))
        self._load = node.create_publisher(Float64MultiArray, "load", reliable(10))
        self._target = node.create_publisher(PointStamped, "target", reliable(1, latched=True))
        volatile = QoSProfile(
            depth=10,
            reliability=ReliabilityPolicy.RELIABLE,
            durability=DurabilityPolicy.VOLATILE,
        )
        self._stops = {
            "latched": node.create_publisher(Bool, f"{NODE}/stop", reliable(10, latched=True)),
            "volatile": node.create_publisher(Bool, f"{NODE}/stop", volatile),
        }
        self._clock = node.create_publisher(Clock, "/clock", reliable(10))
        self._clients = {
            name: node.create_client(kind, f"{NODE}/{name}")
            for name, kind in {
                "change_state": ChangeState,
                "reset_stop": Trigger,
                "pause": Trigger,
                "resume": Trigger,
                "set_parameters": SetParameters,
                "list_parameters": ListParameters,
            }.items()
        }
        self._rival: Any = None
        self._is_frozen = False
        # The simulated clock: its lead over the steady one, and where it stands, in nanoseconds.
        self._lead_ns = 0
        self._stands_ns: int | None = None
        self._do_stamps_go_on = False
        self._second_clock_ns = 0
        self._has_second_spoken = False

    def live(self) -> list[Event]:
        """Do it all; return what was done."""
        self._await_start()
        begun_s = time.monotonic()
        acts = list(self._script.acts)
        repeats = [
            (_STATE_S, self._show_state),
            (_LOAD_S, self._show_load),
            (_RIVAL_S, self._contest),
        ]
        if self._script.is_simulated:
            repeats += [(_CLOCK_S, self._tell_time), (_SECOND_CLOCK_S, self._tell_other_time)]
        due_s = dict.fromkeys(range(len(repeats)), 0.0)
        while (now_s := time.monotonic() - begun_s) < self._script.seconds:
            if self._process.exit_code is not None:
                break
            while acts and acts[0].at_s <= now_s:
                self._do(acts.pop(0))
            for index, (period_s, repeat) in enumerate(repeats):
                if now_s >= due_s[index]:
                    repeat(now_s)
                    due_s[index] = max(due_s[index] + period_s, now_s)
            self._robot.probe.spin(0.002)
        self._end()
        return self._events

    def _await_start(self) -> None:
        def is_there() -> bool:
            heard = all(each.get_subscription_count() for each in self._stops.values())
            served = all(each.service_is_ready() for each in self._clients.values())
            return heard and served

        self._robot.probe.until(is_there, "the policy node")

    def _end(self) -> None:
        """End the process with the script's signal, and wait until all is written."""
        if self._rival is not None:
            self._do_rival_ends(Act(0.0, ""))
        # First: it would make the kernel forget a SIGTSTP.
        self._do_thaw(Act(0.0, ""))
        if self._process.exit_code is None:
            self._note(Kind.END, self._script.end.name)
            self._process.send_signal(self._script.end)
        limit_s = time.monotonic() + END_S + 2.0
        while self._process.exit_code is None and time.monotonic() < limit_s:
            self._robot.probe.spin(0.01)
        event = self._note(Kind.ENDED, f"exit code {self._process.exit_code}")
        event.success = self._process.exit_code == 0
        if not event.success:
            event.detail += f": {self._process.last_words}"
            self._robot.kill(self._process)
        for _ in range(20):
            self._robot.probe.spin(0.01)
        self._recorder.send_signal(signal.SIGINT)
        self._recorder.wait(TIMEOUT_S)

    def _note(self, kind: Kind, detail: str = "", **more: Any) -> Event:
        event = Event(time.monotonic(), kind, detail, **more)
        self._events.append(event)
        return event

    # Streams.

    def _manner(self, stream: str, now_s: float) -> str:
        phases = self._script.flows[stream]
        return next((each.manner for each in phases if now_s < each.until_s), "valid")

    def _show_state(self, now_s: float) -> None:
        manner = self._manner("joint_states", now_s)
        if manner == fuzz_script.SILENCE:
            return
        worth = fuzz_script.STATES[manner]
        lead_s = self._stamp_lead_s()
        # What is stamped after the time on a clock that stands is not yet to be seen.
        if lead_s > (RULES.period_s if worth is Worth.VALID else 0.0):
            worth = Worth.USELESS
        age_s = -_AHEAD_S.get(manner, 0.0)
        message = self._state(manner, lead_s)
        self._note(Kind.MESSAGE, manner, stream="joint_states", worth=worth, age_s=age_s)
        self._states.publish(message)

    def _state(self, manner: str, lead_s: float) -> Any:
        shoulder = _NUMBERS.get(manner, self._rng.uniform(-1.0, 1.0))
        names = ["elbow", "shuolder" if manner == "wrong joint" else "shoulder"]
        message = JointState(name=names, position=[0.2, shoulder], velocity=[0.0, 0.0])
        if manner == "too short":
            message.position = [0.2]
        if manner == "empty":
            message = JointState()
        ahead_s = _AHEAD_S.get(manner, 0.0) + lead_s
        if manner != "stamp zero":
            message.header.stamp = time_message(self._now_ns() + round(ahead_s * 1e9))
        if manner == "nanosec invalid":
            message.header.stamp.nanosec = 4_000_000_000
        return self._raw(manner, message)

    def _raw(self, manner: str, message: Any) -> Any:
        """Return the message, or bytes that are none."""
        if manner == "garbage":
            return b"\x00\x01\x00\x00" + self._rng.randbytes(self._rng.randrange(0, 200))
        if manner == "cut off":
            whole = serialize_message(message)
            return bytes(whole[: self._rng.randrange(4, len(whole) // 2)])
        return message

    def _show_load(self, now_s: float) -> None:
        manner = self._manner("load", now_s)
        if manner == fuzz_script.SILENCE:
            return
        message = Float64MultiArray(data=[_NUMBERS.get(manner, 1.0)])
        if manner == "empty":
            message.data = []
        worth = fuzz_script.LOADS[manner]
        self._note(Kind.MESSAGE, manner, stream="load", worth=worth)
        self._load.publish(self._raw(manner, message))

    def _do_target(self, act: Act) -> None:
        message = PointStamped()
        message.point.x, message.point.y = _NUMBERS.get(act.detail, 0.26), 0.19
        ahead_s = _AHEAD_S.get(act.detail, 0.0) + self._stamp_lead_s()
        message.header.stamp = time_message(self._now_ns() + round(ahead_s * 1e9))
        worth = fuzz_script.TARGETS[act.detail]
        self._note(Kind.MESSAGE, act.detail, stream="target", worth=worth)
        self._target.publish(self._raw(act.detail, message))

    def _do_burst(self, _act: Act) -> None:
        for _ in range(50):
            self._show_state(0.0)

    # Clocks.

    def _now_ns(self) -> int:
        """Now, on the clock that the node has."""
        if not self._script.is_simulated:
            return time.time_ns()
        if self._stands_ns is not None:
            return self._stands_ns
        return time.monotonic_ns() + 1000 * 1_000_000_000 + self._lead_ns

    def _stamp_lead_s(self) -> float:
        """How far stamps are ahead of a clock that stands while they go on."""
        if self._stands_ns is None or not self._do_stamps_go_on:
            return 0.0
        goes_ns = time.monotonic_ns() + 1000 * 1_000_000_000 + self._lead_ns
        return (goes_ns - self._stands_ns) / 1e9

    def _tell_time(self, _now_s: float) -> None:
        if self._has_second_spoken:
            self._has_second_spoken = False
            self._note(Kind.SECOND_CLOCK, "is gone")
        self._clock.publish(Clock(clock=time_message(self._now_ns())))

    def _tell_other_time(self, _now_s: float) -> None:
        if self._second_clock_ns:
            self._has_second_spoken = True
            self._note(Kind.SECOND_CLOCK, "speaks")
            now_ns = self._now_ns() + self._second_clock_ns
            self._clock.publish(Clock(clock=time_message(now_ns)))

    def _do_clock_jump(self, act: Act) -> None:
        self._note(Kind.CLOCK_JUMP, f"by {act.number:g} s")
        self._lead_ns += round(act.number * 1e9)
        if self._stands_ns is not None:
            self._stands_ns += round(act.number * 1e9)
        self._tell_time(0.0)

    def _do_clock_stand_begins(self, act: Act) -> None:
        self._stands_ns, self._do_stamps_go_on = self._now_ns(), act.number > 0.5
        how = "stamps go on" if self._do_stamps_go_on else "stamps stand"
        self._note(Kind.OTHER, f"the clock stands, {how}")

    def _do_clock_stand_ends(self, _act: Act) -> None:
        if self._stands_ns is not None:
            stood_ns, self._stands_ns = self._stands_ns, None
            stood_s = (self._now_ns() - stood_ns) / 1e9
            has_jumped = stood_s > max(RULES.max_age_s.values())
            kind = Kind.CLOCK_JUMP if has_jumped else Kind.OTHER
            self._note(kind, f"the clock goes again after {stood_s:.3f} s")

    def _do_second_clock_begins(self, act: Act) -> None:
        self._second_clock_ns = 50_000_000_000 if act.number > 0.5 else -50_000_000_000

    def _do_second_clock_ends(self, _act: Act) -> None:
        self._second_clock_ns = 0

    # Stops, requests, rivals, signals.

    def _do_stop(self, act: Act) -> None:
        self._note(Kind.STOP, act.detail)
        self._stops[act.detail].publish(Bool(data=True))

    def _do_release(self, act: Act) -> None:
        self._note(Kind.RELEASE, act.detail)
        self._stops[act.detail].publish(Bool(data=False))

    def _do_garbage_stop(self, _act: Act) -> None:
        # Whatever it is taken for.
        self._note(Kind.RELEASE, "garbage")
        self._stops["volatile"].publish(b"\x00\x01\x00\x00")

    def _do_reset(self, _act: Act) -> None:
        self._ask("reset_stop", Trigger.Request(), Kind.RESET)

    def _do_pause(self, _act: Act) -> None:
        self._ask("pause", Trigger.Request(), Kind.PAUSE)

    def _do_resume(self, _act: Act) -> None:
        self._ask("resume", Trigger.Request(), Kind.RESUME)

    def _do_transition(self, act: Act) -> None:
        request = ChangeState.Request(transition=Transition(id=_TRANSITIONS[act.detail]))
        self._ask("change_state", request, Kind.TRANSITION, act.detail)

    def _do_parameter(self, act: Act) -> None:
        kind = ParameterType.PARAMETER_STRING
        value = ParameterValue(type=kind, string_value="nonsense")
        request = SetParameters.Request(parameters=[Parameter(name=act.detail, value=value)])
        self._ask("set_parameters", request, Kind.OTHER, f"set parameter '{act.detail}'")
        self._ask("list_parameters", ListParameters.Request(), Kind.OTHER, "list parameters")

    def _ask(self, service: str, request: Any, kind: Kind, detail: str = "") -> None:
        event = self._note(kind, detail)

        def note(future: Any) -> None:
            event.answered_s = time.monotonic()
            event.success = bool(getattr(future.result(), "success", True))

        self._clients[service].call_async(request).add_done_callback(note)

    def _do_rival_begins(self, _act: Act) -> None:
        if self._rival is None:
            event = self._note(Kind.RIVAL, "begins")
            self._rival = self._node.create_publisher(JointState, COMMANDS, reliable(1)), event

    def _do_rival_ends(self, _act: Act) -> None:
        if self._rival is not None:
            publisher, event = self._rival
            self._node.destroy_publisher(publisher)
            event.answered_s = time.monotonic()
            self._note(Kind.OTHER, "the rival is gone")
            self._rival = None

    def _contest(self, _now_s: float) -> None:
        if self._rival is not None:
            names = ["shoulder", "elbow"]
            self._rival[0].publish(JointState(name=names, velocity=list(RIVAL)))

    def _do_freeze(self, _act: Act) -> None:
        if not self._is_frozen:
            self._is_frozen = True
            self._note(Kind.FREEZE)
            self._process.send_signal(signal.SIGSTOP)

    def _do_thaw(self, _act: Act) -> None:
        if self._is_frozen:
            self._is_frozen = False
            self._note(Kind.THAW)
            self._process.send_signal(signal.SIGCONT)

    def _do(self, act: Act) -> None:
        doing: Callable[[Act], None] = getattr(self, f"_do_{act.what.replace(' ', '_')}")
        doing(act)
