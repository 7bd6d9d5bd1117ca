"""What a conversion did, in figures: per bag, topic, episode and field."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dql_core.data.dataset import Episode
from dql_core.spec import FieldSpec
from dql_ros import __version__
from dql_ros.bag.episodes import BETWEEN, RecordedEpisode
from dql_ros.bag.recording import Recording
from dql_ros.contract import Contract

LIBRARIES = ("rosbags", "minari", "numpy")


@dataclass(frozen=True)
class ConvertedEpisode:
    """An episode of the dataset and where it comes from.

    Attributes:
        episode: As the dataset has it.
        recorded: As the bag has it.
        clipped: How many of its actions were clipped, per action field.
    """

    episode: Episode
    recorded: RecordedEpisode
    clipped: list[int]


@dataclass(frozen=True)
class ConvertedBag:
    """A bag and what became of it.

    Attributes:
        recording: What was read.
        digests: SHA-256 of its files, by name.
        episodes: Its episodes.
    """

    recording: Recording
    digests: dict[str, str]
    episodes: tuple[ConvertedEpisode, ...]


def make_report(
    contract_name: str, contract: Contract, namespace: str, bags: Sequence[ConvertedBag]
) -> dict[str, Any]:
    """Return the report as a JSON-ready dictionary; equal inputs give equal reports.

    Args:
        contract_name: The contract's file name.
        contract: The contract.
        namespace: Namespace of its relative topics.
        bags: The bags, in the dataset's order; at least one of them has an episode.
    """
    spec = contract.policy_spec()
    converted = [each for bag in bags for each in bag.episodes]
    observations = np.concatenate([each.episode.observations for each in converted])
    actions = np.concatenate([each.recorded.actions for each in converted])
    lengths = [len(each.episode) for each in converted]
    returns = [float(each.episode.rewards.sum()) for each in converted]
    clipped = np.sum([each.clipped for each in converted], axis=0)
    report = {
        "robot": contract.robot,
        "rate_hz": contract.rate_hz,
        "contract": contract_name,
        "contract_hash": contract.hash(),
        "namespace": namespace,
        "versions": {"dql_ros": __version__, **{name: version(name) for name in LIBRARIES}},
        "totals": {
            "bags": len(bags),
            "episodes": len(converted),
            "transitions": sum(lengths),
            "terminated": sum(each.episode.terminated for each in converted),
            "truncated": sum(each.episode.truncated for each in converted),
            "mean_length": float(np.mean(lengths)),
            "mean_return": float(np.mean(returns)),
            "clipped_actions": int(clipped.sum()),
        },
        "bags_sha256": {str(bag.recording.path): bag.digests for bag in bags},
        "bags": [_bag(bag) for bag in bags],
        "episodes": [row for bag in bags for row in _episode_rows(bag)],
        "observation": _fields(spec.observation, observations),
        "action": [
            {**row, "clipped": int(count)}
            for row, count in zip(_fields(spec.action, actions), clipped, strict=True)
        ],
    }
    return {**report, "remarks": _remarks(report, contract)}


def _bag(bag: ConvertedBag) -> dict[str, Any]:
    recording = bag.recording
    between = [span for span in recording.left_out if span.reason == BETWEEN]
    return {
        "bag": str(recording.path),
        "start_ns": recording.start_ns,
        "episodes": len(bag.episodes),
        "topics": [topic.to_json() for topic in recording.topics],
        "left_out": [
            {
                "from_s": _seconds(span.start_ns - recording.start_ns),
                "to_s": _seconds(span.end_ns - recording.start_ns),
                "reason": span.reason,
            }
            for span in recording.left_out
            if span.reason != BETWEEN
        ],
        "between_episodes_s": _seconds(sum(span.end_ns - span.start_ns for span in between)),
    }


def _episode_rows(bag: ConvertedBag) -> list[dict[str, Any]]:
    return [
        {
            "bag": str(bag.recording.path),
            "from_s": _seconds(each.recorded.start_ns - bag.recording.start_ns),
            "to_s": _seconds(each.recorded.end_ns - bag.recording.start_ns),
            "length": len(each.episode),
            "return": float(each.episode.rewards.sum()),
            "terminated": each.episode.terminated,
            "truncated": each.episode.truncated,
            "ending": each.recorded.ending,
        }
        for each in bag.episodes
    ]


def _fields(specs: Sequence[FieldSpec], values: NDArray[Any]) -> list[dict[str, Any]]:
    """Range and moments of each field; values of shape (M, fields)."""
    return [
        {
            "name": spec.name,
            "unit": spec.unit,
            "low": float(spec.low) if np.isfinite(spec.low) else None,
            "high": float(spec.high) if np.isfinite(spec.high) else None,
            "min": float(column.min()),
            "max": float(column.max()),
            "mean": float(column.mean(dtype=np.float64)),
            "std": float(column.std(dtype=np.float64)),
            "beyond_bounds": _count_beyond(spec, column),
        }
        for spec, column in zip(specs, values.T, strict=True)
    ]


def _count_beyond(spec: FieldSpec, column: NDArray[Any]) -> int:
    """How many values lie beyond the bounds, at the precision in which they are stored."""
    low, high = column.dtype.type(spec.low), column.dtype.type(spec.high)
    return int(((column < low) | (column > high)).sum())


def _remarks(report: dict[str, Any], contract: Contract) -> list[str]:
    """What a reader of the report must not overlook."""
    remarks = []
    if contract.reward is None:
        remarks.append(
            "The contract names no reward: all rewards are 0, and the dataset can be imitated but "
            "no value learned from it."
        )
    empty = [bag["bag"] for bag in report["bags"] if not bag["episodes"]]
    remarks += [f"{bag} gave no episode." for bag in empty]
    splits = sum(row["ending"].startswith("no ") for row in report["episodes"] if row["truncated"])
    if splits:
        remarks.append(f"{splits} episodes end where something needed was missing.")
    if report["totals"]["clipped_actions"]:
        remarks.append(
            f"{report['totals']['clipped_actions']} action values lay beyond the contract's "
            f"bounds and were clipped."
        )
    for row in report["observation"]:
        if row["beyond_bounds"]:
            remarks.append(
                f"{row['beyond_bounds']} values of {row['name']} lie beyond the contract's "
                f"bounds; they were kept."
            )
        if row["min"] == row["max"]:
            remarks.append(f"{row['name']} never changes: it is {row['min']:g} throughout.")
    return remarks


def _seconds(nanoseconds: int) -> float:
    return round(nanoseconds / 1e9, 6)
