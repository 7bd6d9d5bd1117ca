"""Lets the scripted operator drive the demo robot, through the same node as a trained policy.

Or watch a policy drive it: then the operator's commands go where the contract's ``takeover`` hears
a person, and with each the switch, raised while the operator takes over.
"""

from __future__ import annotations

import sys

from rclpy.node import Node

from dql_core.errors import ConfigError
from dql_core.sim.scara_demonstrator import ScaraDemonstrator
from dql_core.sim.scara_watcher import ScaraWatcher
from dql_core.spec import PolicySpec
from dql_ros.contract import Contract
from dql_ros.contract.watching import watching
from dql_ros.control.loaded_policy import LoadedPolicy
from dql_ros.nodes import control_node
from dql_ros.nodes.base import run
from dql_ros.nodes.control_node import ControlNode
from dql_ros.nodes.parameters import Parameter, value_of

# Of both joints' angles and of the target's place.
_OBSERVED_UNITS = ("rad", "rad", "m", "m")
PARAMETERS = (
    Parameter(
        "watch",
        False,
        "watch a policy drive and take over from it where it goes wrong, by the contract's "
        "takeover; false: drive in its place",
    ),
)
DECLARED = (*PARAMETERS, *control_node.PARAMETERS)


class DemonstratorNode(ControlNode):
    """Drives the robot, or commands as the person who may take over from a policy."""

    def load_contract(self) -> Contract:
        """See `ControlNode.load_contract`; one of an operator who watches has other actions.

        The operator sees the robot as it is, whatever of its past a policy observes.
        """
        contract = super().load_contract().of_one_instant()
        return watching(contract) if value_of(self, "watch") else contract


def load_demonstrator(node: Node, spec: PolicySpec) -> LoadedPolicy:
    """Make the operator of the demo robot.

    Raises:
        ConfigError: If the robot is another.
    """
    units = tuple(field.unit for field in spec.observation)
    if units != _OBSERVED_UNITS:
        raise ConfigError(
            f"'{spec.robot}' is no robot for the scripted operator, who knows the simulated arm "
            f"and observes {_OBSERVED_UNITS}, not {units}: give a contract like scara.yaml"
        )
    if value_of(node, "watch"):
        return LoadedPolicy(ScaraWatcher(spec), None, "the scripted operator, who watches")
    return LoadedPolicy(ScaraDemonstrator(spec), None, "the scripted operator")


def make_node() -> ControlNode:
    """Make the node, and start it if the parameters say so."""
    return DemonstratorNode.started("demonstrator", PARAMETERS, load_demonstrator)


def main() -> None:
    """Run the node."""
    sys.exit(run(make_node))


if __name__ == "__main__":
    main()
