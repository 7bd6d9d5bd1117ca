"""Where the bags of a conversion are converted: in this process, or several at a time."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import partial

from dql_core.errors import BagError
from dql_ros.bag.bag_job import BagJob, convert_bag


def convert_bags(
    jobs: Sequence[BagJob], workers: int, progress: Callable[[BagJob, int], None]
) -> None:
    """Convert bags; each leaves its part in its own folder.

    Args:
        jobs: The bags.
        workers: How many are converted at a time; with one it is done in this process.
        progress: Told of a bag how many of its bytes are done; with workers once it is whole.

    Raises:
        DqlError: If a bag does not convert; what others have finished is kept.
    """
    if workers <= 1 or len(jobs) <= 1:
        for job in jobs:
            part = convert_bag(job, partial(progress, job))
            progress(job, part.size_bytes)
        return
    with _pool(min(workers, len(jobs))) as pool:
        futures = [pool.submit(convert_bag, job) for job in jobs]
        for job, future in zip(jobs, futures, strict=True):
            try:
                part = future.result()
            except BrokenProcessPool as cause:
                raise BagError(
                    f"{job.bag}: a worker process died, perhaps for lack of memory; use fewer "
                    f"--workers and go on with --resume"
                ) from cause
            progress(job, part.size_bytes)


@contextmanager
def _pool(workers: int) -> Iterator[ProcessPoolExecutor]:
    """A pool whose processes end with the block, whatever ends it."""
    others = multiprocessing.active_children()
    # Forked processes would share the state of libraries that have threads.
    pool = ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn"))
    try:
        yield pool
    except BaseException:
        for process in multiprocessing.active_children():
            if process not in others:
                process.terminate()
        raise
    finally:
        pool.shutdown(cancel_futures=True)
