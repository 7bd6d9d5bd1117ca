"""Bags -> dataset: convert each bag by itself, put the parts together, and say what happened."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from dql_core.atomic import is_free, writing
from dql_core.errors import BagError, ConfigError, DatasetError, DqlError, OutputError
from dql_ros.bag.assembly import REPORT_HTML, REPORT_JSON, assemble
from dql_ros.bag.bag_job import BagJob
from dql_ros.bag.bag_part import BagPart
from dql_ros.bag.episode_converter import EpisodeConverter
from dql_ros.bag.parts import Parts
from dql_ros.bag.reader import Bag
from dql_ros.bag.recording import require_topics
from dql_ros.bag.request import Manner, Source
from dql_ros.bag.storage.layout import COMPRESSED, find_files
from dql_ros.bag.workers import convert_bags

__all__ = ["REPORT_HTML", "REPORT_JSON", "Interrupted", "Manner", "Source", "convert"]

PLAINLY = Manner()


class Interrupted(KeyboardInterrupt):
    """The user stopped a conversion.

    Attributes:
        finished: How many bags are done and need not be converted again with ``resume``.
    """

    def __init__(self, finished: int) -> None:
        super().__init__()
        self.finished = finished


def convert(
    source: Source,
    out: Path,
    manner: Manner = PLAINLY,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, Any]:
    """Convert bags to a Minari dataset in ``out/data`` with a report beside it.

    Args:
        source: What to convert.
        out: The folder to make; it appears whole or not at all.
        manner: How.
        progress: Told, now and then, how many bytes of how many are done.

    Returns:
        The report, as written to ``out/report.json``.

    Raises:
        BagError: If a bag cannot be read, lacks what the contract needs, or no bag has an episode.
        ContractError: If the messages or the reward function do not fit the contract.
        ConfigError: If ``manner`` contradicts itself, or no Ray cluster answers.
        DatasetError: If ``out`` already holds something.
        OutputError: If it cannot be written.
        Interrupted: After Ctrl-C; of ``out`` nothing is there.
    """
    if manner.dry_run and manner.resume:
        raise ConfigError("--dry-run takes nothing over: leave out --resume")
    target = out.absolute()
    _require_free(target, out)
    parts = Parts(target, dry_run=manner.dry_run)
    try:
        with writing(out), parts.opened():
            report = _convert(target, source, manner, parts, progress)
            parts.discard()
    except FileExistsError as cause:
        raise DatasetError(_taken(out)) from cause
    except KeyboardInterrupt as cause:
        raise Interrupted(0 if manner.dry_run else parts.finished) from cause
    except DqlError as cause:
        raise type(cause)(f"{cause}{_kept(parts, source, manner)}") from cause
    except OSError as cause:
        if cause.errno is not None:
            raise
        # By NumPy, when a disk is full.
        raise OutputError(
            f"{out}: cannot be written: {cause}; free some room, or name another place"
            f"{_kept(parts, source, manner)}"
        ) from cause
    return report


def _require_free(target: Path, out: Path) -> None:
    """Find out before the work, not after it."""
    if not is_free(target):
        raise DatasetError(_taken(out))


def _taken(out: Path) -> str:
    return f"{out}: already exists; name another --out folder or remove it"


def _kept(parts: Parts, source: Source, manner: Manner) -> str:
    if not parts.finished or manner.dry_run:
        return ""
    return f"; {parts.finished} of {len(source.bags)} bags are done, go on with --resume"


def _convert(
    out: Path,
    source: Source,
    manner: Manner,
    parts: Parts,
    progress: Callable[[int, int], None],
) -> dict[str, Any]:
    contract = source.contract
    EpisodeConverter(contract)  # its functions must exist before the first bag is read
    jobs = [
        BagJob(
            bag,
            contract,
            parts.folder_of(bag),
            source.namespace,
            salvage=manner.salvage,
            keep_going=manner.keep_going,
        )
        for bag in source.bags
    ]
    converted = _convert_jobs(jobs, manner, parts, progress)
    return assemble(source, parts, jobs, converted, None if manner.dry_run else out)


def _convert_jobs(
    jobs: Sequence[BagJob], manner: Manner, parts: Parts, progress: Callable[[int, int], None]
) -> list[BagPart]:
    """Convert those bags that are not done, and return the parts of all."""
    _require_different([job.bag for job in jobs])
    waiting = [job for job in jobs if not (manner.resume and parts.take_over(job))]
    sizes = {job.bag: _look_at(job) for job in waiting}
    done = dict.fromkeys(sizes, 0)

    def tell(job: BagJob, read: int) -> None:
        done[job.bag] = read
        progress(sum(done.values()), sum(sizes.values()))

    parts.begin(waiting, resume=manner.resume)
    convert_bags(waiting, manner.workers, manner.ray, tell, parts.finish)
    return [parts.read(job) for job in jobs]


def _look_at(job: BagJob) -> int:
    """Check that a bag has what is needed, before the first is read; return its size in bytes."""
    try:
        files = find_files(job.bag, salvage=job.salvage).files
        if any(file.name.endswith(COMPRESSED) for file in files):
            # To look into it would cost as much as to read it.
            return sum(file.stat().st_size for file in files)
        with Bag(job.bag, salvage=job.salvage) as bag:
            require_topics(bag, job.contract, job.namespace)
            return bag.size_bytes
    except BagError:
        if not job.keep_going:
            raise
        return 0


def _require_different(bags: Sequence[Path]) -> None:
    seen: set[Path] = set()
    for bag in bags:
        if bag.resolve() in seen:
            raise BagError(f"{bag}: is named twice; name each bag once")
        seen.add(bag.resolve())
