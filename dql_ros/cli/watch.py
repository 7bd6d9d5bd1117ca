"""`dql watch`: a page that shows a training, or a node that drives, while it goes on."""

from __future__ import annotations

import importlib
import time
from pathlib import Path
from typing import Annotated

import typer

from dql_core.cli.terminal import print_line
from dql_core.errors import ConfigError, did_you_mean_path
from dql_core.extras import needing

with needing("convert", __name__):
    from dql_core.live_page import PageServer
    from dql_core.training.live import RunView


def watch(
    what: Annotated[
        str,
        typer.Argument(
            metavar="RUN|/NODE",
            help="Folder of a run, or of several, as of several seeds; or the full name of a node "
            "that reports on /diagnostics, such as /policy.",
        ),
    ],
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Of the page; 0 for any that is free.")
    ] = 0,
) -> None:
    """Show a training, or a node that drives, as a page in a browser while it goes on.

    Of a run: losses, values, what was measured of checkpoints and what the
    judge says of them. Of a policy node: state, guards, ages of its streams,
    times, and, if it sends them, candidates with their Q.

    The page is on this machine alone; from another one, over ssh:
    ssh -L 8000:localhost:8000 ROBOT dql watch /policy --port 8000.
    What is watched is never changed. Ctrl-C ends it.

    Example: dql watch runs/arm
    """
    folder = Path(what)
    if folder.is_dir():
        with PageServer(RunView(folder), port) as server:
            _tell(server)
            while True:
                time.sleep(3600)
    if not what.startswith("/"):
        raise ConfigError(
            f"{what}: there is no such folder; name that of a run, or a node by its full name, "
            f"such as /policy"
        )
    if folder.parent.is_dir() and folder.parent != Path("/"):
        near = did_you_mean_path(folder, folder.parent.glob("*/"))
        print_line(f"there is no folder {folder}{near}; waiting for a node of this name")
    # Only this needs ROS.
    node = importlib.import_module("dql_ros.cli.watched_node")
    with node.NodeView(what) as view, PageServer(view, port) as server:
        _tell(server)
        view.spin()


def _tell(server: PageServer) -> None:
    print_line(f"{server.url}  (Ctrl-C ends it)")
