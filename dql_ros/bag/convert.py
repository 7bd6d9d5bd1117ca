"""Bags -> dataset: convert each bag by itself, put the parts together, and say what happened."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from dql_core.atomic import whole_directory, write_text
from dql_core.data.dataset import write_dataset
from dql_core.errors import BagError, DatasetError
from dql_core.spec import PolicySpec
from dql_ros.bag.bag_job import BagJob
from dql_ros.bag.bag_part import BagPart
from dql_ros.bag.episode_converter import EpisodeConverter
from dql_ros.bag.field_statistics import DatasetStatistics
from dql_ros.bag.parts import Parts
from dql_ros.bag.reader import Bag
from dql_ros.bag.recording import require_topics
from dql_ros.bag.report_document import make_report
from dql_ros.bag.report_page import render
from dql_ros.bag.workers import convert_bags
from dql_ros.bag.writer import CONTRACT_KEY
from dql_ros.contract import Contract

REPORT_JSON = "report.json"
REPORT_HTML = "report.html"


@dataclass(frozen=True)
class Source:
    """What to convert.

    Attributes:
        contract: The robot's contract.
        bags: The bags in the order of the dataset's episodes.
        namespace: Namespace of the contract's relative topics in the bags.
        contract_name: The contract's file name, for the report.
        contract_text: Its text, which the dataset carries.
    """

    contract: Contract
    bags: Sequence[Path]
    namespace: str = "/"
    contract_name: str = ""
    contract_text: str = ""


@dataclass(frozen=True)
class Manner:
    """How to convert.

    Attributes:
        salvage: Read what can be read of damaged bags, and tell what is lost.
        keep_going: Leave out bags that do not convert, and tell of them.
        resume: Take over the bags that an interrupted conversion to the same folder has done.
        dry_run: Write nothing.
        workers: How many bags are converted at a time.
    """

    salvage: bool = False
    keep_going: bool = False
    resume: bool = False
    dry_run: bool = False
    workers: int = 1


class Interrupted(KeyboardInterrupt):
    """The user stopped a conversion.

    Attributes:
        finished: How many bags need not be converted again with ``resume``.
    """

    def __init__(self, finished: int) -> None:
        super().__init__()
        self.finished = finished


def convert(
    source: Source,
    out: Path,
    manner: Manner = Manner(),
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
        DatasetError: If ``out`` already holds something.
        Interrupted: After Ctrl-C; of ``out`` nothing is there.
    """
    parts = Parts(out, resume=manner.resume)
    finished = False
    try:
        with whole_directory(out) as temporary:
            report = _convert_into(temporary, source, manner, parts, progress)
            if manner.dry_run:
                raise _DryRunError(report)
        finished = True
    except _DryRunError as dry_run:
        finished = True
        return dry_run.report
    except FileExistsError as cause:
        raise DatasetError(
            f"{out}: already exists; name another --out folder or remove it"
        ) from cause
    except KeyboardInterrupt as cause:
        raise Interrupted(parts.keep_finished()) from cause
    finally:
        parts.discard() if finished else parts.keep_finished()
    return report


class _DryRunError(Exception):
    """Leaves the folder that must not appear, with what it would have told."""

    def __init__(self, report: dict[str, Any]) -> None:
        super().__init__()
        self.report = report


def _convert_into(
    directory: Path,
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
    if not any(part.episodes for part in converted):
        raise BagError(_nothing(converted))
    spec = _spec(contract, converted)
    fields = DatasetStatistics.of(spec, lambda: parts.episodes(jobs, converted))
    report = make_report(
        contract,
        source.contract_name,
        source.namespace,
        converted,
        fields,
        contract_text=source.contract_text,
    )
    if manner.dry_run:
        return report
    write_dataset(
        directory,
        parts.episodes(jobs, converted),
        spec,
        description=f"Recorded from {contract.robot} and converted by dql convert.",
        extra_metadata={
            CONTRACT_KEY: source.contract_text,
            "dql_inputs": json.dumps(report["bags_sha256"]),
        },
    )
    write_text(directory / REPORT_JSON, json.dumps(report, indent=2) + "\n")
    write_text(directory / REPORT_HTML, render(report))
    return report


def _convert_jobs(
    jobs: Sequence[BagJob], manner: Manner, parts: Parts, progress: Callable[[int, int], None]
) -> list[BagPart]:
    """Convert those bags that are not done, and return the parts of all."""
    _require_different([job.bag for job in jobs])
    waiting = [job for job in jobs if parts.finished(job) is None]
    sizes = {job.bag: _look_at(job) for job in waiting}
    done = dict.fromkeys(sizes, 0)

    def tell(job: BagJob, read: int) -> None:
        done[job.bag] = read
        progress(sum(done.values()), sum(sizes.values()))

    for job in waiting:
        parts.begin(job)
    convert_bags(waiting, manner.workers, tell)
    return [parts.read(job) for job in jobs]


def _look_at(job: BagJob) -> int:
    """Check that a bag has what is needed, before the first is read; return its size in bytes."""
    try:
        with Bag(job.bag, salvage=job.salvage) as bag:
            require_topics(bag, job.contract, job.namespace)
            return bag.size_bytes
    except BagError:
        if not job.keep_going:
            raise
        return 0


def _require_different(bags: Sequence[Path]) -> None:
    for index, bag in enumerate(bags):
        if bag.resolve() in [other.resolve() for other in bags[:index]]:
            raise BagError(f"{bag}: is named twice; name each bag once")


def _spec(contract: Contract, parts: Sequence[BagPart]) -> PolicySpec:
    """What the dataset's vectors mean: the contract's, with the bounds widened if it says so."""
    spec = contract.policy_spec()
    if contract.beyond_bounds != "widen":
        return spec
    low = np.min([part.action_min for part in parts if part.action_min], axis=0)
    high = np.max([part.action_max for part in parts if part.action_max], axis=0)
    fields = tuple(
        replace(field, low=min(field.low, float(least)), high=max(field.high, float(most)))
        for field, least, most in zip(spec.action, low, high, strict=True)
    )
    return replace(spec, action=fields)


def _nothing(parts: Sequence[BagPart]) -> str:
    """Say why no bag has an episode."""
    failed = [part.error for part in parts if part.error is not None]
    if failed:
        return f"no bag could be converted; the first: {failed[0]}"
    reasons = "; ".join(
        f"{span.reason} from {span.from_s:.1f} s to {span.to_s:.1f} s"
        for span in parts[0].left_out[:3]
    )
    return (
        f"{parts[0].bag}: no episode could be made ({reasons or 'no message'}); check the "
        f"contract's max_age_s and episode rules against the recording"
    )
