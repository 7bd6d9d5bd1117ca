"""The lifecycle node that turns observations into commands, with a policy that it is given."""

from __future__ import annotations

import gc
import secrets
import sys
from collections.abc import Callable, Collection, Sequence
from dataclasses import fields, replace
from functools import partial
from typing import Any

from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.node import Node
from rclpy.publisher import Publisher
from std_msgs.msg import String

from dql_core.errors import ConfigError
from dql_core.runtime.fallback import Interlock
from dql_core.runtime.guard import GuardLimits
from dql_core.runtime.inference import Caller, SameThread, WorkerThread
from dql_core.spec import PolicySpec
from dql_ros.contract import Contract, Label, contract_path, load_contract
from dql_ros.control.loaded_policy import LoadedPolicy, beyond_delay, fit_to_limit
from dql_ros.control.settings import LoopSettings
from dql_ros.control.ticking import (
    REMEDY,
    lower_priority_of_this_thread,
    raise_priority_of_all_threads,
)
from dql_ros.nodes.base import ManagedNode, OutcomeServices
from dql_ros.nodes.control_loop import ControlLoop
from dql_ros.nodes.control_topics import SafetyInputs
from dql_ros.nodes.diagnostics import LoopMonitor
from dql_ros.nodes.parameters import (
    CONTRACT,
    Parameter,
    declare,
    path_of,
    require,
    value_of,
)
from dql_ros.nodes.readiness import NotReadyError
from dql_ros.nodes.start import END_REQUESTED
from dql_ros.nodes.topics import reliable, require_apart

# How long a thread that computes may keep the others waiting; Python's default is 5 ms.
_SWITCH_INTERVAL_S = 0.0005
_LABEL_DEPTH = 10
# What rcl publishes on, of which rclpy knows nothing.
_OF_RCL = ("/rosout", "~/transition_event")
_NOT_CONFIGURED = "the node is not configured"
_NO_OUTCOMES = "the contract has no 'outcomes': add 'outcomes: {}' to it"

PARAMETERS = (
    CONTRACT,
    Parameter(
        "mode",
        "real_time",
        "'real_time' ticks at the contract's rate, 'lockstep' answers each simulated state",
        choices=("real_time", "lockstep"),
    ),
    Parameter(
        "real_time_factor",
        1.0,
        "in real time with use_sim_time: simulated seconds per wall second; must be the "
        "simulator's, so that the node keeps the contract's rate on the simulator's clock",
        (0.01, 100.0),
    ),
    Parameter("autostart", False, "configure and activate at start"),
    Parameter(
        "configure_timeout_s",
        120.0,
        "time limit for loading and timing the policy, in seconds; after it configure fails and "
        "the process must be restarted",
        (1.0, 3600.0),
    ),
    Parameter(
        "activation_timeout_s",
        10.0,
        "in real time: how long activate waits for fresh data on every stream before it fails, in "
        "seconds; 0: become active at once, and send nothing until then",
        (0.0, 3600.0),
    ),
    Parameter("seed", -1, "seed of the sampled actions; -1: a new one at each start", (-1, 2**31)),
    Parameter(
        "warm_up_ticks", 0, "number of complete observations before the first command", (0, 10_000)
    ),
    Parameter(
        "max_z_score",
        10.0,
        "an observation is unusual if it is more than this many standard deviations from the "
        "training data's mean",
        (0.1, 1e9),
    ),
    Parameter(
        "fault_z_score",
        200.0,
        "an observation is a fault, and the policy does not act on it, if it is more than this "
        "many standard deviations from that mean; at least max_z_score",
        (0.1, 1e9),
    ),
    Parameter(
        "when_unusual",
        "warn",
        "on an unusual observation: warn only reports it, stop withholds the policy's action",
        choices=("warn", "stop"),
    ),
    Parameter(
        "inference_limit_s",
        0.0,
        "in real time: an action that takes longer to compute is dropped, in seconds; at most the "
        "control period, for chunks of actions what they leave; 0: that",
        (0.0, 10.0),
    ),
    Parameter(
        "execute",
        0,
        "actions of a chunk that are played before the next chunk is decided; 0: the policy's own "
        "number",
        (0, 1000),
    ),
    Parameter(
        "when_too_slow",
        "refuse",
        "in real time, at start: if the 99th percentile of the inference time is above that "
        "limit: refuse the policy, sample fewer candidates, or warn and drop late actions",
        choices=("refuse", "fewer_candidates", "warn"),
    ),
    Parameter(
        "send_after_s",
        0.0,
        "in real time: the policy's action is sent no sooner than so long after its tick, in "
        "seconds, so that inference delays it always alike; below the control period; 0: at once",
        (0.0, 10.0),
    ),
    Parameter(
        "on_rival",
        "stop",
        "if another node publishes commands too: stop refuses to activate or, when active, sends "
        "the safe command and deactivates; warn continues and reports an error",
        choices=("stop", "warn"),
    ),
    Parameter(
        "shadow",
        False,
        "in real time: commands go to ~/shadow/… only, none to the robot, which somebody else "
        "drives and with whom the diagnostics compare",
    ),
    Parameter(
        "action_smoothing",
        0.0,
        "share of the previous command in each command; the rest is the policy's action; 0: none",
        (0.0, 0.99),
    ),
    Parameter(
        "thread_priority",
        50,
        "in real time: SCHED_FIFO priority of the node's threads, if permitted, so that other "
        "programs do not delay its ticks; 0: none",
        (0, 98),
    ),
    Parameter(
        "candidates_hz",
        0.0,
        "highest rate at which the sampled actions and their Q values are published on "
        "~/candidates, in Hz; 0: never",
        (0.0, 1000.0),
    ),
    Parameter(
        "recorders",
        0,
        "in lockstep: number of recorders that must subscribe to the commands before the first is "
        "sent",
        (0, 100),
    ),
    Parameter(
        "await_person",
        False,
        "in lockstep: answer a state only once the person's switch was heard with its stamp, as "
        "where a program stands in for the person; the switch needs a header",
    ),
)

# Settings that are parameters of the same name, with the same values.
_SETTINGS = {each.name for each in PARAMETERS} & {each.name for each in fields(LoopSettings)} - {
    "seed",
    "thread_priority",
}
PolicyLoader = Callable[[Node, PolicySpec], LoadedPolicy]


class ControlNode(ManagedNode):
    """Runs a policy on a robot."""

    def __init__(self, name: str, parameters: Sequence[Parameter], load: PolicyLoader) -> None:
        """Declare the parameters and listen for a stop; all else waits for `configure`.

        Raises:
            ConfigError: If there is no such parameter, or its value is not allowed.
        """
        self._kept_free: Collection[str] = ()  # topics on which nothing may be published
        super().__init__(name)
        self._declared = (*PARAMETERS, *parameters)
        self._load = load
        self._loop: ControlLoop | None = None
        self._monitor: LoopMonitor | None = None
        self._caller: Caller = SameThread()
        self._inference_thread: WorkerThread | None = None
        declare(self, self._declared)
        self._interlock = Interlock()
        self._safety = SafetyInputs(self, self._interlock, self._on_safety_change)
        self._labels: Publisher | None = None
        self._unlabelled = _NOT_CONFIGURED
        OutcomeServices(self, self._label)

    @classmethod
    def started(
        cls, name: str, parameters: Sequence[Parameter], load: PolicyLoader
    ) -> ControlNode:
        """Make a node; configure and activate it if ``autostart`` asks for that.

        Raises:
            ConfigError: If there is no such parameter, or its value is not allowed.
            Exception: What made a transition fail.
        """
        node = cls(name, parameters, load)
        if value_of(node, "autostart"):
            node.ends_on_failure = True
            outcome = node.trigger_configure()
            if outcome == TransitionCallbackReturn.SUCCESS:
                outcome = node.trigger_activate()
            if outcome != TransitionCallbackReturn.SUCCESS and node.failure is not None:
                raise node.failure
            node.ends_on_failure = False
        else:
            full_name = node.get_fully_qualified_name()
            node.get_logger().info(
                f"unconfigured, and waits for: ros2 lifecycle set {full_name} configure, then "
                f"activate; or start it with -p autostart:=true"
            )
        return node

    def configure(self) -> None:
        """Load and compare contract and policy, warm the policy up, and open the topics.

        Raises:
            DqlError: If a file is missing or damaged, contract and policy do not agree, the
                policy is too slow, or the parameters do not agree.
        """
        require(self, self._declared)
        contract = self.load_contract()
        settings = self._settings()
        _require_agreeing(settings, is_simulated=value_of(self, "use_sim_time"))
        if settings.shadow:
            self._kept_free = {self.resolve_topic_name(each.topic) for each in contract.action}
            require_apart(
                [
                    *(publisher.topic_name for publisher in self.publishers),
                    *(self.resolve_topic_name(topic) for topic in _OF_RCL),
                ],
                self._kept_free,
            )
        if self._inference_thread is not None and self._inference_thread.is_alive():
            raise ConfigError(
                "a policy that took too long is still running: restart this node's process"
            )
        if not settings.lockstep:
            settings = replace(settings, thread_priority=self._take_priority())
        # One thread owns the policy, from its loading on: GPU graphs demand it.
        self._caller = self._inference_thread = WorkerThread("inference", self._is_over)
        loaded = self._load_in_time(contract, settings)
        interlock, look_for_stop = self._interlock, self._safety.poll
        self._loop = ControlLoop(
            self, contract, loaded, settings, interlock, self._caller, look_for_stop
        )
        facts = {
            "contract": f"{contract.robot} {contract.hash()[:12]}",
            "mode": value_of(self, "mode"),
            "num_candidates": str(loaded.num_candidates),
            "seed": str(settings.seed),
            "thread priority": str(settings.thread_priority),
        }
        self._monitor = LoopMonitor(self, self._loop, facts | dict(loaded.facts))
        self._unlabelled = _NO_OUTCOMES
        if contract.outcomes is not None:
            topic, quality = contract.outcomes.topic, reliable(_LABEL_DEPTH)
            self._labels = self.create_publisher(String, topic, quality)
        mode = ""
        if settings.shadow:
            mode = ", in shadow mode: the robot is sent nothing"
        self.get_logger().info(f"configured for '{contract.robot}' with {loaded.source}{mode}")

    def create_publisher(self, msg_type: Any, topic: str, *args: Any, **options: Any) -> Any:
        """Open a topic to publish on.

        Raises:
            ConfigError: If it commands the robot, in shadow mode.
        """
        require_apart([self.resolve_topic_name(topic)], self._kept_free)
        return super().create_publisher(msg_type, topic, *args, **options)

    def load_contract(self) -> Contract:
        """Read the contract that the parameters name.

        Raises:
            ContractError: If it is none.
        """
        return load_contract(contract_path(path_of(self, CONTRACT.name)))

    def activate(self) -> None:
        """Begin to act, once every stream is fresh.

        Raises:
            NotReadyError: If one is not in time.
        """
        if self._loop is not None and self._monitor is not None:
            self._monitor.begin()
            _shorten_delays()
            self._loop.await_readiness()
            self._loop.start()

    def deactivate(self) -> None:
        """Stop acting, and send the safe command last."""
        if self._loop is not None and self._monitor is not None:
            self._loop.stop()
            self._monitor.report()

    def release(self) -> None:
        """Close the topics and let the policy go."""
        self._unlabelled = _NOT_CONFIGURED
        if self._labels is not None:
            self.destroy_publisher(self._labels)
            self._labels = None
        if self._monitor is not None:
            self._monitor.close()
            self._monitor = None
        if self._loop is not None:
            self._loop.close()
            self._loop = None
        self._caller.stop()
        self._caller = SameThread()
        if not END_REQUESTED.is_set:  # a process that ends need not look its memory through
            # Let go of what was frozen when the node became active.
            gc.unfreeze()
            gc.collect()

    def _settings(self) -> LoopSettings:
        seed = value_of(self, "seed")
        return LoopSettings(
            lockstep=value_of(self, "mode") == "lockstep",
            seed=seed if seed >= 0 else secrets.randbelow(2**31),
            limits=GuardLimits(
                warm_up_ticks=value_of(self, "warm_up_ticks"),
                max_z_score=value_of(self, "max_z_score"),
                fault_z_score=value_of(self, "fault_z_score"),
                unusual_stops=value_of(self, "when_unusual") == "stop",
            ),
            rivals_stop=value_of(self, "on_rival") == "stop",
            **{name: value_of(self, name) for name in _SETTINGS},
        )

    def _take_priority(self) -> int:
        """Take the wanted real-time priority, and say which the process has now."""
        wanted: int = value_of(self, "thread_priority")
        if wanted == 0 or raise_priority_of_all_threads(wanted):
            return wanted
        self.get_logger().info(
            f"thread_priority {wanted} is not permitted, so other programs may delay ticks: "
            f"{REMEDY}, or set it to 0"
        )
        return 0

    def _is_over(self) -> bool:
        """Whether waiting for the policy has become pointless; takes in a stop meanwhile."""
        self._safety.poll()
        return END_REQUESTED.is_set

    def _load_in_time(self, contract: Contract, settings: LoopSettings) -> LoadedPolicy:
        """Have the policy made ready; one that never is must not keep the node from ending."""
        limit_s = value_of(self, "configure_timeout_s")
        try:
            return self._caller.call(partial(self._make_ready, contract, settings), limit_s)
        except TimeoutError:
            if END_REQUESTED.is_set:
                raise NotReadyError("ended while the policy was loading") from None
            raise ConfigError(
                f"the policy was not loaded and timed within {limit_s:g} s: raise "
                f"configure_timeout_s and restart this node; if that does not help, the policy "
                f"hangs: export it again"
            ) from None

    def _make_ready(self, contract: Contract, settings: LoopSettings) -> LoadedPolicy:
        """Load the policy, compare it with the contract, and see that it is fast enough."""
        # On a machine of one core, a policy that never answers must not keep the stop waiting.
        lower_priority_of_this_thread()
        logger = self.get_logger()
        loaded = self._load(self, contract.policy_spec())
        limit_ns = settings.inference_limit_ns(contract, loaded)
        loaded, times = fit_to_limit(loaded, limit_ns, settings.when_too_slow, logger.warning)
        period_ms = settings.period_ns(contract) / 1e6
        logger.info(f"inference time: {times}; the period is {period_ms:.1f} ms")
        for remark in settings.chunk_remarks(contract, loaded, times):
            logger.warning(remark)
        if not settings.lockstep:
            for sentence in beyond_delay(contract, loaded, times):
                logger.warning(sentence)
        return loaded

    def _label(self, label: Label) -> str:
        """Say a person's label where recorders hear it; return what is wrong with that."""
        problem = self._unlabelled
        if self._labels is not None:
            self._labels.publish(String(data=label))
            problem = ""
            if not self._labels.get_subscription_count():
                problem = f"nobody hears '{self._labels.topic_name}': start a recorder"
        return problem and f"'{label}' labels nothing: {problem}"

    def _on_safety_change(self) -> None:
        # The monitor, which looks often, reports it.
        if self._loop is not None:
            self._loop.apply_stop()


def _require_agreeing(settings: LoopSettings, *, is_simulated: bool) -> None:
    """Refuse parameters of which one makes no sense with another."""
    if settings.real_time_factor != 1.0 and not is_simulated:
        raise ConfigError(
            f"real_time_factor is {settings.real_time_factor:g}, but use_sim_time is false: "
            f"set real_time_factor to 1 for a robot, or use_sim_time to true for a simulator"
        )
    if settings.shadow and settings.lockstep:
        raise ConfigError(
            "shadow is true, but mode is 'lockstep', in which the simulator waits for commands "
            "that it is not sent: set mode to 'real_time', or shadow to false"
        )
    if settings.await_person and not settings.lockstep:
        raise ConfigError(
            "await_person is true, but mode is 'real_time', in which no tick waits for anybody: "
            "set mode to 'lockstep', or await_person to false"
        )


def _shorten_delays() -> None:
    """Let neither other threads nor the garbage collector delay a tick by milliseconds."""
    sys.setswitchinterval(_SWITCH_INTERVAL_S)
    gc.collect()
    # What is there now stays for good, and need not be looked through again.
    gc.freeze()
