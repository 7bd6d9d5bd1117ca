"""The lifecycle node that turns observations into commands, with a policy that it is given."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.node import Node

from dql_core.spec import PolicySpec
from dql_ros.contract import load_contract
from dql_ros.nodes.base import ManagedNode
from dql_ros.nodes.control_loop import ControlLoop, LoadedPolicy, LoopSettings
from dql_ros.nodes.parameters import Parameter, declare, path_of, require, value_of

PARAMETERS = (
    Parameter("contract", "", "path of the robot contract (yaml)", required=True),
    Parameter(
        "mode",
        "real_time",
        "'real_time' ticks at the contract's rate, 'lockstep' answers each simulated state",
        choices=("real_time", "lockstep"),
    ),
    Parameter("autostart", False, "configure and activate without being asked to"),
    Parameter("seed", -1, "seed of the sampled actions; -1 for another at each start", -1, 2**31),
    Parameter("warm_up_ticks", 0, "complete observations before the first command", 0, 10_000),
    Parameter(
        "max_z_score",
        10.0,
        "an observation so many standard deviations from the training data's mean is warned of",
        low=0.1,
        high=1e9,
    ),
    Parameter(
        "recorders",
        0,
        "in lockstep: recorders that must listen to the commands before the first goes out",
        low=0,
        high=100,
    ),
)

PolicyLoader = Callable[[Node, PolicySpec], LoadedPolicy]


class ControlNode(ManagedNode):
    """Runs a policy on a robot.

    In real time it ticks at absolute deadlines of a steady clock, on a thread of its own that also
    owns the inference. In lockstep it answers each simulated instant once, in the executor.
    """

    def __init__(self, name: str, parameters: Sequence[Parameter], load: PolicyLoader) -> None:
        """Declare the parameters; everything else waits for `configure`.

        Args:
            name: Name of the node.
            parameters: Parameters of the policy, beside the common ones.
            load: Loads the policy for the contract's spec.

        Raises:
            ConfigError: If a parameter's value is not allowed.
        """
        super().__init__(name)
        self._declared = (*PARAMETERS, *parameters)
        self._load = load
        self._loop: ControlLoop | None = None
        declare(self, self._declared)

    @classmethod
    def started(
        cls, name: str, parameters: Sequence[Parameter], load: PolicyLoader
    ) -> ControlNode:
        """Make a node; configure and activate it if ``autostart`` asks for that.

        Raises:
            ConfigError: If a parameter's value is not allowed.
            Exception: What made a transition fail.
        """
        node = cls(name, parameters, load)
        if value_of(node, "autostart"):
            outcome = node.trigger_configure()
            if outcome == TransitionCallbackReturn.SUCCESS:
                outcome = node.trigger_activate()
            if outcome != TransitionCallbackReturn.SUCCESS and node.failure is not None:
                raise node.failure
        return node

    def configure(self) -> None:
        """Load and compare contract and policy, warm the policy up, and open the topics.

        Raises:
            DqlError: If a file is missing or damaged, or contract and policy do not agree.
        """
        require(self, self._declared)
        contract = load_contract(path_of(self, "contract"))
        loaded = self._load(self, contract.policy_spec())
        settings = LoopSettings(
            lockstep=value_of(self, "mode") == "lockstep",
            seed=None if value_of(self, "seed") < 0 else value_of(self, "seed"),
            warm_up_ticks=value_of(self, "warm_up_ticks"),
            max_z_score=value_of(self, "max_z_score"),
            recorders=value_of(self, "recorders"),
        )
        self._loop = ControlLoop(self, contract, loaded, settings)
        self._loop.open()
        self.get_logger().info(f"configured for '{contract.robot}' with {loaded.source}")

    def activate(self) -> None:
        """Begin to act."""
        if self._loop is not None:
            self._loop.start()

    def deactivate(self) -> None:
        """Stop acting, and send the safe command last."""
        if self._loop is not None:
            self._loop.stop()

    def release(self) -> None:
        """Close the topics and let the policy go."""
        if self._loop is not None:
            self._loop.close()
            self._loop = None
