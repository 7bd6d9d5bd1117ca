"""A policy node that is suspended, starved, asked for nonsense, or stopped at the worst moment."""

import os
import random
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from hashlib import sha256
from itertools import pairwise
from pathlib import Path
from typing import Any

import onnx
import pytest
from lifecycle_msgs.msg import State, Transition
from lifecycle_msgs.srv import ChangeState
from onnx import TensorProto, helper
from rosgraph_msgs.msg import Clock
from std_msgs.msg import Bool, Float64MultiArray
from std_srvs.srv import Trigger

from dql_core.runtime.manifest import read_manifest
from dql_ros.nodes.topics import reliable, time_message
from dql_ros.processes import NodeProcess
from tests.ros.control.test_realtime_priority import PERMITTED
from tests.ros.nodes import scripted_policy_node as scripted
from tests.ros.nodes.arm import NODE, Arm, Told, state_of, trigger
from tests.ros.nodes.robot import SAFE, SCARA, Robot

pytestmark = pytest.mark.ros
SCRIPTED = "tests.ros.nodes.scripted_policy_node"
SECOND_NS = 1_000_000_000
ACTION = [scripted.ACTION] * 2
PERIOD_S = 0.1
# A command that was on its way when a stop came may still arrive.
DELIVERY_S = 0.03
SUSPENSIONS, STOPS, REQUESTS = 6, 25, 100


class Wire:
    """Commands and when they were sent, by the middleware's stamps; seconds of the wall clock."""

    def __init__(self, robot: Robot) -> None:
        self.sent: list[tuple[float, list[float]]] = []
        heard: Any = self._note
        robot.probe.node.create_subscription(
            Float64MultiArray, "velocity_controller/commands", heard, reliable(1000)
        )

    def since(self, at_s: float) -> list[tuple[float, list[float]]]:
        """Return what was sent since then."""
        return [(sent_s, values) for sent_s, values in self.sent if sent_s >= at_s]

    def _note(self, command: Any, info: dict[str, int]) -> None:
        self.sent.append((info["source_timestamp"] / 1e9, list(command.data)))


class Moving:
    """A policy node that moves an arm, in real or in simulated time."""

    def __init__(self, robot: Robot, contract: Path, *, simulated: bool = False) -> None:
        self.robot, self._simulated = robot, simulated
        self._clock = robot.probe.node.create_publisher(Clock, "/clock", reliable(10))
        self.process: NodeProcess = robot.run(
            SCRIPTED, NODE, contract=str(contract), autostart=True, use_sim_time=simulated
        )
        self.arm, self.wire, self.told = Arm(robot), Wire(robot), Told(robot)
        self.arm.aim(self._now_ns())
        self.live(lambda: self.arm.last == ACTION, "the arm to move")

    def live(self, condition: Callable[[], Any], what: str, shoulder: float = 0.1) -> None:
        """Publish states, and the clock, until something is so."""

        def shown() -> Any:
            now_ns = self._now_ns()
            if self._simulated:
                self._clock.publish(Clock(clock=time_message(now_ns)))
            self.arm.show(now_ns, shoulder)
            return condition()

        self.robot.probe.until(shown, what)

    def live_for(self, seconds: float) -> None:
        """Publish states for a while."""
        self.live(partial(is_past, time.time() + seconds), "some time")

    def _now_ns(self) -> int:
        return self.arm.now_ns - (1_000_000_000 * SECOND_NS if self._simulated else 0)


@pytest.fixture(name="moving")
def _moving(robot: Robot, scara: Path) -> Moving:
    return Moving(robot, scara)


def is_past(at_s: float) -> bool:
    return time.time() >= at_s


def are_done(answers: list[Any]) -> bool:
    return all(answer.done() for answer in answers)


def wait(robot: Robot, seconds: float) -> None:
    """Listen, and say nothing."""
    robot.probe.until(partial(is_past, time.time() + seconds), "some time")


def test_what_was_due_in_a_suspension_is_not_made_up_for(moving: Moving) -> None:
    phases = random.Random(0)
    for _ in range(SUSPENSIONS):
        moving.process.send_signal(signal.SIGSTOP)
        moving.live_for(phases.uniform(0.3, 0.6))
        woken_s = time.time()
        moving.process.send_signal(signal.SIGCONT)
        moving.live_for(4.5 * PERIOD_S)
        after = [sent_s for sent_s, _ in moving.wire.since(woken_s)]
        assert len(after) >= 3
        assert min(b - a for a, b in pairwise(after)) > 0.5 * PERIOD_S, after
        moving.live(lambda: moving.arm.last == ACTION, "the arm to move again")


@pytest.mark.parametrize("simulated", [False, True], ids=["real time", "simulated time"])
@pytest.mark.parametrize("shown_s", [0.0, 0.1], ids=["nothing came", "states waited"])
def test_nothing_is_decided_from_what_was_known_before_a_suspension(
    robot: Robot, scara: Path, simulated: bool, shown_s: float
) -> None:
    """The encoder fails meanwhile; what it had sent before waits for the node."""
    moving = Moving(robot, scara, simulated=simulated)
    for _ in range(3):
        moving.process.send_signal(signal.SIGSTOP)
        moving.live_for(shown_s)
        wait(robot, 1.0)
        woken_s = time.time()
        moving.process.send_signal(signal.SIGCONT)
        wait(robot, 5 * PERIOD_S)
        after = moving.wire.since(woken_s)
        assert len(after) >= 3
        assert all(values == SAFE for _, values in after), after
        moving.live(lambda: moving.arm.last == ACTION, "the arm to move again")


@pytest.mark.parametrize("state", ["unconfigured", "inactive", "active"])
def test_a_request_that_the_state_does_not_have_is_refused_and_answered(
    robot: Robot, scara: Path, state: str
) -> None:
    robot.run(SCRIPTED, NODE, contract=str(scara), autostart=state == "active")
    probe, arm = robot.probe, Arm(robot)
    if state == "inactive":
        assert probe.change_state(NODE, Transition.TRANSITION_CONFIGURE)
    if state == "active":
        arm.aim(arm.now_ns)
        arm.live(lambda: arm.last == ACTION, "the arm to move")
    before = state_of(robot)
    valid = {
        "unconfigured": {Transition.TRANSITION_CONFIGURE},
        "inactive": {Transition.TRANSITION_ACTIVATE, Transition.TRANSITION_CLEANUP},
        "active": {Transition.TRANSITION_DEACTIVATE},
    }[state]
    kinds = [*range(5), *range(8, 100), *range(200, 256)]
    labels = ("", "nonsense", "\n", 1000 * "x")
    invalid = [Transition(id=255, label=label) for label in labels]
    invalid += [Transition(id=kind) for kind in kinds if kind not in valid]
    client = probe.node.create_client(
        ChangeState, f"{NODE}/change_state", qos_profile=reliable(REQUESTS)
    )
    probe.until(client.service_is_ready, "the service")
    requests = [ChangeState.Request(transition=each) for each in invalid[:REQUESTS]]
    answers = [client.call_async(request) for request in requests]
    arm.live(partial(are_done, answers), "all answers")
    assert not any(each.result().success for each in answers)
    assert state_of(robot) == before
    if state == "active":
        seen = len(arm.commands)
        arm.live(lambda: len(arm.commands) >= seen + 5, "commands")
        assert all(list(command.data) == ACTION for command in arm.commands)


@pytest.mark.slow
def test_a_stop_that_comes_while_activation_waits_lets_no_action_pass(
    robot: Robot, scara: Path
) -> None:
    robot.run(SCRIPTED, NODE, contract=str(scara))
    probe, arm, wire = robot.probe, Arm(robot), Wire(robot)
    button = probe.node.create_publisher(Bool, f"{NODE}/stop", reliable(1, latched=True))
    clients = {
        name: probe.node.create_client(kind, f"{NODE}/{name}")
        for name, kind in {"change_state": ChangeState, "reset_stop": Trigger}.items()
    }
    probe.until(lambda: all(each.service_is_ready() for each in clients.values()), "the node")

    def ask(transition: int) -> Any:
        request = ChangeState.Request(transition=Transition(id=transition))
        return clients["change_state"].call_async(request)

    def live_slowly(condition: Callable[[], Any], what: str) -> None:
        """Publish a state each period: activation waits for one more when all is fresh."""
        due_s = 0.0

        def shown() -> Any:
            nonlocal due_s
            if time.time() >= due_s:
                due_s = time.time() + PERIOD_S
                arm.show(arm.now_ns)
            return condition()

        probe.until(shown, what)

    probe.until(ask(Transition.TRANSITION_CONFIGURE).done, "the configuration")
    arm.aim(arm.now_ns)
    for turn in range(STOPS):
        activation = ask(Transition.TRANSITION_ACTIVATE)
        wait(robot, 0.05)
        # While it waits for the first state, then for the next, and when the first tick is due.
        press_s = time.time() + 0.01 * turn
        live_slowly(partial(is_past, press_s), "the moment")
        pressed_s = time.time()
        button.publish(Bool(data=True))
        live_slowly(activation.done, "the activation")
        assert activation.result().success
        settled_s = time.time() + 3 * PERIOD_S
        live_slowly(partial(is_past, settled_s), "commands")
        late = [
            (sent_s - pressed_s, values)
            for sent_s, values in wire.since(pressed_s + DELIVERY_S)
            if values != SAFE
        ]
        assert not late, f"stop {turn}: {late}"
        deactivation = ask(Transition.TRANSITION_DEACTIVATE)
        probe.until(deactivation.done, "the deactivation")
        button.publish(Bool(data=False))
        probe.until(lambda: trigger(robot, "reset_stop")[0], "the reset")


def test_the_slew_limit_holds_after_a_stop_that_is_reset_at_once(
    robot: Robot, tmp_path: Path
) -> None:
    """Between two ticks: the next action goes on from the safe command, which was sent."""
    text = SCARA.read_text().replace("[0.0, 0.0]", str(SAFE))
    assert "high: 2.0}" in text
    path = tmp_path / "slow.yaml"
    path.write_text(text.replace("high: 2.0}", "high: 2.0, max_rate: 2.0}"))
    moving = Moving(robot, path)
    probe = robot.probe
    button = probe.node.create_publisher(Bool, f"{NODE}/stop", reliable(1))
    reset = probe.node.create_client(Trigger, f"{NODE}/reset_stop")
    probe.until(lambda: button.get_subscription_count() and reset.service_is_ready(), "the node")
    for _ in range(3):
        moving.live(lambda: moving.arm.last == ACTION, "the arm to move")
        sent = len(moving.wire.sent)
        moving.live(lambda: len(moving.wire.sent) > sent, "a tick")  # noqa: B023 - called at once
        button.publish(Bool(data=True))
        moving.live(lambda: moving.arm.last == SAFE, "the stop")
        button.publish(Bool(data=False))
        granted = False
        while not granted:
            answer = reset.call_async(Trigger.Request())
            moving.live(answer.done, "an answer")
            granted = answer.result().success
        moving.live_for(3 * PERIOD_S)
    for (_, before), (_, after) in pairwise(moving.wire.sent):
        step = max(abs(a - b) for a, b in zip(before, after, strict=True))
        assert after == SAFE or step <= 0.2 + 1e-5, (before, after)


@contextmanager
def on_one_core() -> Iterator[None]:
    """Let what is started meanwhile run on one core only."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@pytest.mark.skipif(not PERMITTED, reason="a real-time priority is not permitted")
@pytest.mark.parametrize("stuck", [scripted.SPIN, scripted.LOOP], ids=["native", "Python"])
def test_inference_that_computes_for_ever_does_not_starve_the_stop_on_one_core(
    robot: Robot, scara: Path, stuck: float
) -> None:
    """With a real-time priority, nothing but that of the others makes it yield the core."""
    with on_one_core():
        moving = Moving(robot, scara)
    button = robot.probe.node.create_publisher(Bool, f"{NODE}/stop", reliable(1, latched=True))
    robot.probe.until(lambda: button.get_subscription_count() == 2, "the node to listen")
    moving.live(lambda: moving.arm.last == SAFE, "the policy to be stuck", shoulder=stuck)
    begun_s = time.monotonic()
    button.publish(Bool(data=True))
    robot.probe.until(lambda: moving.told.state == "stopped", "the stop")
    assert time.monotonic() - begun_s < 1.0
    begun_s = time.monotonic()
    moving.process.send_signal(signal.SIGINT)
    robot.probe.until(lambda: moving.process.wait(0.0), "the end")
    assert time.monotonic() - begun_s < 5.0
    assert moving.process.exit_code == 0
    robot.probe.until(lambda: moving.arm.last == SAFE, "the safe command")


def test_the_last_line_of_a_node_that_fails_says_why(moving: Moving) -> None:
    arm, process = moving.arm, moving.process
    while not process.wait(0.0):
        arm.show(arm.now_ns, scripted.CRASH)
        moving.robot.probe.spin()
    assert process.exit_code == 1
    assert process.last_words == "ZeroDivisionError: the policy broke"


@pytest.fixture(name="endless_bundle")
def _endless_bundle(scara_bundle: Path, tmp_path: Path) -> Path:
    """A bundle, whole by its hashes, whose graph never comes to an end."""
    bundle = tmp_path / "endless"
    shutil.copytree(scara_bundle, bundle)
    graph = endless_graph().SerializeToString()
    (bundle / "policy.onnx").write_bytes(graph)
    manifest = read_manifest(bundle)
    files = manifest.files | {"policy.onnx": sha256(graph).hexdigest()}
    (bundle / "manifest.json").write_text(manifest.model_copy(update={"files": files}).to_text())
    return bundle


def endless_graph() -> Any:
    """An ONNX graph with the inputs and outputs of a bundle's, and a loop that never ends."""
    kind = TensorProto.FLOAT

    def value(name: str, *shape: Any) -> Any:
        return helper.make_tensor_value_info(name, kind, list(shape))

    body = helper.make_graph(
        [
            helper.make_node("Identity", ["goes_on"], ["still_goes_on"]),
            helper.make_node("Cos", ["before"], ["after"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("turn", TensorProto.INT64, []),
            helper.make_tensor_value_info("goes_on", TensorProto.BOOL, []),
            value("before", 2),
        ],
        [helper.make_tensor_value_info("still_goes_on", TensorProto.BOOL, []), value("after", 2)],
    )
    constants = [
        helper.make_tensor("turns", TensorProto.INT64, [], [2**62]),
        helper.make_tensor("yes", TensorProto.BOOL, [], [True]),
        helper.make_tensor("first", TensorProto.INT64, [1], [0]),
        helper.make_tensor("third", TensorProto.INT64, [1], [2]),
        helper.make_tensor("zero", TensorProto.INT64, [], [0]),
    ]
    nodes = [
        helper.make_node("Slice", ["observation", "first", "third"], ["begin"]),
        helper.make_node("Loop", ["turns", "yes", "begin"], ["action"], body=body),
        helper.make_node("Identity", ["selection_noise"], ["q_values"]),
        helper.make_node("Gather", ["noise", "zero"], ["candidates"]),
    ]
    graph = helper.make_graph(
        nodes,
        "endless",
        [value("observation", 4), value("noise", 5, "K", 2), value("selection_noise", "K")],
        [value("action", 2), value("q_values", "K"), value("candidates", "K", 2)],
        constants,
    )
    return onnx.helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10
    )


def test_a_graph_that_never_ends_is_refused_before_it_runs(
    robot: Robot, scara: Path, endless_bundle: Path
) -> None:
    process = robot.start(NODE, contract=str(scara), policy=str(endless_bundle))
    assert not robot.probe.change_state(NODE, Transition.TRANSITION_CONFIGURE)
    assert state_of(robot) == State.PRIMARY_STATE_UNCONFIGURED
    robot.probe.until(lambda: "policy.onnx: has a subgraph" in process.last_words, "the reason")


@pytest.mark.parametrize("waits", ["configure", "activate"])
def test_a_stop_that_is_released_at_once_is_not_lost(
    robot: Robot, scara: Path, waits: str
) -> None:
    """By a button that repeats its state, while the executor is busy with a transition."""
    robot.run(SCRIPTED, NODE, contract=str(scara), candidate_s=0.002, activation_timeout_s=20.0)
    arm, told, node = Arm(robot), Told(robot), robot.probe.node
    button = node.create_publisher(Bool, f"{NODE}/stop", 1)
    robot.probe.until(lambda: button.get_subscription_count() > 0, "a listener")
    if waits == "activate":
        assert robot.probe.change_state(NODE, Transition.TRANSITION_CONFIGURE)
    transition = getattr(Transition, f"TRANSITION_{waits.upper()}")
    answer = robot.probe.begin_transition(NODE, transition)
    wait(robot, 0.2)
    for pressed in 50 * [True] + 300 * [False]:
        button.publish(Bool(data=pressed))
        wait(robot, 0.001)
    if waits == "configure":
        robot.probe.until(answer.done, "the configured state")
        answer = robot.probe.begin_transition(NODE, Transition.TRANSITION_ACTIVATE)
    arm.aim(arm.now_ns)
    arm.live(answer.done, "the activation")
    arm.live(lambda: told.state == "stopped" and len(arm.commands) > 3, "the stopped state")
    assert all(list(command.data) == SAFE for command in arm.commands)


def test_a_held_action_is_not_sent_after_a_suspension(robot: Robot, tmp_path: Path) -> None:
    """Suspended during inference; hold and ramp would be long over."""
    contract = tmp_path / "scara.yaml"
    rules = f"on_fault: {{hold_s: 0.3, ramp_s: 0.2, command: {SAFE}}}"
    contract.write_text(SCARA.read_text().replace("on_fault: {command: [0.0, 0.0]}", rules))
    process = robot.run(
        SCRIPTED, NODE, contract=str(contract), autostart=True, candidate_s=0.01, num_candidates=8
    )
    arm, wire = Arm(robot), Wire(robot)
    arm.aim(arm.now_ns)
    for _ in range(SUSPENSIONS):
        arm.live(lambda: arm.last == ACTION, "the arm to move")
        process.send_signal(signal.SIGSTOP)
        wait(robot, 1.5)
        woken_s = time.time()
        process.send_signal(signal.SIGCONT)
        wait(robot, 3 * PERIOD_S)
        after = [values for _, values in wire.since(woken_s)]
        assert after
        assert all(values == SAFE for values in after), after


@pytest.mark.skipif(not PERMITTED, reason="no real-time priority is permitted here")
def test_a_policy_that_was_given_up_keeps_nothing_from_a_core(robot: Robot, scara: Path) -> None:
    process = robot.run(SCRIPTED, NODE, contract=str(scara), autostart=True)
    arm, told = Arm(robot), Told(robot)
    arm.aim(arm.now_ns)
    arm.live(lambda: arm.last == ACTION, "the arm to move")
    arm.live(lambda: told.state == "fault", "the policy to be stuck", shoulder=scripted.SPIN)
    for transition in (Transition.TRANSITION_DEACTIVATE, Transition.TRANSITION_CLEANUP):
        assert robot.probe.change_state(NODE, transition)
    for _ in range(2):
        assert not robot.probe.change_state(NODE, Transition.TRANSITION_CONFIGURE)
        robot.probe.until(
            lambda: "a policy that took too long is still running" in process.last_words,
            "the reason",
        )
    threads = [int(path.name) for path in Path(f"/proc/{process.pid}/task").iterdir()]
    assert 49 not in {os.sched_getparam(thread).sched_priority for thread in threads}
    process.send_signal(signal.SIGINT)
    assert process.wait(10.0)
