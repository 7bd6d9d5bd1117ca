"""What a conversion did, merged from what became of each bag: the content of ``report.json``."""

from __future__ import annotations

import platform
from collections import Counter
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

import numpy as np

from dql_ros import __version__
from dql_ros.bag.bag_part import BagPart
from dql_ros.bag.field_statistics import DatasetStatistics
from dql_ros.bag.report_remarks import remarks
from dql_ros.contract import Contract

LIBRARIES = ("rosbags", "mcap", "minari", "numpy")


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
