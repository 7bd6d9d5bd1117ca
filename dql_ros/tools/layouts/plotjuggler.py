"""A layout file for PlotJuggler 3: tabs of states, of commands and of the policy node.

PlotJuggler describes its format nowhere; this is what it saves itself, and the names of the
series are those that its ROS parser gives.
"""

from __future__ import annotations

from collections.abc import Sequence
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

from dql_ros.contract import Contract
from dql_ros.tools.layouts.curves import (
    COLORS,
    TIMING_PLOTS,
    TOPIC,
    Curve,
    Diagnosed,
    Plot,
    command_plots,
    diagnosed,
    state_plots,
)

Named = tuple[str, Sequence[str], Sequence[float]]


def plotjuggler_layout(contract: Contract, namespace: str = "", node: str = "policy") -> str:
    """Return a layout as XML.

    Args:
        contract: The robot's.
        namespace: Namespace of the nodes.
        node: Name of the policy node.
    """
    source = diagnosed(node, namespace)
    timing: list[Named] = [
        (title, [diagnostic_series(source, key) for key in keys], ())
        for title, keys in TIMING_PLOTS.items()
    ]
    root = Element("root")
    window = SubElement(root, "tabbed_widget", {"name": "Main Window", "parent": "main_window"})
    _add_tab(window, "states", _named(state_plots(contract, namespace)))
    _add_tab(window, "commands", _named(command_plots(contract, namespace)))
    _add_tab(window, "policy node", timing)
    SubElement(window, "currentTabIndex", index="0")
    SubElement(root, "use_relative_time_offset", enabled="1")
    ElementTree.indent(root, "  ")
    declaration = "<?xml version='1.0' encoding='UTF-8'?>\n"
    return declaration + ElementTree.tostring(root, encoding="unicode") + "\n"


def series(curve: Curve) -> str:
    """Return the name that PlotJuggler gives one number; joints of a JointState go by name."""
    if curve.joint:
        return f"{curve.topic}/{curve.joint}/{curve.steps[0]}"
    steps = (f"[{step}]" if isinstance(step, int) else f"/{step}" for step in curve.steps)
    return curve.topic + "".join(steps)


def diagnostic_series(source: Diagnosed, key: str) -> str:
    """Return the name that PlotJuggler gives one value of a status."""
    return f"{TOPIC}/{source.hardware_id}/{source.name}/{key}"


def _named(plots: Sequence[Plot]) -> list[Named]:
    return [(plot.title, [series(curve) for curve in plot.curves], plot.limits) for plot in plots]


def _add_tab(window: Element, name: str, plots: Sequence[Named]) -> None:
    tab = SubElement(window, "Tab", tab_name=name, containers="1")
    container = SubElement(tab, "Container")
    share = ";".join([f"{1 / len(plots):.6f}"] * len(plots))
    splitter = SubElement(
        container, "DockSplitter", orientation="-", count=str(len(plots)), sizes=share
    )
    for title, names, limits in plots:
        area = SubElement(splitter, "DockArea", name=title)
        plot = SubElement(
            area, "plot", mode="TimeSeries", style="Lines", flip_x="false", flip_y="false"
        )
        _add_limits(plot, limits)
        for index, curve in enumerate(names):
            SubElement(plot, "curve", name=curve, color=COLORS[index % len(COLORS)])


def _add_limits(plot: Element, limits: Sequence[float]) -> None:
    """Show the whole range of a command, a little wider than its bounds."""
    element = SubElement(plot, "limitY")
    if limits:
        margin = 0.05 * (limits[-1] - limits[0])
        element.set("min", f"{limits[0] - margin:g}")
        element.set("max", f"{limits[-1] + margin:g}")
