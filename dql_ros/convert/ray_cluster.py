"""Converts bags on a Ray cluster whose machines share a file system."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

from dql_core.errors import BagError, ConfigError
from dql_core.ray_cluster import Surroundings, connected, failure_of
from dql_ros.convert.bag_job import BagJob, Outcome, attempt, without_worker

# How long a task may take to remove its temporary files before it is killed.
GRACE_S = 5.0
# More than these wait here instead of in Ray.
MAX_SUBMITTED = 1000


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
    with connected(address, workers) as ray:
        remote = ray.remote(num_cpus=1, max_retries=0)(attempt_there)
        surroundings = Surroundings.here()
        waiting = iter(enumerate(jobs))
        running: dict[Any, int] = {}
        try:
            while True:
                for index, job in islice(waiting, (workers or MAX_SUBMITTED) - len(running)):
                    running[remote.remote(job, surroundings)] = index
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


def attempt_there(job: BagJob, surroundings: Surroundings) -> Outcome:
    """Convert a bag on a machine of the cluster, as it would be on the user's own."""
    if refusal := surroundings.enter():
        return Outcome(error=ConfigError(refusal))
    if not job.folder.is_dir():
        return Outcome(
            error=BagError(
                f"{job.bag}: {socket.gethostname()} cannot access {job.folder.parent.parent}; put "
                f"bags, --out and the working folder on a disk that all machines share"
            )
        )
    return attempt(job)


def _fetch(ray: Any, task: Any, job: BagJob) -> Outcome:
    try:
        outcome: Outcome = ray.get(task)
    except ray.exceptions.RayError as error:
        reason = f"the Ray worker that converted it failed: {failure_of(ray, error)}"
        return without_worker(job, reason)
    return outcome
