"""Where the bags of a conversion are converted: in this process, in several, or on a cluster."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing

from dql_ros.bag import process_pool, ray_cluster
from dql_ros.bag.bag_job import BagJob, convert_bag
from dql_ros.bag.outcome import Outcome


def convert_bags(
    jobs: Sequence[BagJob],
    workers: int | None,
    ray: str | None,
    progress: Callable[[BagJob, int], None],
    finished: Callable[[BagJob], None],
) -> None:
    """Convert bags; each leaves its part in its own folder.

    Args:
        jobs: The bags.
        workers: How many are converted at a time; ``None`` for one, on a cluster for as many as
            it has room for.
        ray: Address of the Ray cluster to do it on; ``None`` for this machine.
        progress: Told of a bag how many of its bytes are done; on a cluster once it is whole.
        finished: Told of each bag that is converted.

    Raises:
        DqlError: If a bag does not convert: of those that do not the first in order, however
            many are converted at a time. What others have finished is kept.
    """
    if ray is not None:
        _gather(jobs, ray_cluster.outcomes(jobs, ray, workers), progress, finished)
    elif min(workers or 1, len(jobs)) > 1:
        outcomes = process_pool.outcomes(jobs, min(workers or 1, len(jobs)), progress)
        _gather(jobs, outcomes, progress, finished)
    else:
        for job in jobs:
            part = convert_bag(job, lambda done, job=job: progress(job, done))  # type: ignore[misc]  # mypy does not infer a lambda's default
            progress(job, part.size_bytes)
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
