"""What became of a bag that another process converted."""

from __future__ import annotations

import json
import traceback
from collections.abc import Callable
from dataclasses import dataclass

from dql_core.atomic import write_text
from dql_core.errors import BagError, DqlError
from dql_ros.bag.bag_job import PART, BagJob, convert_bag
from dql_ros.bag.bag_part import BagPart


class RemoteError(Exception):
    """The cause of an error in another process: the traceback there, as text."""


@dataclass(frozen=True)
class Outcome:
    """What a worker tells of its bag, besides the files in the job's folder.

    Attributes:
        size_bytes: Size of the bag.
        error: Why it was not converted; ``None`` if it was.
        trace: Where that happened, for errors that are not the user's.
    """

    size_bytes: int = 0
    error: Exception | None = None
    trace: str = ""

    def raise_error(self) -> None:
        """Raise the error, if there is one, with the worker's traceback as its cause."""
        if self.error is not None:
            raise self.error from (RemoteError(self.trace) if self.trace else None)


def attempt(job: BagJob, progress: Callable[[int], None] = lambda _: None) -> Outcome:
    """Convert a bag, and return an error instead of raising it."""
    try:
        return Outcome(convert_bag(job, progress).size_bytes)
    except (DqlError, OSError) as error:
        return Outcome(error=error, trace=traceback.format_exc())
    except Exception as error:  # noqa: BLE001  # the main process raises it
        # Not every exception survives the way between processes.
        told = RuntimeError(f"{job.bag}: {type(error).__name__}: {error}")
        return Outcome(error=told, trace=traceback.format_exc())


def without_worker(job: BagJob, reason: str) -> Outcome:
    """Return the outcome of a bag whose worker could not tell it.

    Args:
        job: The bag; with ``keep_going`` its part says the reason.
        reason: What happened to the worker.
    """
    error = BagError(f"{job.bag}: {reason}")
    if not job.keep_going:
        return Outcome(error=error)
    part = BagPart(bag=str(job.bag), error=str(error))
    write_text(job.folder / PART, json.dumps(part.to_json()))
    return Outcome()
