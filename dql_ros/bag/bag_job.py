"""The conversion of one bag, which can be done in any process."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from dql_core.atomic import write_text
from dql_core.errors import DqlError
from dql_ros.bag.bag_part import BagPart, EpisodeRow, LeftOutRow, LossRow, SkippedTopic
from dql_ros.bag.episode_converter import ConvertedEpisode, EpisodeConverter
from dql_ros.bag.episode_file import write_episode
from dql_ros.bag.reader import Bag, sha256
from dql_ros.bag.recorded import BETWEEN, LeftOut, RecordedEpisode
from dql_ros.bag.recording import Recording, read_recording
from dql_ros.contract import Contract

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
