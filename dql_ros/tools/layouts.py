"""What a viewer shows of a robot: layouts for Foxglove and PlotJuggler, made from its contract.

Foxglove's format, which Lichtblick reads as well, is that of a layout that it exports; panels and
message paths are described in docs.foxglove.dev, "Panels" and "Message path syntax". PlotJuggler 3
describes its format nowhere: this is what it saves itself, with the names that its ROS parser
gives.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any
from xml.etree import ElementTree
from xml.etree.ElementTree import SubElement

from dql_ros.contract import ActionStream, Contract, Element, Stream, TransformStream
from dql_ros.contract.field import Named, Step, split_path
from dql_ros.contract.stream import resolve_topic

JOINT_STATE = "sensor_msgs/msg/JointState"
DIAGNOSTICS = "/diagnostics"
# Colours of curves that also those can tell apart who see few colours (Okabe and Ito).
COLORS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#f0e442", "#999999")
# Plots of the policy node's diagnostics: title -> keys.
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


@dataclass(frozen=True)
class Curve:
    """One number of a topic's messages over time.

    Attributes:
        topic: Absolute name of the topic.
        steps: Names of fields, positions in arrays and names of elements that lead to the number.
        joint: In a JointState, the joint that it belongs to; else empty.
        label: What the number is.
    """

    topic: str
    steps: tuple[Step, ...]
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


def foxglove_layout(contract: Contract, namespace: str = "", node: str = "policy") -> str:
    """Return a layout as JSON: states and commands left, the policy node right."""
    plots = [*state_plots(contract, namespace), *command_plots(contract, namespace)]
    left = {f"Plot!robot{index}": _foxglove_plot(plot) for index, plot in enumerate(plots)}
    right = _node_panels(node, resolve_topic(node, namespace))
    document = {
        "configById": {**left, **right},
        "globalVariables": {},
        "userNodes": {},
        "playbackConfig": {"speed": 1},
        "layout": {
            "direction": "row",
            "first": _stack(list(left)),
            "second": _stack(list(right)),
            "splitPercentage": 60,
        },
    }
    return json.dumps(document, indent=2) + "\n"


def plotjuggler_layout(contract: Contract, namespace: str = "", node: str = "policy") -> str:
    """Return a layout as XML: tabs of states, of commands and of the policy node."""
    status = f"{DIAGNOSTICS}/{resolve_topic(node, namespace)}/{_status_name(node)}"
    tabs: dict[str, list[tuple[str, list[str], Sequence[float]]]] = {
        "states": _series_of(state_plots(contract, namespace)),
        "commands": _series_of(command_plots(contract, namespace)),
        "policy node": [
            (title, [f"{status}/{key}" for key in keys], ())
            for title, keys in TIMING_PLOTS.items()
        ],
    }
    root = ElementTree.Element("root")
    window = SubElement(root, "tabbed_widget", {"name": "Main Window", "parent": "main_window"})
    for name, plots in tabs.items():
        tab = SubElement(window, "Tab", tab_name=name, containers="1")
        sizes = ";".join(f"{1 / len(plots):.6f}" for _ in plots)
        splitter = SubElement(
            SubElement(tab, "Container"),
            "DockSplitter",
            orientation="-",
            count=str(len(plots)),
            sizes=sizes,
        )
        for title, names, limits in plots:
            _add_plot(SubElement(splitter, "DockArea", name=title), names, limits)
    SubElement(window, "currentTabIndex", index="0")
    SubElement(root, "use_relative_time_offset", enabled="1")
    ElementTree.indent(root, "  ")
    declaration = "<?xml version='1.0' encoding='UTF-8'?>\n"
    return declaration + ElementTree.tostring(root, encoding="unicode") + "\n"


def state_plots(contract: Contract, namespace: str = "") -> list[Plot]:
    """Return plots of what ``contract`` observes, one for each topic and array."""
    return [
        plot
        for stream in contract.observation
        if not isinstance(stream, TransformStream)  # no message has what these make up
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
        Curve(resolve_topic(signal.topic, namespace), split_path(signal.path), "", name)
        for name, signal in contract.signals.items()
    )
    return [*plots, Plot("reward and ends", signals)] if signals else plots


def message_path(curve: Curve) -> str:
    """Return Foxglove's message path of one number."""
    return curve.topic + "".join(map(_foxglove_step, curve.steps))


def _foxglove_step(step: Step) -> str:
    if isinstance(step, Named):
        return f'[:]{{{step.key}=="{step.value}"}}'
    return f"[{step}]" if isinstance(step, int) else f".{step}"


def series(curve: Curve) -> str:
    """Return PlotJuggler's name of one number; joints of a JointState go by name."""
    if curve.joint:
        return f"{curve.topic}/{curve.joint}/{curve.steps[0]}"
    steps = (f"/{step}" if isinstance(step, str) else _position(step) for step in curve.steps)
    return curve.topic + "".join(steps)


def _status_name(node: str) -> str:
    """How a control node names its status in the diagnostics."""
    return f"{node}: control loop"


def _position(step: int | Named) -> str:
    """A position in an array as PlotJuggler writes it; names of elements it has not got."""
    return str(step) if isinstance(step, Named) else f"[{step}]"


def _plots(
    stream: Stream, kind: str, namespace: str, joint_order: Sequence[str]
) -> Iterator[Plot]:
    """Yield a plot of a message's single numbers, and one of each of its arrays."""
    topic = resolve_topic(stream.topic, namespace)
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
    steps, key = split_path(element.path), element.key
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


def _foxglove_plot(plot: Plot) -> dict[str, Any]:
    paths = [
        # A JointState has names, but message paths cannot use them.
        (message_path(each), f"{each.label}, if joints are in order" if each.joint else each.label)
        for each in plot.curves
    ]
    return _plot_panel(plot.title, paths, plot.limits)


def _plot_panel(
    title: str, paths: Iterable[tuple[str, str]], limits: Sequence[float] = ()
) -> dict[str, Any]:
    curves = [
        (path, label, COLORS[index % len(COLORS)]) for index, (path, label) in enumerate(paths)
    ]
    # A path that is a number is drawn as a line at that height.
    curves += [(f"{limit:g}", "bound", "#888888") for limit in limits]
    return {
        "paths": [
            {
                "value": path,
                "enabled": True,
                "timestampMethod": "receiveTime",
                "label": label,
                "color": color,
            }
            for path, label, color in curves
        ],
        "foxglovePanelTitle": title,
        "showLegend": True,
        "legendDisplay": "floating",
        "showPlotValuesInLegend": True,
        "showXAxisLabels": True,
        "showYAxisLabels": True,
        "isSynced": True,
        "xAxisVal": "timestamp",
        "sidebarDimension": 240,
    }


def _node_panels(node: str, full_name: str) -> dict[str, dict[str, Any]]:
    def value(key: str) -> str:
        status = f'{DIAGNOSTICS}.status[:]{{name=="{_status_name(node)}"}}'
        return f'{status}.values[:]{{key=="{key}"}}.value'

    state = {"value": value("state"), "timestampMethod": "receiveTime", "label": "state"}
    timing = {
        f"Plot!timing{index}": _plot_panel(title, [(value(key), key) for key in keys])
        for index, (title, keys) in enumerate(TIMING_PLOTS.items())
    }
    return {
        "StateTransitions!state": {"paths": [state], "isSynced": True},
        **timing,
        "DiagnosticStatusPanel!policy": {
            "topicToRender": DIAGNOSTICS,
            "selectedHardwareId": full_name,
            "selectedName": _status_name(node),
            "splitFraction": 0.5,
        },
        "DiagnosticSummary!all": {
            "minLevel": 0,
            "pinnedIds": [],
            "hardwareIdFilter": "",
            "topicToRender": DIAGNOSTICS,
            "sortByLevel": True,
        },
        "Publish!stop": {
            "topicName": f"{full_name}/stop",
            "datatype": "std_msgs/msg/Bool",
            "buttonText": "E-STOP",
            "buttonTooltip": "send the safe command and stay stopped",
            "buttonColor": "#d32f2f",
            "advancedView": False,
            "value": '{"data": true}',
        },
        "CallService!reset": {
            "serviceName": f"{full_name}/reset_stop",
            "requestPayload": "{}",
            "layout": "vertical",
        },
    }


def _stack(panels: Sequence[str]) -> Any:
    """Return a column of panels of equal height."""
    if len(panels) == 1:
        return panels[0]
    return {
        "direction": "column",
        "first": panels[0],
        "second": _stack(panels[1:]),
        "splitPercentage": round(100 / len(panels), 2),
    }


def _series_of(plots: Sequence[Plot]) -> list[tuple[str, list[str], Sequence[float]]]:
    return [(plot.title, [series(curve) for curve in plot.curves], plot.limits) for plot in plots]


def _add_plot(area: ElementTree.Element, names: Sequence[str], limits: Sequence[float]) -> None:
    """Add a plot; of a command it shows the whole range, a little wider than its bounds."""
    plot = SubElement(
        area, "plot", mode="TimeSeries", style="Lines", flip_x="false", flip_y="false"
    )
    ends = SubElement(plot, "limitY")
    if limits:
        margin = 0.05 * (limits[-1] - limits[0])
        ends.set("min", f"{limits[0] - margin:g}")
        ends.set("max", f"{limits[-1] + margin:g}")
    for index, curve in enumerate(names):
        SubElement(plot, "curve", name=curve, color=COLORS[index % len(COLORS)])
