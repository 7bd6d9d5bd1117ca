"""Bags to a dataset: convert each bag by itself, put the results together, and report."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from dql_core.data.curation.shards import Shard
from dql_core.data.dataset import DATA_FOLDER, Episode, write_dataset
from dql_core.data.metadata import INPUTS_KEY, metadata_of
from dql_core.documents import file_sha256, read_json
from dql_core.errors import (
    BagError,
    ConfigError,
    DatasetError,
    DqlError,
    OutputError,
    counted,
)
from dql_core.files import atomic_directory, require_free, write_text, writing
from dql_core.spec import CONTRACT_KEY, PolicySpec
from dql_ros import __version__
from dql_ros.bag.reader import Bag
from dql_ros.bag.storage.folder import find_files
from dql_ros.bag.storage.message_folders import message_folders
from dql_ros.bag.storage.opening import COMPRESSED
from dql_ros.codecs import StreamEncoder
from dql_ros.contract import Contract
from dql_ros.contract.stream import absolute_namespace
from dql_ros.convert.bag_episodes import require_topics
from dql_ros.convert.bag_job import BagJob
from dql_ros.convert.bag_result import BagResult, no_episode
from dql_ros.convert.clock import FaultKind
from dql_ros.convert.episode_converter import EpisodeConverter
from dql_ros.convert.recorded_episode import Cause
from dql_ros.convert.report.document import make_report
from dql_ros.convert.report.field_statistics import DatasetStatistics
from dql_ros.convert.report.page import render
from dql_ros.convert.work_folder import MAX_RESULT_BYTES, WorkFolder, function_hashes
from dql_ros.convert.workers import convert_bags

__all__ = ["REPORT_HTML", "REPORT_JSON", "ConvertOptions", "Interrupted", "Source", "convert"]
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
class ConvertOptions:
    """How to convert.

    Attributes:
        salvage: Read what can be read of damaged bags, and report what is lost.
        keep_going: Leave out bags that do not convert, and report them.
        resume: Take over the bags that an interrupted conversion to the same folder has done; a
            shard that is done whole stays as it is.
        dry_run: Write nothing.
        workers: How many bags are converted at a time; ``None`` for one, on a Ray cluster for as
            many as it has room for.
        ray: Address of a Ray cluster to convert on, see `outcomes_of_cluster`.
        msgs: Folders with definitions of types that bags do not define.
        shard: Convert this part of the bags only, to be joined by ``dql dataset merge``.
    """

    salvage: bool = False
    keep_going: bool = False
    resume: bool = False
    dry_run: bool = False
    workers: int | None = None
    ray: str | None = None
    msgs: tuple[Path, ...] = ()
    shard: Shard | None = None


DEFAULT_OPTIONS = ConvertOptions()


class Interrupted(KeyboardInterrupt):
    """The user stopped a conversion; the text says what is kept for ``resume``, if anything."""


def convert(
    source: Source,
    out: Path,
    options: ConvertOptions = DEFAULT_OPTIONS,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, Any]:
    """Convert bags to a Minari dataset in ``out/data`` with a report beside it.

    Args:
        source: What to convert.
        out: The folder to make; it appears whole or not at all.
        options: How.
        progress: Called, now and then, with how many bytes of how many are done.

    Returns:
        The report, as written to ``out/report.json``.

    Raises:
        BagError: If a bag cannot be read, lacks what the contract needs, or no bag has an episode.
        ContractError: If the messages or the reward function do not fit the contract.
        ConfigError: If ``options`` contradicts itself, or no Ray cluster answers.
        DatasetError: If ``out`` already holds something.
        OutputError: If it cannot be written.
        Interrupted: After Ctrl-C; of ``out`` nothing is there.
    """
    if options.dry_run and options.resume:
        raise ConfigError("--dry-run and --resume cannot be used together")
    source = replace(source, namespace=absolute_namespace(source.namespace))
    _require_distinct(source.bags)  # also of those that other shards convert
    source, of_shard = _own_part(source, options.shard)
    target = out.absolute()
    work = WorkFolder(target, len(source.bags), dry_run=options.dry_run)
    if options.resume and of_shard and (report := _finished(source, target, of_shard)):
        with work.opened():
            work.discard()  # a killed process may have left it
        return report
    require_free(out, DatasetError)  # found out before the work, not after it
    try:
        with writing(out), work.opened():
            EpisodeConverter(source.contract)  # its functions must exist before a bag is read
            for stream in source.contract.action:
                StreamEncoder(stream)  # what cannot be sent is not worth learning
            message_folders(options.msgs)  # and so must these
            jobs = [
                BagJob(
                    bag,
                    source.contract,
                    work.folder_of(bag),
                    source.namespace,
                    salvage=options.salvage,
                    keep_going=options.keep_going,
                    msgs=options.msgs,
                )
                for bag in source.bags
            ]
            converted = _convert_jobs(jobs, options, work, progress)
            to = None if options.dry_run else target
            report = _assemble(source, work, jobs, converted, to, of_shard)
            work.discard()
    except KeyboardInterrupt as cause:
        raise Interrupted(work.kept) from cause
    except DqlError as cause:
        raise type(cause)(f"{cause}{work.kept}") from cause
    except OSError as cause:
        if cause.errno is not None:
            raise
        # By NumPy, when a disk is full.
        raise OutputError(
            f"{out}: cannot be written: {cause}; free some room, or name another place{work.kept}"
        ) from cause
    return report


def _require_distinct(bags: Sequence[Path]) -> None:
    """Refuse a bag that is named twice, of which the episodes would count twice."""
    seen: set[Path] = set()
    for bag in bags:
        if bag.resolve() in seen:
            raise BagError(f"{bag}: is named twice; name each bag once")
        seen.add(bag.resolve())


def _own_part(source: Source, shard: Shard | None) -> tuple[Source, dict[str, str]]:
    """Return the source with a shard's own bags, and what its dataset says of being one."""
    if shard is None:
        return source, {}
    if shard.of > len(source.bags):
        raise ConfigError(
            f"--shard {shard}: there {'is' if len(source.bags) == 1 else 'are'} only "
            f"{counted(len(source.bags), 'bag')}; divide into as many shards at most, and name "
            f"all bags to each"
        )
    # Another bag at the same place is another list; each shard can look at all of them.
    names = [f"{bag} {_size(bag)}" for bag in source.bags]
    # What one process does in one way for all of them.
    functions = function_hashes(source.contract)
    manner = [__version__, source.namespace, json.dumps(functions, sort_keys=True)]
    return replace(source, bags=shard.part(source.bags)), shard.metadata([*names, *manner])


def _finished(source: Source, out: Path, of_shard: dict[str, str]) -> dict[str, Any] | None:
    """Return the report of the same shard if all of it is done: it may be submitted again."""
    try:
        document = metadata_of(out / DATA_FOLDER)
        report = read_json(out / REPORT_JSON, DatasetError, MAX_RESULT_BYTES)
        files = {str(bag): find_files(bag, salvage=True).files for bag in source.bags}
    except (BagError, DatasetError):
        return None
    said = {key: document.get(key) for key in (CONTRACT_KEY, *of_shard)}
    if said != {CONTRACT_KEY: source.contract_text, **of_shard}:
        return None
    sums = {bag: {file.name: file_sha256(file) for file in each} for bag, each in files.items()}
    return report if report.get("bags_sha256") == sums else None


def _size(bag: Path) -> int:
    files = bag.rglob("*") if bag.is_dir() else [bag]
    return sum(file.stat().st_size for file in files if file.is_file())


def _convert_jobs(
    jobs: Sequence[BagJob],
    options: ConvertOptions,
    work: WorkFolder,
    progress: Callable[[int, int], None],
) -> list[BagResult]:
    """Convert those bags that are not done, and return the results of all."""
    waiting = [job for job in jobs if not (options.resume and work.take_over(job))]
    sizes = {job.bag: _look_at(job) for job in waiting}
    done = dict.fromkeys(sizes, 0)

    def note(job: BagJob, read: int) -> None:
        done[job.bag] = read
        progress(sum(done.values()), sum(sizes.values()))

    work.begin(waiting, resume=options.resume)
    convert_bags(waiting, options.workers, options.ray, note, work.finish)
    return [work.read(job) for job in jobs]


def _look_at(job: BagJob) -> int:
    """Check that a bag has what is needed, before the first is read; return its size in bytes."""
    try:
        files = find_files(job.bag, salvage=job.salvage).files
        if any(file.name.endswith(COMPRESSED) for file in files):
            # To look into it would cost as much as to read it.
            return sum(file.stat().st_size for file in files)
        with Bag(job.bag, salvage=job.salvage, msgs=job.msgs) as bag:
            require_topics(bag, job.contract, job.namespace)
            return bag.size_bytes
    except BagError:
        if not job.keep_going:
            raise
        return 0


def _assemble(
    source: Source,
    work: WorkFolder,
    jobs: Sequence[BagJob],
    converted: Sequence[BagResult],
    out: Path | None,
    of_shard: dict[str, str],
) -> dict[str, Any]:
    """Write the dataset and the report into ``out``, if it is given, and return the report."""
    if not of_shard and not any(result.episodes for result in converted):
        work.discard()  # to resume would end here again
        raise BagError(_nothing(converted))
    spec = _spec(source.contract, converted)
    report = make_report(
        source.contract,
        source.contract_name,
        source.namespace,
        converted,
        DatasetStatistics.of(spec, lambda: work.episodes(jobs, converted)),
        contract_text=source.contract_text,
    )
    if out is not None:
        with atomic_directory(out, error=DatasetError) as directory:
            _write(directory, source, spec, work.episodes(jobs, converted), report, of_shard)
    return report


def _write(
    directory: Path,
    source: Source,
    spec: PolicySpec,
    episodes: Iterable[Episode],
    report: dict[str, Any],
    of_shard: dict[str, str],
) -> None:
    write_dataset(
        directory,
        episodes,
        spec,
        description=f"Recorded from {source.contract.robot} and converted by dql convert.",
        extra_metadata={
            CONTRACT_KEY: source.contract_text,
            INPUTS_KEY: json.dumps(report["bags_sha256"]),
            **of_shard,
        },
        may_be_empty=bool(of_shard),
    )
    write_text(directory / REPORT_JSON, json.dumps(report, indent=2) + "\n")
    write_text(directory / REPORT_HTML, render(report))


def _spec(contract: Contract, results: Sequence[BagResult]) -> PolicySpec:
    """What the dataset's vectors mean: the contract's, with the bounds widened if it says so."""
    spec = contract.policy_spec()
    if contract.beyond_bounds != "widen" or not any(result.action_min for result in results):
        return spec
    low = np.min([result.action_min for result in results if result.action_min], axis=0)
    high = np.max([result.action_max for result in results if result.action_max], axis=0)
    fields = tuple(
        replace(field, low=min(field.low, float(least)), high=max(field.high, float(most)))
        for field, least, most in zip(spec.action, low, high, strict=True)
    )
    return replace(spec, action=fields)


def _nothing(results: Sequence[BagResult]) -> str:
    """Say why no bag has an episode."""
    failed = [result.error for result in results if result.error is not None]
    without = [_no_episode(result) for result in results if result.error is None]
    if failed:
        others = f"; and {without[0]}" if without else ""
        return f"no bag could be converted; the first: {failed[0]}{others}"
    return without[0]


def _no_episode(result: BagResult) -> str:
    """Say why a bag has no episode."""
    reasons = "; ".join(
        f"{span.reason} from {span.from_s:.1f} s to {span.to_s:.1f} s"
        for span in result.left_out[:3]
    )
    silent = [row.topic for row in result.topics if not row.count]
    if result.losses and silent:
        reasons = f"no message of {', '.join(silent)} is left"
    if not reasons and result.between_episodes_s:
        reasons = f"all of it is {Cause.BETWEEN.value}"
    set_back = FaultKind.SET_BACK.value
    wrong_stamps = [row.topic for row in result.clock_faults if row.what != set_back]
    usual = {Cause.DISCARDED, Cause.AFTER_LABEL, Cause.RECORDING_STOPPED}
    others = {span.reason for span in result.left_out} - {cause.value for cause in usual}
    if result.labels.discarded and not others:
        count = counted(result.labels.discarded, "episode")
        return f"{result.bag}: no episode is left: {count} {Cause.DISCARDED.value}"
    text = no_episode(reasons, result.losses, wrong_stamps, result.unmatched)
    return f"{result.bag}: {text}"
