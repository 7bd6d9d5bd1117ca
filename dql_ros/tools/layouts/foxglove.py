"""A layout file for Foxglove, and for Lichtblick, which reads the same.

The format is that of a layout exported by either; its panels and message paths are described in
docs.foxglove.dev, "Panels" and "Message path syntax".
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

from dql_ros.contract import Contract
from dql_ros.tools.layouts.curves import (
    COLORS,
    STATE_KEY,
    TIMING_PLOTS,
    TOPIC,
    Curve,
    Diagnosed,
    Plot,
    absolute,
    command_plots,
    diagnosed,
    state_plots,
)

Panels = dict[str, dict[str, Any]]


def foxglove_layout(contract: Contract, namespace: str = "", node: str = "policy") -> str:
    """Return a layout as JSON: states and commands left, the policy node right.

    Args:
        contract: The robot's.
        namespace: Namespace of the nodes.
        node: Name of the policy node.
    """
    plots = [*state_plots(contract, namespace), *command_plots(contract, namespace)]
    left = {f"Plot!robot{index}": _plot(plot) for index, plot in enumerate(plots)}
    right = _node_panels(absolute(node, namespace), diagnosed(node, namespace))
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


def message_path(curve: Curve) -> str:
    """Return the message path of one number."""
    steps = (f"[{step}]" if isinstance(step, int) else f".{step}" for step in curve.steps)
    return curve.topic + "".join(steps)


def diagnostic_path(source: Diagnosed, key: str) -> str:
    """Return the message path of one value of a status."""
    return f'{TOPIC}.status[:]{{name=="{source.name}"}}.values[:]{{key=="{key}"}}.value'


def _plot(plot: Plot) -> dict[str, Any]:
    paths = [(message_path(curve), _label(curve)) for curve in plot.curves]
    return _plot_panel(plot.title, paths, plot.limits)


def _label(curve: Curve) -> str:
    # A JointState has names, but message paths cannot use them.
    return f"{curve.label}, if joints are in order" if curve.joint else curve.label


def _plot_panel(
    title: str, paths: Iterable[tuple[str, str]], limits: Sequence[float] = ()
) -> dict[str, Any]:
    curves = [
        {
            "value": path,
            "enabled": True,
            "timestampMethod": "receiveTime",
            "label": label,
            "color": COLORS[index % len(COLORS)],
        }
        for index, (path, label) in enumerate(paths)
    ]
    # A path that is a number is drawn as a line at that height.
    lines = [
        {
            "value": f"{limit:g}",
            "enabled": True,
            "timestampMethod": "receiveTime",
            "label": "bound",
            "color": "#888888",
        }
        for limit in limits
    ]
    return {
        "paths": [*curves, *lines],
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


def _node_panels(node: str, source: Diagnosed) -> Panels:
    state = {
        "value": diagnostic_path(source, STATE_KEY),
        "timestampMethod": "receiveTime",
        "label": "state",
    }
    timing = {
        f"Plot!timing{index}": _plot_panel(
            title, [(diagnostic_path(source, key), key) for key in keys]
        )
        for index, (title, keys) in enumerate(TIMING_PLOTS.items())
    }
    return {
        "StateTransitions!state": {"paths": [state], "isSynced": True},
        **timing,
        "DiagnosticStatusPanel!policy": {
            "topicToRender": TOPIC,
            "selectedHardwareId": source.hardware_id,
            "selectedName": source.name,
            "splitFraction": 0.5,
        },
        "DiagnosticSummary!all": {
            "minLevel": 0,
            "pinnedIds": [],
            "hardwareIdFilter": "",
            "topicToRender": TOPIC,
            "sortByLevel": True,
        },
        "Publish!stop": {
            "topicName": f"{node}/stop",
            "datatype": "std_msgs/msg/Bool",
            "buttonText": "E-STOP",
            "buttonTooltip": "send the safe command and stay stopped",
            "buttonColor": "#d32f2f",
            "advancedView": False,
            "value": '{"data": true}',
        },
        "CallService!reset": {
            "serviceName": f"{node}/reset_stop",
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
