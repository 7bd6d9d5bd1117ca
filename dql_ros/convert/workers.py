"""Where the bags of a conversion are converted: in this process, in several, or on a cluster."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, suppress
from itertools import islice
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from types import FrameType

from dql_core.process import uninterrupted
from dql_ros.convert.bag_job import BagJob, Outcome, attempt, convert_bag, without_worker
from dql_ros.convert.ray_cluster import outcomes_of_cluster

# How long a process may take to remove its temporary files before it is killed.
GRACE_S = 5.0


def convert_bags(
    jobs: Sequence[BagJob],
    workers: int | None,
    ray: str | None,
    progress: Callable[[BagJob, int], None],
    finished: Callable[[BagJob], None],
) -> None:
    """Convert bags; each leaves its result in its own folder.

    Args:
        jobs: The bags.
        workers: How many are converted at a time; ``None`` for one, on a cluster for as many as
            it has room for.
        ray: Address of the Ray cluster to do it on; ``None`` for this machine.
        progress: Called with a bag and how many of its bytes are done; on a cluster at its end.
        finished: Called with each bag that is converted.

    Raises:
        DqlError: If a bag does not convert: of those that do not the first in order, however
            many are converted at a time. What others have finished is kept.
    """
    if ray is not None:
        _gather(jobs, outcomes_of_cluster(jobs, ray, workers), progress, finished)
    elif min(workers or 1, len(jobs)) > 1:
        outcomes = outcomes_of_processes(jobs, min(workers or 1, len(jobs)), progress)
        _gather(jobs, outcomes, progress, finished)
    else:
        for job in jobs:
            result = convert_bag(job, lambda done, job=job: progress(job, done))  # type: ignore[misc]  # mypy does not infer a lambda's default
            progress(job, result.size_bytes)
            finished(job)


def _gather(
    jobs: Sequence[BagJob],
    outcomes: Iterator[tuple[int, Outcome]],
    progress: Callable[[BagJob, int], None],
    finished: Callable[[BagJob], None],
) -> None:
    under_way = dict(enumerate(jobs))
    failed: dict[int, Outcome] = {}
    with closing(outcomes):  # type: ignore[type-var]  # both are generators
        for index, outcome in outcomes:
            job = under_way.pop(index)
            if outcome.error is None:
                progress(job, outcome.size_bytes)
                finished(job)
            else:
                failed[index] = outcome
            # One that comes before it may fail as well, and is then the first.
            if failed and min(failed) < min(under_way, default=len(jobs)):
                failed[min(failed)].raise_error()


def outcomes_of_processes(
    jobs: Sequence[BagJob], workers: int, progress: Callable[[BagJob, int], None]
) -> Iterator[tuple[int, Outcome]]:
    """Convert bags, started in their order; yield each one's index and outcome when it is there.

    A process that dies takes nothing with it but the bag that it was at, and is replaced. No
    process is left when the iterator is exhausted or closed.

    Args:
        jobs: The bags.
        workers: How many processes.
        progress: Called with a bag and how many of its bytes are done.
    """
    waiting = iter(enumerate(jobs))
    team: list[_Worker] = []
    try:
        for index, job in islice(waiting, workers):
            _start(team).give(index, job)
        while busy := [worker for worker in team if worker.task is not None]:
            ready = wait([worker.pipe for worker in busy])
            for worker in busy:
                if worker.pipe not in ready or worker.task is None:
                    continue
                index, job = worker.task
                report = worker.receive()
                if isinstance(report, int):
                    progress(job, report)
                    continue
                yield index, report
                if following := next(waiting, None):
                    (worker if worker.is_alive else _start(team)).give(*following)
    finally:
        for worker in team:
            worker.ask_to_stop()
        for worker in team:
            worker.stop()


class _Worker:
    """A process, seen from the one that started it.

    Attributes:
        pipe: Is ready when there is something to receive.
        task: The index and the bag that it is at; ``None`` if it has nothing to do.
        is_alive: Whether it can be given a bag.
    """

    def __init__(self) -> None:
        # Forked processes would share the state of libraries that have threads.
        context = multiprocessing.get_context("spawn")
        self.pipe: Connection
        self.pipe, other = context.Pipe()
        self.task: tuple[int, BagJob] | None = None
        self.is_alive = True
        self._process = context.Process(target=_serve, args=(other,), name="dql convert")
        self._process.start()
        other.close()  # else the pipe would not end with the process

    def give(self, index: int, job: BagJob) -> None:
        """Let it convert a bag."""
        self.task = index, job
        with suppress(OSError):  # `receive` sees that the process has died meanwhile
            self.pipe.send(job)

    def receive(self) -> int | Outcome:
        """Return how many bytes of its bag are done, or what became of the bag."""
        assert self.task is not None, "it works at nothing"
        try:
            report: int | Outcome = self.pipe.recv()
        except (EOFError, OSError):
            report = without_worker(self.task[1], self._end())
            self.is_alive = False
        if isinstance(report, Outcome):
            self.task = None
        return report

    def ask_to_stop(self) -> None:
        """Let it remove its temporary files and end."""
        self.pipe.close()
        self._process.terminate()

    def stop(self) -> None:
        """Wait for its end, but not long."""
        self._process.join(GRACE_S)
        self._process.kill()
        self._process.join()

    def _end(self) -> str:
        self._process.join()
        code = self._process.exitcode or 0
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"exited with {code}"
        return (
            f"the worker process that converted it {how}; if for lack of memory, use fewer "
            f"--workers"
        )


def _start(team: list[_Worker]) -> _Worker:
    """Start a process that Ctrl-C in a terminal, which all processes there get, does not reach."""
    # It is started with the first process otherwise, and Python lets SIGINT through after that.
    resource_tracker.ensure_running()
    held = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        # Another thread of this process may take SIGINT all the same.
        with uninterrupted():
            worker = _Worker()
            team.append(worker)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, held)
    return worker


def _serve(pipe: Connection) -> None:
    """Convert one bag after the other, until the pipe or the main process ends."""
    signal.signal(signal.SIGTERM, _leave)
    threading.Thread(target=_leave_with_parent, daemon=True).start()
    with suppress(EOFError, ConnectionError):
        while True:
            pipe.send(attempt(pipe.recv(), pipe.send))
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # it ends by itself


def _leave(number: int, _frame: FrameType | None) -> None:
    signal.signal(number, signal.SIG_IGN)  # once is enough
    sys.exit(128 + number)


def _leave_with_parent() -> None:
    """Leave no process behind a main process that was killed."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(GRACE_S)
        os._exit(1)
