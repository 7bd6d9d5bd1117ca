"""`dql layout`: a Foxglove or PlotJuggler layout for a robot's contract."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dql_core.cli.terminal import print_line
from dql_core.errors import ConfigError
from dql_core.files import write_text
from dql_ros.contract import contract_path, load_contract
from dql_ros.tools.layouts import foxglove_layout, plotjuggler_layout

_KINDS = {".json": foxglove_layout, ".xml": plotjuggler_layout}


def layout(
    contract: Annotated[Path, typer.Argument(help="Robot contract (yaml).")],
    out: Annotated[
        Path, typer.Argument(help="What to write: .json for Foxglove, .xml for PlotJuggler.")
    ],
    namespace: Annotated[
        str, typer.Option("--namespace", help="Namespace of the nodes, as given to ros2 launch.")
    ] = "",
    node: Annotated[str, typer.Option("--node", help="Name of the policy node.")] = "policy",
) -> None:
    """Write a layout in which Foxglove or PlotJuggler shows a robot and its policy.

    Plots of all states and commands of the contract, of rewards, and of the policy node's rate and
    inference time; in Foxglove also its state, its diagnostics and an emergency stop. It serves
    for a recorded bag and for a running robot. An existing file is replaced.

    Example: dql layout config/contracts/scara.yaml scara.json
    """
    if out.suffix not in _KINDS:
        raise ConfigError(
            f"{out}: unknown kind of layout: end the name with .json for Foxglove or with "
            f".xml for PlotJuggler"
        )
    text = _KINDS[out.suffix](load_contract(contract_path(contract)), namespace, node)
    out.parent.mkdir(parents=True, exist_ok=True)
    write_text(out, text)
    print_line(f"wrote {out}")
