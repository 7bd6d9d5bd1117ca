"""`dql label`: label episodes by keys while they are recorded."""

from __future__ import annotations

import os
import sys
import termios
import tty
from collections.abc import Iterator
from typing import Annotated, TextIO

import typer

from dql_core.cli.terminal import print_line
from dql_core.errors import ConfigError
from dql_core.extras import needing
from dql_ros.contract.outcomes import DISCARD, FAILURE, SUCCESS, Label
from dql_ros.contract.stream import absolute_namespace

with needing("ros", __name__):
    from dql_ros.nodes.remote import Labeller

KEYS: dict[str, Label] = {"s": SUCCESS, "f": FAILURE, "d": DISCARD}
_HELP = "s success, f failure, d discard, q end"
_END = {"q", "\x04"}  # Ctrl-D, which is a key like any other while there are no lines
_TIMEOUT_S = 5.0


def label(
    node: Annotated[
        str, typer.Argument(help="The recorder, or a policy node, whose services are called.")
    ] = "recorder",
    namespace: Annotated[str, typer.Option(help="Namespace of the node.")] = "/",
) -> None:
    """Label episodes by keys while they are recorded: s success, f failure, d discard, q end.

    A label ends the episode that runs, or is of the one that ended last; the last one of an
    episode counts. Where the input is no terminal, each line of it is a key.

    Example: dql label
    """
    name = f"{absolute_namespace(namespace).rstrip('/')}/{node.strip('/')}"
    source = sys.stdin
    if source is None:
        raise ConfigError("there is no input to read keys from: run it in a terminal or a pipe")
    with Labeller(name) as labeller:
        labeller.await_node(_TIMEOUT_S)
        is_terminal = source.isatty()
        if is_terminal:
            print_line(f"{name}: {_HELP}")
        for key in _keys(source) if is_terminal else _lines(source):
            if key not in KEYS:
                print_line(_HELP)
                continue
            done, answer = labeller.label(KEYS[key], _TIMEOUT_S)
            if not (done or is_terminal):
                raise ConfigError(answer)
            print_line(answer, err=not done)


def _keys(terminal: TextIO) -> Iterator[str]:
    """Yield each key as it is pressed; the terminal is as it was afterwards."""
    before = termios.tcgetattr(terminal)
    try:
        tty.setcbreak(terminal)
        while key := os.read(terminal.fileno(), 1).decode(errors="replace").lower():
            if key in _END:
                return
            yield key
    finally:
        termios.tcsetattr(terminal, termios.TCSADRAIN, before)


def _lines(source: TextIO) -> Iterator[str]:
    """Yield the keys of a file or pipe, one a line.

    Raises:
        ConfigError: If one is none.
    """
    for line in source:
        key = line.strip().lower()
        if key in _END:
            return
        if key not in KEYS:
            raise ConfigError(f"'{key:.40}' is no key of dql label: {_HELP}")
        yield key
