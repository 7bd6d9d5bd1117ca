"""Converts bags on a Ray cluster whose machines share a file system."""

from __future__ import annotations

import importlib
import os
import socket
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from itertools import islice
from typing import Any

from dql_core.errors import BagError, ConfigError, one_line
from dql_core.leftovers import temporary_folder
from dql_ros import __version__
from dql_ros.convert.bag_job import BagJob, Outcome, attempt, without_worker

# A cluster on this machine for this conversion alone.
LOCAL = "local"
# How long a task may take to remove its temporary files before it is killed.
GRACE_S = 5.0
CONNECT_S = 5.0
MENDING = f"start a cluster with 'ray start --head', or use --ray {LOCAL}"
# More than these wait here instead of in Ray.
MAX_SUBMITTED = 1000
# What passes through Ray's memory is small; the bags and episodes lie in files.
LOCAL_STORE_BYTES = 100_000_000
# What Ray reads when it is imported and when it starts a cluster here: to stay on the loopback
# interface, and to ask for the cloud's metadata, which it wants for its statistics even when they
# are off, where nobody listens.
LOCAL_ENVIRONMENT = {
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    "http_proxy": "http://127.0.0.1:9",
    "no_proxy": "127.0.0.1,localhost",
}


def outcomes_of_cluster(
    jobs: Sequence[BagJob], address: str, workers: int | None
) -> Iterator[tuple[int, Outcome]]:
    """Convert bags, started in their order; yield each one's index and outcome when it is there.

    Args:
        jobs: The bags; they and the jobs' folders must be visible to all machines of the cluster.
        address: ``host:port`` of the cluster, ``auto`` for the one of this machine or of
            RAY_ADDRESS, ``local`` for one that begins and ends here.
        workers: How many are converted at a time; ``None`` for as many as there is room for.

    Raises:
        ConfigError: If Ray is not installed, or no cluster answers.
    """
    with _connected(address, workers) as ray:
        remote = ray.remote(num_cpus=1, max_retries=0)(attempt_there)
        surroundings = os.getcwd(), list(sys.path), __version__
        waiting = iter(enumerate(jobs))
        running: dict[Any, int] = {}
        try:
            while True:
                for index, job in islice(waiting, (workers or MAX_SUBMITTED) - len(running)):
                    running[remote.remote(job, *surroundings)] = index
                if not running:
                    return
                (done, *_), _ = ray.wait(list(running), num_returns=1)
                index = running.pop(done)
                yield index, _fetch(ray, done, jobs[index])
        finally:
            for task in running:
                ray.cancel(task)
            if running:
                ray.wait(list(running), num_returns=len(running), timeout=GRACE_S)


def attempt_there(job: BagJob, folder: str, modules: list[str], version: str) -> Outcome:
    """Convert a bag on a machine of the cluster, as it would be on the user's own."""
    here = socket.gethostname()
    if version != __version__:
        return Outcome(
            error=ConfigError(
                f"--ray: {here} has dql_ros {__version__} and this machine {version}; install the "
                f"same on all"
            )
        )
    if not (job.folder.is_dir() and os.path.isdir(folder)):
        return Outcome(
            error=BagError(
                f"{job.bag}: {here} cannot access {job.folder.parent.parent} or {folder}; put "
                f"bags, --out and the working folder on a disk that all machines share"
            )
        )
    os.chdir(folder)
    sys.path += [path for path in modules if path not in sys.path]
    return attempt(job)


def _fetch(ray: Any, task: Any, job: BagJob) -> Outcome:
    try:
        outcome: Outcome = ray.get(task)
    except ray.exceptions.RayError as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        # A traceback ends with what it is about, other errors begin with it.
        reason = lines[-1 if isinstance(error, ray.exceptions.RayTaskError) else 0]
        return without_worker(job, f"the Ray worker that converted it failed: {reason}")
    return outcome


def _ray() -> Any:
    try:
        return importlib.import_module("ray")
    except ImportError as cause:
        raise ConfigError(
            f"--ray needs Ray ({cause}); install it with: pip install 'dql_ros[ray]'"
        ) from cause


@contextmanager
def _connected(address: str, workers: int | None) -> Iterator[Any]:
    """Yield Ray while it has a cluster."""
    with ExitStack() as stack:
        with _added_to_environment(LOCAL_ENVIRONMENT if address == LOCAL else {}):
            ray = _ray()
            if not ray.is_initialized():  # else it is a program's that uses Ray itself
                _connect(ray, address, workers, stack)
        yield ray


def _connect(ray: Any, address: str, workers: int | None, stack: ExitStack) -> None:
    """Begin a cluster here, or join one; ``stack`` ends it."""
    _require_listener(ray, address)
    options: dict[str, Any] = {}
    if address == LOCAL:
        folder = temporary_folder()
        stack.callback(folder.remove)
        options = {
            "num_cpus": workers,
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
def _added_to_environment(variables: Mapping[str, str]) -> Iterator[None]:
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
