"""Which numbers of which messages are worth a curve, by the contract; knows no viewer.

What a viewer shows of the policy node itself: its diagnostics, topics and services.

Colours of curves: told apart also by those who see few colours (Okabe and Ito).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from dql_ros.contract import ActionStream, Contract, Element, Stream

JOINT_STATE = "sensor_msgs/msg/JointState"
TOPIC = "/diagnostics"
COLORS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#f0e442", "#999999")


@dataclass(frozen=True)
class Curve:
    """One number of a topic's messages over time.

    Attributes:
        topic: Absolute name of the topic.
        steps: Names of fields and positions in arrays that lead to the number.
        joint: In a JointState, the joint that it belongs to; else empty.
        label: What the number is.
    """

    topic: str
    steps: tuple[str | int, ...]
    joint: str
    label: str


@dataclass(frozen=True)
class Plot:
    """Curves that are looked at together.

    Attributes:
        title: What they are.
        curves: The curves.
        limits: Heights of lines across the plot, such as the bounds of a command.
    """

    title: str
    curves: tuple[Curve, ...]
    limits: tuple[float, ...] = ()


def state_plots(contract: Contract, namespace: str = "") -> list[Plot]:
    """Return plots of what ``contract`` observes, one for each topic and array.

    Args:
        contract: The robot's.
        namespace: Namespace of the nodes, which relative topics stand in.
    """
    return [
        plot
        for stream in contract.observation
        # The simulation lists joints by the alphabet, as many drivers do.
        for plot in _plots(stream, "state", namespace, sorted(stream.joints))
    ]


def command_plots(contract: Contract, namespace: str = "") -> list[Plot]:
    """Return plots of what ``contract`` commands, and of rewards and ends."""
    plots = [
        replace(plot, limits=_limits(stream))
        for stream in contract.action
        for plot in _plots(stream, "command", namespace, stream.joints)
    ]
    signals = tuple(
        Curve(absolute(signal.topic, namespace), steps_of(signal.path), "", name)
        for name, signal in contract.signals.items()
    )
    return [*plots, Plot("reward and ends", signals)] if signals else plots


def absolute(topic: str, namespace: str) -> str:
    """Return the name that ROS makes of ``topic`` in ``namespace``."""
    return topic if topic.startswith("/") else "/".join(("", *_words(namespace), topic))


def steps_of(path: str) -> tuple[str | int, ...]:
    """Take a contract's dotted path apart; numbers are positions in arrays."""
    return tuple(int(step) if step.isdecimal() else step for step in path.split("."))


def _plots(
    stream: Stream, kind: str, namespace: str, joint_order: Sequence[str]
) -> Iterator[Plot]:
    """Yield a plot of a message's single numbers, and one of each of its arrays."""
    topic = absolute(stream.topic, namespace)
    arrays: dict[str, list[Curve]] = {}
    for field in stream.fields:
        names = [spec.name for spec in field.fields(stream.topic)] if field.names else []
        for index, element in enumerate(field.read_elements):
            curve = _curve(stream, topic, element, joint_order)
            # A rotation's fields are not the numbers of its quaternion.
            label = names[index] if names and field.rotation is None else curve.label
            unit = field.message_unit or field.unit
            arrays.setdefault("" if element.key is None else element.path, []).append(
                replace(curve, label=f"{label} ({unit})" if unit else label)
            )
    for array, curves in arrays.items():
        yield Plot(f"{kind}: {stream.topic} {array}".rstrip(), tuple(curves))


def _curve(stream: Stream, topic: str, element: Element, joint_order: Sequence[str]) -> Curve:
    steps, key = steps_of(element.path), element.key
    if isinstance(key, str):
        joint = key if stream.type == JOINT_STATE else ""
        return Curve(topic, (*steps, joint_order.index(key)), joint, key)
    if key is not None:
        return Curve(topic, (*steps, key), "", f"{steps[-1]}[{key}]")
    return Curve(topic, steps, "", element.path)


def _limits(stream: ActionStream) -> tuple[float, ...]:
    """Return the bounds that all of a command's numbers share, if they do."""
    bounds = {(spec.low, spec.high) for spec in stream.specs}
    return next(iter(bounds)) if len(bounds) == 1 else ()


def _words(namespace: str) -> list[str]:
    return [word for word in namespace.split("/") if word]


@dataclass(frozen=True)
class Diagnosed:
    """The policy node as it names itself in ``/diagnostics``.

    Attributes:
        name: Of its status.
        hardware_id: Of its status.
    """

    name: str
    hardware_id: str


# Plots of the diagnostics' values: title -> keys.
TIMING_PLOTS = {
    "rate (Hz)": ("rate (Hz)",),
    "inference and state to command (ms)": (
        "inference p50 (ms)",
        "inference p99 (ms)",
        "state to command p50 (ms)",
        "state to command p99 (ms)",
    ),
    "tick jitter (ms)": ("tick jitter p50 (ms)", "tick jitter p99 (ms)"),
}

STATE_KEY = "state"


def diagnosed(node: str, namespace: str) -> Diagnosed:
    """Say how the control node ``node`` in ``namespace`` names itself."""
    return Diagnosed(f"{node}: control loop", absolute(node, namespace))
