"""What a conversion did, merged from what became of each bag: the content of ``report.json``.

What a reader of the conversion report must not overlook.
"""

from __future__ import annotations

import platform
from collections import Counter
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from typing import Any

import numpy as np

from dql_ros import __version__
from dql_ros.contract import Contract
from dql_ros.convert.bag_result import BagPart
from dql_ros.convert.report.field_statistics import DatasetStatistics

LIBRARIES = ("rosbags", "mcap", "minari", "numpy")
MAX_NAMED = 5
# What became of action values beyond the bounds, by the contract's choice.
BEYOND = {"clip": "were clipped", "widen": "widened the bounds", "refuse": "were refused"}


def make_report(
    contract: Contract,
    contract_name: str,
    namespace: str,
    parts: Sequence[BagPart],
    fields: DatasetStatistics,
    *,
    contract_text: str = "",
) -> dict[str, Any]:
    """Return the report as a JSON-ready dictionary; equal inputs give equal reports.

    Args:
        contract: The contract.
        contract_name: Its file name.
        namespace: Namespace of its relative topics.
        parts: The bags, in the dataset's order, those that failed among them.
        fields: Figures of the dataset's fields.
        contract_text: The contract's file as it was read.
    """
    converted = [part for part in parts if part.error is None]
    report = {
        "robot": contract.robot,
        "rate_hz": contract.rate_hz,
        "contract": contract_name,
        "contract_hash": contract.hash(),
        "contract_text": contract_text,
        "namespace": namespace,
        "versions": _versions(),
        "totals": _totals(parts),
        "failed": [{"bag": part.bag, "error": part.error} for part in parts if part.error],
        "bags_sha256": {part.bag: part.files for part in converted},
        "bags": [_bag(part) for part in converted],
        "episodes": [
            {"bag": part.bag, **row.model_dump(by_alias=True)}
            for part in converted
            for row in part.episodes
        ],
        "endings": _endings(converted),
        "observation": fields.observation.to_json(),
        "action": _actions(converted, fields),
        "reward": fields.reward.to_json(),
    }
    return {**report, "remarks": remarks(report, contract)}


def _versions() -> dict[str, str]:
    return {
        "dql_ros": __version__,
        **{name: version(name) for name in LIBRARIES},
        "python": platform.python_version(),
    }


def _totals(parts: Sequence[BagPart]) -> dict[str, Any]:
    converted = [part for part in parts if part.error is None]
    episodes = [row for part in converted for row in part.episodes]
    lengths = [row.length for row in episodes]
    returns = [row.episode_return for row in episodes]
    return {
        "bags": len(parts),
        "failed_bags": len(parts) - len(converted),
        "messages": sum(part.message_count for part in converted),
        "recorded_s": round(sum(part.duration_s for part in converted), 6),
        "episodes": len(episodes),
        "transitions": sum(lengths),
        "terminated": sum(row.terminated for row in episodes),
        "truncated": sum(row.truncated for row in episodes),
        "mean_length": float(np.mean(lengths)) if lengths else None,
        "mean_return": float(np.mean(returns)) if returns else None,
        "gaps": sum(topic.gaps for part in converted for topic in part.topics),
        "losses": sum(len(part.losses) for part in converted),
        "dropped_ticks": sum(part.dropped_ticks for part in converted),
        "nonfinite_splits": sum(part.split_nonfinite for part in converted),
        "clipped_actions": sum(sum(part.clipped) for part in converted),
        "by_index_messages": sum(part.by_index_warnings for part in converted),
    }


def _bag(part: BagPart) -> dict[str, Any]:
    document = part.to_json()
    for elsewhere in ("files", "error"):
        del document[elsewhere]
    lengths = [row.length for row in part.episodes]
    return {**document, "episodes": len(lengths), "transitions": sum(lengths)}


def _endings(parts: Sequence[BagPart]) -> list[dict[str, Any]]:
    """How many episodes ended how, the most frequent first."""
    rows = [row for part in parts for row in part.episodes]
    counts = Counter((row.ending, row.terminated, row.truncated) for row in rows)
    return [
        {"ending": ending, "terminated": terminated, "truncated": truncated, "episodes": count}
        for (ending, terminated, truncated), count in sorted(
            counts.items(), key=lambda item: (-item[1], item[0])
        )
    ]


def _actions(parts: Sequence[BagPart], fields: DatasetStatistics) -> list[dict[str, Any]]:
    """The action fields, with what was recorded beside what the dataset has."""
    rows = fields.action.to_json()
    clipped = [part.clipped for part in parts if part.clipped]
    smallest = [part.action_min for part in parts if part.action_min]
    largest = [part.action_max for part in parts if part.action_max]
    return [
        {
            **row,
            "clipped": sum(each[index] for each in clipped),
            "recorded_min": min((each[index] for each in smallest), default=None),
            "recorded_max": max((each[index] for each in largest), default=None),
        }
        for index, row in enumerate(rows)
    ]


def remarks(report: dict[str, Any], contract: Contract) -> list[str]:
    """Return one sentence for each thing that may make the dataset less than it seems.

    Args:
        report: The report as made so far.
        contract: The contract behind it.
    """
    sentences = (
        *_about_bags(report),
        *_about_episodes(report, contract),
        *_about_values(report, contract),
        *_about_topics(report["bags"]),
    )
    return list(dict.fromkeys(sentences))  # two uses of a topic tell the same


def _about_bags(report: dict[str, Any]) -> Iterator[str]:
    totals, bags = report["totals"], report["bags"]
    if report["failed"]:
        yield f"{totals['failed_bags']} of {totals['bags']} bags could not be converted."
    empty = [bag["bag"] for bag in bags if not bag["episodes"]]
    if empty:
        yield f"{_named(empty)} gave no episode."
    for bag in bags:
        for loss in bag["losses"]:
            lost = "an unknown number of" if loss["messages"] is None else f"{loss['messages']}"
            yield f"{bag['bag']}: {loss['file']}: {loss['reason']}; {lost} messages are lost."
        yield from (f"{bag['bag']}: {note}" for note in bag["notes"])
        for topic in bag["skipped_topics"]:
            yield (
                f"{bag['bag']}: {topic['count']} messages on {topic['name']} were skipped: "
                f"nobody knows the type {topic['type']}."
            )


def _about_episodes(report: dict[str, Any], contract: Contract) -> Iterator[str]:
    totals = report["totals"]
    if contract.reward is None:
        yield (
            "The contract names no reward: all rewards are 0, and the dataset can be imitated but "
            "no value learned from it."
        )
    elif totals["transitions"]:
        (reward,) = report["reward"]
        if reward["min"] == reward["max"]:
            yield f"Every reward is {reward['min']:g}: no action is better than another."
    if contract.episode.terminated is not None and totals["episodes"] and not totals["terminated"]:
        yield (
            "The contract says what ends the task, and it never happened: no episode is "
            "terminated."
        )
    splits = sum(
        row["episodes"]
        for row in report["endings"]
        if row["truncated"] and row["ending"].startswith("no ")
    )
    if splits:
        ends = _many(splits, "episode ends", "episodes end")
        yield f"{ends} where something needed was missing."
    if totals["nonfinite_splits"]:
        yield (
            f"{_many(totals['nonfinite_splits'], 'episode was', 'episodes were')} split where a "
            f"needed number was not finite."
        )
    if totals["dropped_ticks"]:
        yield (
            f"{_many(totals['dropped_ticks'], 'tick was', 'ticks were')} dropped because a needed "
            f"number was not finite."
        )


def _about_values(report: dict[str, Any], contract: Contract) -> Iterator[str]:
    totals = report["totals"]
    if totals["clipped_actions"]:
        yield (
            f"{totals['clipped_actions']} action values lay beyond the contract's bounds and "
            f"{BEYOND[contract.beyond_bounds]}."
        )
    if totals["by_index_messages"]:
        yield (
            f"{totals['by_index_messages']} messages named no joints and were read by position, "
            f"as the contract allows."
        )
    for row in report["observation"]:
        if row["beyond_bounds"]:
            yield (
                f"{row['beyond_bounds']} values of {row['name']} lie beyond the contract's "
                f"bounds; they were kept."
            )
    for row in (*report["observation"], *report["action"]):
        if row["min"] is not None and row["min"] == row["max"]:
            yield f"{row['name']} never changes: it is {row['min']:g} throughout."


def _about_topics(bags: Sequence[dict[str, Any]]) -> Iterator[str]:
    told = {
        "backwards": "header stamps went backwards",
        "duplicate": "header stamps came twice",
        "zero": "header stamps were zero",
    }
    for bag in bags:
        for topic in bag["topics"]:
            for kind, words in told.items():
                if count := (topic["stamps"] or {}).get(kind, 0):
                    yield f"{bag['bag']}: {topic['topic']}: {count} {words}."


def _many(count: int, one: str, several: str) -> str:
    return f"{count} {one if count == 1 else several}"


def _named(names: Sequence[str]) -> str:
    more = len(names) - MAX_NAMED
    listed = ", ".join(names[:MAX_NAMED])
    return f"{listed} and {more} more" if more > 0 else listed
