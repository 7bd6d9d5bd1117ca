"""The conversion of one bag, in any process, into a folder: its episodes and its result.

The bag is read once from start to end under a contract. Its episodes lie in a file, one after the
other, until the dataset is put together.
"""

from __future__ import annotations

import json
import math
import traceback
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from dql_core.data.dataset import Episode
from dql_core.data.infos import INTERVENTION, SUCCESS
from dql_core.documents import file_sha256
from dql_core.errors import BagError, DatasetError, DqlError
from dql_core.files import write_text
from dql_ros.bag.reader import Bag
from dql_ros.contract import Contract
from dql_ros.convert.bag_episodes import BagSummary, read_bag_episodes
from dql_ros.convert.bag_result import (
    BagResult,
    ClockRow,
    EpisodeRow,
    LabelRow,
    SkippedRow,
    SkippedTopic,
)
from dql_ros.convert.episode_converter import ConvertedEpisode, EpisodeConverter
from dql_ros.convert.outcomes import outcome_notes
from dql_ros.convert.recorded_episode import (
    LACKS,
    RecordedEpisode,
    SkippedSpan,
)

EPISODES = "episodes.npy"
RESULT = "result.json"
_INFOS = (INTERVENTION, SUCCESS)


@dataclass(frozen=True)
class BagJob:
    """One bag to convert.

    Attributes:
        bag: The bag, as the user named it.
        contract: The robot's contract.
        folder: Where its episodes and its result go.
        namespace: Namespace of the contract's relative topics in the bag.
        salvage: Read what can be read of a damaged bag.
        keep_going: Report a failure in the result instead of raising it.
        msgs: Folders with definitions of types that the bag does not define.
    """

    bag: Path
    contract: Contract
    folder: Path
    namespace: str = "/"
    salvage: bool = False
    keep_going: bool = False
    msgs: tuple[Path, ...] = ()


def convert_bag(job: BagJob, progress: Callable[[int], None] = lambda _: None) -> BagResult:
    """Convert one bag into ``job.folder``; the result there is written last, when all is whole.

    Args:
        job: The bag, and how.
        progress: Called, now and then, with how many of the bag's bytes are done.

    Raises:
        DqlError: If the bag does not convert, unless the job is to keep going.
    """
    job.folder.mkdir(parents=True, exist_ok=True)
    try:
        result = _convert(job, progress)
    except DqlError as cause:
        if not job.keep_going:
            raise
        result = BagResult(bag=str(job.bag), error=str(cause))
    write_text(job.folder / RESULT, json.dumps(result.to_json()))
    return result


def _convert(job: BagJob, progress: Callable[[int], None]) -> BagResult:
    with (
        Bag(job.bag, salvage=job.salvage, msgs=job.msgs) as bag,
        (job.folder / EPISODES).open("wb") as file,
    ):
        conversion = _Conversion(job, bag, file)
        summary = read_bag_episodes(bag, job.contract, job.namespace, conversion.take, progress)
        return conversion.result(summary)


class _Conversion:
    """A bag being converted: its episodes go to a file, what became of them into the result."""

    def __init__(self, job: BagJob, bag: Bag, file: IO[bytes]) -> None:
        self._bag = bag
        self._file = file
        self._label_notes = outcome_notes(bag, job.contract, job.namespace)
        self._converter = EpisodeConverter(job.contract)
        self._rows: list[EpisodeRow] = []
        self._skipped: list[SkippedSpan] = []
        # Of each episode: actions beyond the bounds, the smallest and the largest; (A,) each.
        self._actions: list[tuple[NDArray[Any], NDArray[Any], NDArray[Any]]] = []

    def take(self, recorded: RecordedEpisode) -> None:
        """Write an episode as the contract makes one of it.

        Raises:
            DqlError: If it does not fit the contract, with the bag and the time.
        """
        try:
            results = list(self._converter(recorded))
        except DqlError as cause:
            where = f"{self._bag.path}, episode from {self._since_start(recorded.start_ns):.3f} s"
            raise type(cause)(f"{where}: {cause}") from cause
        for result in results:
            if isinstance(result, SkippedSpan):
                self._skipped.append(result)
            else:
                write_episode(self._file, result.episode)
                self._note(result)

    def _note(self, converted: ConvertedEpisode) -> None:
        recorded, episode = converted.recorded, converted.episode
        self._rows.append(
            EpisodeRow(
                from_s=self._since_start(recorded.start_ns),
                to_s=self._since_start(recorded.end_ns),
                length=len(episode),
                episode_return=float(episode.rewards.sum()),
                terminated=episode.terminated,
                truncated=episode.truncated,
                ending=str(recorded.ending),
                lacked=recorded.ending.cause in LACKS,
                outcome=recorded.outcome,
                interventions=_count(recorded.interventions, 1),
                unattributed=_count(recorded.interventions, -1),
            )
        )
        actions = recorded.actions
        self._actions.append((converted.beyond, actions.min(axis=0), actions.max(axis=0)))

    def result(self, summary: BagSummary) -> BagResult:
        """Return what became of the bag, now that it is read."""
        bag, skipped = self._bag, [*summary.skipped, *self._skipped]
        skipped.sort(key=lambda span: (span.start_ns, span.end_ns))
        beyond, lowest, highest = zip(*self._actions, strict=True) if self._actions else ((),) * 3
        return BagResult(
            bag=str(bag.path),
            files={file.name: file_sha256(file) for file in bag.files},
            size_bytes=bag.size_bytes,
            start_ns=bag.start_ns,
            duration_s=self._since_start(bag.end_ns),
            message_count=bag.message_count,
            topics=tuple(topic.to_json(bag.start_ns) for topic in summary.topics),
            skipped_topics=tuple(
                SkippedTopic(
                    name=topic.name,
                    type=topic.msgtype,
                    count=topic.count,
                    reason=bag.unreadable[topic.name],
                )
                for topic in bag.unknown_types
            ),
            episodes=tuple(self._rows),
            left_out=tuple(
                SkippedRow(
                    from_s=self._since_start(span.start_ns),
                    to_s=self._since_start(span.end_ns),
                    reason=span.reason,
                )
                for span in skipped
                if not span.is_between
            ),
            between_episodes_s=_seconds(
                sum(span.end_ns - span.start_ns for span in skipped if span.is_between)
            ),
            losses=bag.losses,
            notes=(*bag.notes, *self._label_notes),
            dropped_ticks=summary.dropped_ticks,
            split_nonfinite=summary.split_nonfinite,
            clipped=tuple(sum(beyond).tolist()) if beyond else (),
            action_min=tuple(np.min(lowest, axis=0).tolist()) if lowest else (),
            action_max=tuple(np.max(highest, axis=0).tolist()) if highest else (),
            observed=self._converter.observed.rows(),
            commanded=self._converter.commanded.rows(),
            turned=self._converter.turned.rows(),
            commands_turned=self._converter.commands_turned.rows(),
            by_index_warnings=summary.by_index,
            unmatched=summary.unmatched,
            labels=LabelRow(**asdict(summary.labels)),
            clock_faults=tuple(
                ClockRow(
                    topic=fault.topic,
                    count=fault.count,
                    from_s=self._since_start(fault.start_ns),
                    to_s=self._since_start(fault.end_ns),
                    what=fault.kind.value,
                )
                for fault in summary.clock_faults
            ),
        )

    def _since_start(self, time_ns: int) -> float:
        return _seconds(time_ns - self._bag.start_ns)


def _count(numbers: NDArray[np.int8] | None, wanted: int) -> int:
    return 0 if numbers is None else int((numbers == wanted).sum())


def _seconds(nanoseconds: int) -> float:
    return round(nanoseconds / 1e9, 6)


class RemoteError(Exception):
    """The cause of an error in another process: the traceback there, as text."""


@dataclass(frozen=True)
class Outcome:
    """What a worker reports of its bag, besides the files in the job's folder.

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
        plain = RuntimeError(f"{job.bag}: {type(error).__name__}: {error}")
        return Outcome(error=plain, trace=traceback.format_exc())


def without_worker(job: BagJob, reason: str) -> Outcome:
    """Return the outcome of a bag whose worker could not report it.

    Args:
        job: The bag; with ``keep_going`` its result says the reason.
        reason: What happened to the worker.
    """
    error = BagError(f"{job.bag}: {reason}")
    if not job.keep_going:
        return Outcome(error=error)
    result = BagResult(bag=str(job.bag), error=str(error))
    write_text(job.folder / RESULT, json.dumps(result.to_json()))
    return Outcome()


def write_episode(file: IO[bytes], episode: Episode) -> None:
    """Append an episode: arrays in NumPy's own format, those of infos that it lacks empty."""
    ended = np.array([episode.terminated, episode.truncated])
    infos = [episode.infos.get(name, np.empty(0, bool)) for name in _INFOS]
    for array in (episode.observations, episode.actions, episode.rewards, ended, *infos):
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
                arrays = [_read_array(file, size) for _ in range(4 + len(_INFOS))]
                observations, actions, rewards, (terminated, truncated), *given = arrays
            except (ValueError, TypeError, SyntaxError, RecursionError) as cause:
                raise DatasetError(
                    f"{path}: damaged: {cause}; convert again without --resume"
                ) from cause
            infos = {n: values for n, values in zip(_INFOS, given, strict=True) if len(values)}
            ends = bool(terminated), bool(truncated)
            yield Episode(observations, actions, rewards, *ends, infos)


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
