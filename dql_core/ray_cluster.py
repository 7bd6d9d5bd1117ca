"""Ray clusters, whose machines share a file system: joined, or begun on this machine alone."""

from __future__ import annotations

import importlib
import os
import socket
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import dql_core
from dql_core.errors import ConfigError, DqlError, one_line
from dql_core.leftovers import temporary_folder

# A cluster on this machine for one command alone.
LOCAL = "local"
CONNECT_S = 5.0
MENDING = f"start a cluster with 'ray start --head', or use --ray {LOCAL}"
# What passes through Ray's memory is small; everything large lies in files.
LOCAL_STORE_BYTES = 100_000_000
# What Ray reads when it is imported and when it starts a cluster here: to stay on the loopback
# interface, and to ask for the cloud's metadata, which it wants for its statistics even when they
# are off, where nobody listens.
LOCAL_ENVIRONMENT = {
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    # Its tasks are no less urgent than other processes of the command would be.
    "RAY_worker_niceness": "0",
    "http_proxy": "http://127.0.0.1:9",
    "no_proxy": "127.0.0.1,localhost",
}


@dataclass(frozen=True)
class Surroundings:
    """Where the user's command runs, so that a task elsewhere finds the same files and modules.

    Attributes:
        folder: The working folder.
        modules: Where modules are looked for.
        version: Of this package.
    """

    folder: str
    modules: tuple[str, ...]
    version: str

    @classmethod
    def here(cls) -> Surroundings:
        """Return those of this process."""
        return cls(os.getcwd(), tuple(sys.path), dql_core.__version__)

    def enter(self) -> str:
        """Work in them from now on; return why that is not possible, or nothing."""
        machine = socket.gethostname()
        if self.version != dql_core.__version__:
            return (
                f"--ray: {machine} has dql_ros {dql_core.__version__} and this machine "
                f"{self.version}; install the same on all"
            )
        if not os.path.isdir(self.folder):
            return (
                f"--ray: {machine} cannot access {self.folder}; use a disk that all machines share"
            )
        os.chdir(self.folder)
        sys.path += [path for path in self.modules if path not in sys.path]
        return ""


@contextmanager
def connected(address: str, processors: int | None = None) -> Iterator[Any]:
    """Yield the module ``ray`` while it has a cluster.

    Args:
        address: ``host:port`` of the cluster, ``auto`` for the one of this machine or of
            RAY_ADDRESS, ``local`` for one that begins and ends here.
        processors: How many one that begins here has; ``None`` for the machine's.

    Raises:
        ConfigError: If Ray is not installed, or no cluster answers.
    """
    with ExitStack() as stack:
        with added_to_environment(LOCAL_ENVIRONMENT if address == LOCAL else {}):
            ray = _ray()
            if not ray.is_initialized():  # else it is a program's that uses Ray itself
                _connect(ray, address, processors, stack)
        yield ray


def failure_of(ray: Any, error: Exception) -> str:
    """Return what Ray says of a task that failed, as one line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    # A traceback ends with what it is about, other errors begin with it.
    return lines[-1 if isinstance(error, ray.exceptions.RayTaskError) else 0]


def _ray() -> Any:
    try:
        return importlib.import_module("ray")
    except ImportError as cause:
        if isinstance(cause, DqlError):  # which says how to install it
            raise
        raise ConfigError(
            f"--ray needs Ray ({cause}); install it with: pip install 'dql_ros[ray]'"
        ) from cause


def _connect(ray: Any, address: str, processors: int | None, stack: ExitStack) -> None:
    """Begin a cluster here, or join one; ``stack`` ends it."""
    _require_listener(ray, address)
    options: dict[str, Any] = {}
    if address == LOCAL:
        folder = temporary_folder()
        stack.callback(folder.remove)
        options = {
            "num_cpus": processors,
            "include_dashboard": False,
            "object_store_memory": LOCAL_STORE_BYTES,
            "_node_ip_address": "127.0.0.1",
            "_temp_dir": str(folder.path),
        }
    stack.callback(ray.shutdown)
    try:
        ray.init(address=address, log_to_driver=False, logging_level="ERROR", **options)
    except (ConnectionError, RuntimeError, ValueError, SystemExit) as cause:
        raise ConfigError(
            f"--ray {address}: no connection: {one_line(cause)}; {MENDING}"
        ) from cause


@contextmanager
def added_to_environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Have these environment variables during the block."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _require_listener(ray: Any, address: str) -> None:
    """Ray itself would try for minutes, and then end the process."""
    host, colon, port = address.rpartition("://")[2].rpartition(":")
    if not (colon and port.isdigit()):
        if address not in ("auto", LOCAL):
            raise ConfigError(f"--ray {address}: not an address; write host:port, auto or {LOCAL}")
        return
    if host in ("localhost", "127.0.0.1"):
        host = ray.util.get_node_ip_address()  # Ray takes them for this
    try:
        socket.create_connection((host, int(port)), CONNECT_S).close()
    except OSError as cause:
        raise ConfigError(
            f"--ray {address}: no Ray cluster answers at this address "
            f"({cause.strerror or cause}); {MENDING}"
        ) from cause
