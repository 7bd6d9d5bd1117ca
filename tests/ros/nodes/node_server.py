"""Node processes for tests, without half a second of imports for each.

One process for the session, single-threaded, has imported what the nodes need but initialised
nothing of ROS, and forks for each node. From there on all is as in ``python -m MODULE``: the
arguments, the environment, a session of its own, signals, output, and an end of the interpreter
itself. What depends on imports or on the first half second of a process is not tested so.

The server may be another interpreter, with another ROS 2 distribution or without torch, which
``DQL_NODES_PYTHON`` names in the environment: the tests then drive its nodes over topics.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import gc
import importlib
import json
import os
import re
import runpy
import selectors
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from io import FileIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TextIO
from unittest import mock

from dql_core.process import PARENT_VARIABLE
from dql_ros.nodes import closed_loop
from dql_ros.processes import NodeCommand, NodeProcess, NodeProcesses

PRELOADED = (
    "onnxruntime",
    "dql_ros.nodes.demonstrator_node",
    "dql_ros.nodes.policy_node",
    "dql_ros.nodes.recorder_node",
    "dql_ros.nodes.sim_bridge_node",
)
PYTHON = os.environ.get("DQL_NODES_PYTHON", sys.executable)
# With them, the wheels of ROS 2 have started this interpreter anew.
OF_WHEELS = ("_ROS_WHEELS_BOOTSTRAP_COMPLETE", "LD_LIBRARY_PATH")
_MOST_BYTES = 1 << 16
_POLL_S = 0.005


class ForkedNodes(NodeProcesses):
    """Node processes that are forked from the server."""

    def start(self, command: NodeCommand) -> NodeProcess:
        """Start a node."""
        forking = {**vars(subprocess), "Popen": _ForkedProcess}
        with mock.patch("dql_core.process.subprocess", SimpleNamespace(**forking)):
            return super().start(command)

    def start_anew(self, command: NodeCommand) -> NodeProcess:
        """Start a node in an interpreter that has imported nothing."""
        return super().start(command)


@contextlib.contextmanager
def forked_closed_loops() -> Iterator[None]:
    """Let the nodes of closed loops be forked; their command lines and environments hide that."""
    with mock.patch.object(closed_loop, "NodeProcesses", ForkedNodes):
        yield


class _ForkedProcess:
    """What `ChildProcess` uses of a `subprocess.Popen`: no input, no output, a pipe of errors."""

    stdin = None

    def __init__(self, arguments: Sequence[str], env: Mapping[str, str], **_: Any) -> None:
        self.returncode: int | None = None
        self._lock = threading.Lock()
        reader, writer = os.pipe()
        self.stderr: TextIO = os.fdopen(reader, errors="replace")
        self._channel, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        request = json.dumps(
            {
                "arguments": list(arguments[2:]),  # after "python -m"
                "environment": dict(env),
                "folder": os.getcwd(),
                "ignores_hangup": signal.getsignal(signal.SIGHUP) == signal.SIG_IGN,
            }
        )
        with other:
            socket.send_fds(_server(), [request.encode()], [writer, other.fileno()])
        os.close(writer)
        self.pid = int(self._channel.recv(_MOST_BYTES))
        self._channel.setblocking(False)

    def poll(self) -> int | None:
        with self._lock:
            if self.returncode is None:
                try:
                    told = self._channel.recv(_MOST_BYTES)
                except BlockingIOError:
                    return None
                self._channel.close()
                self.returncode = int(told)
            return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        deadline = None if timeout is None else time.monotonic() + timeout
        while (code := self.poll()) is None:
            if deadline is not None and time.monotonic() >= deadline:
                raise subprocess.TimeoutExpired("a node", timeout or 0.0)
            time.sleep(_POLL_S)
        return code

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


_connections: list[socket.socket] = []


def _server() -> socket.socket:
    """The connection to the server, which ends with it."""
    if not _connections:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        code = f"import {__name__} as server; server.serve({theirs.fileno()})"
        with theirs:
            process = subprocess.Popen(
                [PYTHON, "-c", code],
                env=_environment() | {"OPENBLAS_NUM_THREADS": "1"},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
        _connections.append(ours)
        atexit.register(process.wait)
        atexit.register(ours.close)  # runs first: the server ends with it
    return _connections[0]


def _environment() -> dict[str, str]:
    """This process's environment, for another interpreter without what ROS's wheels put there."""
    if sys.executable == PYTHON:
        return dict(os.environ)
    return {name: value for name, value in os.environ.items() if name not in OF_WHEELS}


def serve(connection: int) -> None:
    """Fork a node for each request; this returns in the node, too, and ends it as any program."""
    for module in PRELOADED:
        importlib.import_module(module)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # it may have been started by a test with nohup
    _let_tracing_survive_a_fork()
    gc.collect()
    gc.freeze()
    with (
        socket.socket(fileno=connection) as requests,
        selectors.DefaultSelector() as selector,
        contextlib.ExitStack() as opened,
    ):
        selector.register(requests, selectors.EVENT_READ)
        own = os.getpid()
        while os.getpid() == own:
            for key, _ in selector.select():
                if key.data is not None:
                    selector.unregister(key.fd)
                    key.data()
                    continue
                text, files, *_ = socket.recv_fds(requests, _MOST_BYTES, 2)
                if not text:
                    return
                stderr, channel = files[0], opened.enter_context(socket.socket(fileno=files[1]))
                if (pid := os.fork()) == 0:
                    break
                os.close(stderr)
                _answer(channel, pid)
                process = opened.enter_context(open(os.pidfd_open(pid), "rb", buffering=0))
                bury = partial(_bury, pid, process, channel)
                selector.register(process, selectors.EVENT_READ, bury)
    _become(json.loads(text), stderr, own)


def _let_tracing_survive_a_fork() -> None:
    """Do what LTTng, whose two threads `rclpy` starts when imported, wants done around a fork.

    Source: https://lttng.org/man/3/lttng-ust, "Using LTTng-UST with daemons", which preloads
    a library that calls these functions.
    """
    loaded = {line.split()[-1] for line in Path("/proc/self/maps").read_text().splitlines()}
    for path in loaded:
        if re.search(r"/liblttng-ust(-[0-9a-f]+)?\.so", path):
            library, signals = ctypes.CDLL(path), ctypes.create_string_buffer(128)  # a sigset_t
            prefix = "lttng_ust" if hasattr(library, "lttng_ust_before_fork") else "ust"
            before, after_in_parent, after_in_child = (
                partial(getattr(library, f"{prefix}_{when}"), signals)
                for when in ("before_fork", "after_fork_parent", "after_fork_child")
            )
            os.register_at_fork(
                before=before, after_in_parent=after_in_parent, after_in_child=after_in_child
            )


def _bury(pid: int, process: FileIO, channel: socket.socket) -> None:
    _answer(channel, os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
    channel.close()
    process.close()


def _answer(channel: socket.socket, number: int) -> None:
    with contextlib.suppress(BrokenPipeError):  # nobody asks any more
        channel.send(str(number).encode())


def _become(request: dict[str, Any], stderr: int, parent: int) -> None:
    os.setsid()
    os.dup2(stderr, 2)
    os.close(stderr)
    if request["ignores_hangup"]:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"] | {PARENT_VARIABLE: str(parent)})
    module, *arguments = request["arguments"]
    sys.argv = [module, *arguments]
    sys.modules.pop(module, None)
    runpy.run_module(module, run_name="__main__", alter_sys=True)
