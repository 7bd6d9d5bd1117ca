"""The commands that start the nodes, and the signals that end them.

A node's imports take a second, in which Python may drop the exception that Ctrl-C raises: the node
would go on and drive. So the signals are handled first, and nothing here takes time to import.
"""

from __future__ import annotations

import importlib
import signal
import sys

from dql_core.extras import MissingExtraError

_FAULTS = (signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL)
_HARMLESS = (signal.SIGCHLD, signal.SIGCONT, signal.SIGURG, signal.SIGWINCH, signal.SIGTTIN)
_OTHERS = (signal.SIGKILL, signal.SIGSTOP, signal.SIGTTOU)
# All that would end the process, and SIGTSTP (Ctrl-Z): the robot would be left with its command.
# Python itself ignores SIGPIPE and SIGXFSZ.
_END_SIGNALS = (
    signal.valid_signals() - {*_FAULTS, *_HARMLESS, *_OTHERS} - {signal.SIGPIPE, signal.SIGXFSZ}
)
# A shell has what it starts in the background ignore these; a node is still to be ended by them.
_ALWAYS_HANDLED = {signal.SIGINT, signal.SIGQUIT, signal.SIGTERM}
# What a node is given at least, for its help.
_EXAMPLES = {
    "policy_node": "-p contract:=arm.yaml -p policy:=runs/arm/bundle -p autostart:=true",
    "demonstrator_node": "-p contract:=scara.yaml -p autostart:=true",
    "sim_bridge_node": "-p contract:=arm.yaml -p env:=arm.xml",
    "recorder_node": "-p contract:=arm.yaml -p out:=bags/first",
}


def policy_node() -> None:
    """Run a policy."""
    _start("policy_node")


def demonstrator_node() -> None:
    """Run the scripted operator of the demo."""
    _start("demonstrator_node")


def sim_bridge_node() -> None:
    """Run a simulated robot."""
    _start("sim_bridge_node")


def recorder_node() -> None:
    """Record."""
    _start("recorder_node")


def _start(name: str) -> None:
    handle_signals()
    try:
        node = importlib.import_module(f"dql_ros.nodes.{name}")
    except MissingExtraError as missing:
        sys.stderr.write(f"{name}: {missing}\n")
        sys.exit(2)
    if {"--help", "-h"} & set(sys.argv[1:]):
        parameters = importlib.import_module("dql_ros.nodes.parameters")
        lines = (
            f"for example: {name} --ros-args {_EXAMPLES[name]}",
            "its parameters, with their defaults:",
            *parameters.describe(getattr(node, "DECLARED", node.PARAMETERS)),
        )
        sys.stdout.write("\n".join(lines) + "\n")
        return
    node.main()


class EndRequest:
    """Whether the process was asked to end.

    A plain flag, since a handler of a signal may interrupt whoever holds an Event's lock.
    """

    is_set = False

    def set(self) -> None:
        """Ask for the end."""
        self.is_set = True


# For whoever keeps the executor waiting.
END_REQUESTED = EndRequest()


def handle_signals() -> None:
    """Let all signals that end a node set `END_REQUESTED`.

    Whoever started the process may want some ignored, as nohup does.
    """
    for number in _END_SIGNALS:
        if number in _ALWAYS_HANDLED or signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, lambda *_: END_REQUESTED.set())


def ignore_signals() -> None:
    """Let a second Ctrl-C not turn a good end into a bad one while the interpreter exits."""
    for number in _END_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
