"""Parameters of the simulation bridge."""

from __future__ import annotations

from rclpy.exceptions import InvalidParameterTypeException, InvalidParameterValueException
from rclpy.node import Node

from dql_core.errors import ConfigError
from dql_ros.contract import Contract
from dql_ros.nodes.parameters import CONTRACT, Parameter, value_of
from dql_ros.sim_environment import BUNDLED_ENVIRONMENT
from dql_ros.sim_faults import LinkFaults

_MAX_MS = 60_000.0
_MAX_INTEGER = 2**31


def _faults(link: str, what: str, topics: str) -> tuple[Parameter, ...]:
    return (
        Parameter(
            f"{link}_latency_ms", 0.0, f"{topics} arrive so much later; simulated ms", 0.0, _MAX_MS
        ),
        Parameter(f"{link}_jitter_ms", 0.0, "and by up to so much more", 0.0, _MAX_MS),
        Parameter(f"{link}_drop", 0.0, f"share of the {topics} that are lost", 0.0, 0.95),
        Parameter(
            f"{link}_noise",
            0.0,
            f"standard deviation of the noise on every number of {what}, in its own unit",
            0.0,
            1e9,
        ),
    )


PARAMETERS = (
    CONTRACT,
    Parameter(
        "env", BUNDLED_ENVIRONMENT, "Gymnasium id of the environment to step, or an MJCF file"
    ),
    Parameter(
        "mode",
        "lockstep",
        "'lockstep' waits for each command, 'real_time' holds the last one",
        choices=("lockstep", "real_time"),
    ),
    Parameter("episodes", 0, "end after so many episodes; 0 for never", 0, _MAX_INTEGER),
    Parameter(
        "max_episode_steps",
        0,
        "truncate episodes after so many steps; 0 for the environment's own limit",
        0,
        _MAX_INTEGER,
    ),
    Parameter("seed", 0, "episode i is reset with seed + i", 0, _MAX_INTEGER),
    Parameter(
        "real_time_factor", 1.0, "simulated over wall seconds in real time", low=0.01, high=100.0
    ),
    Parameter(
        "recorders",
        0,
        "recorders that must listen to every topic before the first episode begins",
        low=0,
        high=100,
    ),
    Parameter(
        "wait_for_policy",
        True,
        "begin only once the state is heard and the commands have a publisher",
    ),
    Parameter(
        "command_timeout_s",
        0.5,
        "in real time: without a command for so long the robot is stopped by the contract's safe "
        "command; simulated seconds, 0 for never",
        low=0.0,
        high=3600.0,
    ),
    *_faults("state", "a state", "states"),
    *_faults("command", "a command", "commands"),
    Parameter("fault_seed", 0, "seed of latency, loss and noise", 0, _MAX_INTEGER),
    Parameter("video", "", "MP4 file to film the robot into; it needs an OpenGL driver"),
    Parameter("camera", "", "camera of the model; by default its first, else the free one"),
)

# The services of std_srvs carry no numbers, so that these say what a call means.
SETTABLE = (
    Parameter(
        "reset_seed",
        -1,
        "seed of the episode that ~/reset begins; -1 for seed + i",
        -1,
        _MAX_INTEGER,
    ),
    Parameter(
        "keyframe",
        "",
        "keyframe of the model, by name or number, in which the next episodes begin; empty for "
        "the environment's own start",
    ),
    Parameter("steps", 1, "how many steps a call of ~/step takes", 1, 1_000_000),
)


def declare_settable(node: Node) -> None:
    """Declare the parameters that may be set while the node runs.

    Raises:
        ConfigError: If a value has the wrong type or is out of range.
    """
    for parameter in SETTABLE:
        descriptor = parameter.descriptor()
        descriptor.read_only = False
        try:
            node.declare_parameter(parameter.name, parameter.default, descriptor)
        except (InvalidParameterTypeException, InvalidParameterValueException) as error:
            raise ConfigError(
                f"parameter '{parameter.name}' of {node.get_name()}: {error}"
            ) from error


def link_faults(node: Node, link: str) -> LinkFaults:
    """Return the faults of the ``state`` or ``command`` link, as the parameters give them."""
    return LinkFaults(
        latency_ns=round(value_of(node, f"{link}_latency_ms") * 1e6),
        jitter_ns=round(value_of(node, f"{link}_jitter_ms") * 1e6),
        drop=value_of(node, f"{link}_drop"),
        noise=value_of(node, f"{link}_noise"),
    )


def command_timeout_ns(node: Node, contract: Contract) -> int | None:
    """Return how long a command is followed, in simulated time; ``None`` without limit.

    Raises:
        ConfigError: If that is shorter than a control period.
    """
    timeout_ns = round(value_of(node, "command_timeout_s") * 1e9)
    if 0 < timeout_ns < contract.period_ns:
        raise ConfigError(
            f"parameter 'command_timeout_s' of {node.get_name()} is {timeout_ns / 1e9:g}: it must "
            f"not be below the control period of '{contract.robot}', {contract.period_ns / 1e9:g}"
        )
    return timeout_ns or None
