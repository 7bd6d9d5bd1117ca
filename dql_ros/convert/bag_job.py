"""The conversion of one bag, which can be done in any process.

One bag, read once from start to end under a contract.

What became of a bag that another process converted.

Episodes of one bag in a file, one after the other, until the dataset is put together.
"""

from __future__ import annotations

import json
import math
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from dql_core.data.dataset import Episode
from dql_core.errors import BagError, DatasetError, DqlError
from dql_core.files import write_text
from dql_ros.bag.reader import Bag, sha256
from dql_ros.codecs.block_decoder import MessageError
from dql_ros.contract import Contract, Stream
from dql_ros.convert.bag_result import BagPart, EpisodeRow, LeftOutRow, LossRow, SkippedTopic
from dql_ros.convert.columns import Times
from dql_ros.convert.episode_converter import ConvertedEpisode, EpisodeConverter
from dql_ros.convert.episodes import EpisodeAssembler
from dql_ros.convert.recorded_episode import BETWEEN, LeftOut, RecordedEpisode
from dql_ros.convert.report.topic_statistics import TopicStatistics
from dql_ros.convert.topic_decoders import Intake, Use, located, uses_of

EPISODES = "episodes.npy"
PART = "part.json"


@dataclass(frozen=True)
class BagJob:
    """One bag to convert.

    Attributes:
        bag: The bag, as the user named it.
        contract: The robot's contract.
        folder: Where its episodes and its part of the report go.
        namespace: Namespace of the contract's relative topics in the bag.
        salvage: Read what can be read of a damaged bag.
        keep_going: Tell of a failure in the part instead of raising it.
    """

    bag: Path
    contract: Contract
    folder: Path
    namespace: str = "/"
    salvage: bool = False
    keep_going: bool = False


@dataclass
class _Collected:
    """What becomes of the bag's episodes while it is read."""

    rows: list[EpisodeRow] = field(default_factory=list)
    left_out: list[LeftOut] = field(default_factory=list)
    beyond: list[np.ndarray] = field(default_factory=list)
    lowest: list[np.ndarray] = field(default_factory=list)
    highest: list[np.ndarray] = field(default_factory=list)


def convert_bag(job: BagJob, progress: Callable[[int], None] = lambda _: None) -> BagPart:
    """Convert one bag into ``job.folder``; the part there, written last, tells that it is whole.

    Args:
        job: The bag, and how.
        progress: Told, now and then, how many of the bag's bytes are done.

    Raises:
        DqlError: If the bag does not convert, unless the job is to keep going.
    """
    job.folder.mkdir(parents=True, exist_ok=True)
    try:
        part = _convert(job, progress)
    except DqlError as cause:
        if not job.keep_going:
            raise
        part = BagPart(bag=str(job.bag), error=str(cause))
    write_text(job.folder / PART, json.dumps(part.to_json()))
    return part


def _convert(job: BagJob, progress: Callable[[int], None]) -> BagPart:
    collected = _Collected()
    converter = EpisodeConverter(job.contract)
    with (
        Bag(job.bag, salvage=job.salvage) as bag,
        (job.folder / EPISODES).open("wb") as file,
    ):

        def take(recorded: RecordedEpisode) -> None:
            try:
                results = list(converter(recorded))
            except DqlError as cause:
                seconds = (recorded.start_ns - bag.start_ns) / 1e9
                raise type(cause)(f"{job.bag}, episode from {seconds:.3f} s: {cause}") from cause
            for result in results:
                if isinstance(result, LeftOut):
                    collected.left_out.append(result)
                else:
                    write_episode(file, result.episode)
                    _collect(collected, result, bag.start_ns)

        recording = read_recording(bag, job.contract, job.namespace, take, progress)
        return _part(bag, recording, collected)


def _collect(collected: _Collected, converted: ConvertedEpisode, start_ns: int) -> None:
    recorded, episode = converted.recorded, converted.episode
    collected.rows.append(
        EpisodeRow(
            from_s=_seconds(recorded.start_ns - start_ns),
            to_s=_seconds(recorded.end_ns - start_ns),
            length=len(episode),
            episode_return=float(episode.rewards.sum()),
            terminated=episode.terminated,
            truncated=episode.truncated,
            ending=recorded.ending,
        )
    )
    collected.beyond.append(converted.beyond)
    collected.lowest.append(recorded.actions.min(axis=0))
    collected.highest.append(recorded.actions.max(axis=0))


def _part(bag: Bag, recording: Recording, collected: _Collected) -> BagPart:
    spans = sorted(
        [*recording.left_out, *collected.left_out], key=lambda span: (span.start_ns, span.end_ns)
    )
    between_ns = sum(span.end_ns - span.start_ns for span in spans if span.reason == BETWEEN)
    has_episode = bool(collected.rows)
    return BagPart(
        bag=str(bag.path),
        files={file.name: sha256(file) for file in bag.files},
        size_bytes=bag.size_bytes,
        start_ns=bag.start_ns,
        duration_s=_seconds(bag.end_ns - bag.start_ns),
        message_count=bag.message_count,
        topics=tuple(topic.to_json(bag.start_ns) for topic in recording.topics),
        skipped_topics=tuple(
            SkippedTopic(name=topic.name, type=topic.msgtype, count=topic.count)
            for topic in bag.unknown_types
        ),
        episodes=tuple(collected.rows),
        left_out=tuple(
            LeftOutRow(
                from_s=_seconds(span.start_ns - bag.start_ns),
                to_s=_seconds(span.end_ns - bag.start_ns),
                reason=span.reason,
            )
            for span in spans
            if span.reason != BETWEEN
        ),
        between_episodes_s=_seconds(between_ns),
        losses=tuple(
            LossRow(file=loss.file, reason=loss.reason, messages=loss.messages, bytes=loss.bytes)
            for loss in bag.losses
        ),
        notes=bag.notes,
        dropped_ticks=recording.dropped_ticks,
        split_nonfinite=recording.split_nonfinite,
        clipped=tuple(np.sum(collected.beyond, axis=0).tolist()) if has_episode else (),
        action_min=tuple(np.min(collected.lowest, axis=0).tolist()) if has_episode else (),
        action_max=tuple(np.max(collected.highest, axis=0).tolist()) if has_episode else (),
        by_index_warnings=recording.by_index,
    )


def _seconds(nanoseconds: int) -> float:
    return round(nanoseconds / 1e9, 6)


@dataclass(frozen=True)
class Recording:
    """What one bag gave, besides its episodes.

    Attributes:
        topics: Statistics of the topics that the contract uses.
        left_out: What is in no episode.
        dropped_ticks: Ticks left out of episodes for a value that is no number.
        split_nonfinite: Episodes that such a value ended.
        by_index: Messages without joint names that were read in the contract's order.
    """

    topics: tuple[TopicStatistics, ...]
    left_out: tuple[LeftOut, ...]
    dropped_ticks: int
    split_nonfinite: int
    by_index: int


def require_topics(bag: Bag, contract: Contract, namespace: str) -> None:
    """Check that a bag has what the contract needs.

    Raises:
        BagError: Naming the bag, the topic, and the nearest that the bag has.
    """
    for use in uses_of(contract, namespace):
        bag.require_topic(use.topic, use.rule.type, use.role, may_be_silent=use.may_be_silent)


def read_recording(
    bag: Bag,
    contract: Contract,
    namespace: str,
    on_episode: Callable[[RecordedEpisode], None],
    progress: Callable[[int], None] = lambda _: None,
) -> Recording:
    """Read the bag's episodes.

    Args:
        bag: An opened bag.
        contract: What to read.
        namespace: Namespace of the contract's relative topics in the bag.
        on_episode: Takes each episode when it is complete.
        progress: Told, now and then, how many of the bag's bytes are done.

    Raises:
        BagError: If a topic is missing, the bag is damaged, a message lacks what the contract
            names, or a needed number is not finite and the contract refuses that.
    """
    require_topics(bag, contract, namespace)
    uses = uses_of(contract, namespace)
    statistics = {
        (use.kind, use.name): TopicStatistics(use.topic, use.rule.type, use.role, use.limit_ns)
        for use in uses
    }

    def note_arrivals(
        kind: str, name: str, arrived_ns: Times, columns: tuple[NDArray[Any], ...]
    ) -> None:
        rule = rules[kind, name]
        is_stamped = isinstance(rule, Stream) and rule.stamp == "header"
        statistics[kind, name].add(arrived_ns, columns[0] if is_stamped else None)

    def note_ages(kind: str, topic: str, ages_ns: Times) -> None:
        statistics[kind, topic].add_ages(ages_ns)

    rules = {(use.kind, use.name): use.rule for use in uses}
    assembler = EpisodeAssembler(contract, on_episode, note_ages, note_arrivals)
    intakes = _read(bag, contract, uses, assembler, progress)
    progress(bag.size_bytes)
    return Recording(
        topics=tuple(statistics.values()),
        left_out=tuple(assembler.left_out),
        dropped_ticks=assembler.dropped_ticks,
        split_nonfinite=assembler.split_nonfinite,
        by_index=sum(intake.by_index for intake in intakes),
    )


def _read(
    bag: Bag,
    contract: Contract,
    uses: list[Use],
    assembler: EpisodeAssembler,
    progress: Callable[[int], None],
) -> list[Intake]:
    """Pass every message of the contract's topics to the assembler."""
    refuses = contract.nonfinite == "refuse"
    by_topic: dict[str, list[tuple[Use, Intake]]] = {}
    for use in uses:
        intake = Intake(use, bag.typestore(use.topic, use.rule.type), refuses_nonfinite=refuses)
        by_topic.setdefault(use.topic, []).append((use, intake))
    for batch in bag.batches(frozenset(by_topic)):
        for block in batch.blocks:
            for use, intake in by_topic[block.topic]:
                if block.msgtype != use.rule.type:
                    continue
                try:
                    arrived_ns, columns = intake(block)
                except MessageError as cause:
                    raise located(cause, block, bag.start_ns, bag.path) from cause
                assembler.push(use.kind, use.name, arrived_ns, *columns)
        assembler.advance(batch.complete_until_ns)
        progress(batch.bytes_done)
    assembler.finish()
    return [intake for pairs in by_topic.values() for _, intake in pairs]


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


def write_episode(file: IO[bytes], episode: Episode) -> None:
    """Append an episode: four arrays in NumPy's own format."""
    ended = np.array([episode.terminated, episode.truncated])
    for array in (episode.observations, episode.actions, episode.rewards, ended):
        np.lib.format.write_array(file, np.asarray(array), allow_pickle=False)


def read_episodes(path: Path) -> Iterator[Episode]:
    """Yield the episodes of a file in their order, one in memory at a time.

    Raises:
        DatasetError: If the file is damaged.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        while file.tell() < size:
            try:
                arrays = [_read_array(file, size) for _ in range(4)]
                observations, actions, rewards, (terminated, truncated) = arrays
            except (ValueError, TypeError, SyntaxError, RecursionError) as cause:
                raise DatasetError(
                    f"{path}: damaged: {cause}; convert again without --resume"
                ) from cause
            yield Episode(observations, actions, rewards, bool(terminated), bool(truncated))


def _read_array(file: IO[bytes], size: int) -> NDArray[Any]:
    """Read an array; NumPy itself would make room for as much as the file announces.

    Raises:
        ValueError: If it announces more than the file has.
    """
    start = file.tell()
    version = np.lib.format.read_magic(file)
    if version != (1, 0):
        raise ValueError(f"an array is of version {version} of NumPy's format")
    shape, _, dtype = np.lib.format.read_array_header_1_0(file)
    if file.tell() + math.prod(shape) * dtype.itemsize > size:
        raise ValueError(f"an array of shape {shape} is larger than its file")
    file.seek(start)
    array: NDArray[Any] = np.lib.format.read_array(file, allow_pickle=False)
    return array
