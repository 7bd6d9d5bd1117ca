"""A conversion report of bags that never were, with something of everything that it can tell."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dql_core.data.dataset import Episode
from dql_ros.bag.reader import Loss
from dql_ros.bag.storage.definitions import UndefinedTypeError
from dql_ros.contract import Contract, load_contract
from dql_ros.convert.bag_result import BagResult, EpisodeRow, SkippedRow, SkippedTopic
from dql_ros.convert.report.document import make_report
from dql_ros.convert.report.field_statistics import DatasetStatistics
from dql_ros.convert.report.topic_statistics import TopicStatistics

ARM = Path(__file__).parents[1] / "arm.yaml"
START_NS = 1_700_000_000_000_000_000
PERIOD_S = 0.05
COSTMAP = "nav2_msgs/msg/Costmap"


def arm(**changes: Any) -> Contract:
    contract = load_contract(ARM)
    return Contract.model_validate({**contract.model_dump(exclude_none=True), **changes})


def topic(name: str, role: str, count: int, limit_s: float | None = 0.1) -> dict[str, Any]:
    """A topic at 20 Hz with a second without a message after a third of it."""
    times = START_NS + (np.arange(count) * PERIOD_S * 1e9).astype(np.int64)
    times[count // 3 :] += 10**9
    limit_ns = None if limit_s is None else round(limit_s * 1e9)
    figures = TopicStatistics(name, "sensor_msgs/msg/JointState", role, limit_ns)
    figures.add(times, times - 3_000_000)
    figures.add_ages(np.arange(count, dtype=np.int64) * 100_000)
    return figures.to_json(START_NS)


def part(bag: str, lengths: Sequence[int] = (30, 20), **changes: Any) -> BagResult:
    """A bag of episodes of 20 Hz, a second apart; the first is terminated."""
    rows, from_s = [], 0.0
    for index, length in enumerate(lengths):
        to_s = from_s + length * PERIOD_S
        rows.append(
            EpisodeRow(
                from_s=from_s,
                to_s=to_s,
                length=length,
                episode_return=-float(length),
                terminated=index == 0,
                truncated=index > 0,
                ending="terminated" if index == 0 else "no /joint_states for too long",
                lacked=index > 0,
            )
        )
        from_s = to_s + 1.0
    document: dict[str, Any] = {
        "bag": bag,
        "files": {f"{Path(bag).name}_0.mcap": "ab" * 32},
        "size_bytes": 123_456,
        "start_ns": START_NS,
        "duration_s": from_s,
        "message_count": 400,
        "topics": (topic("/joint_states", "observation", 60), topic("/commands", "action", 50)),
        "episodes": tuple(rows),
        "left_out": (
            SkippedRow(from_s=from_s - 1.0, to_s=from_s, reason="no command on /commands"),
        ),
        "clipped": (0, 0),
        "action_min": (-1.0, -1.0),
        "action_max": (1.0, 1.0),
    }
    return BagResult.model_validate({**document, **changes})


def eventful(bag: str = "bags/eventful") -> BagResult:
    """A bag in which everything went wrong that a report can tell of."""
    return part(
        bag,
        losses=(Loss("eventful_0.mcap", "a chunk is cut off", None, 700),),
        skipped_topics=(
            SkippedTopic(
                name="/map", type=COSTMAP, count=12, reason=str(UndefinedTypeError(COSTMAP))
            ),
        ),
        notes=("metadata.yaml names other files",),
        between_episodes_s=1.5,
        dropped_ticks=4,
        split_nonfinite=1,
        clipped=(2, 5),
        action_min=(-7.0, -1.0),
        action_max=(1.0, 9.0),
        by_index_warnings=60,
    )


def episodes(contract: Contract, parts: Sequence[BagResult]) -> list[Episode]:
    """Random episodes of the lengths that the parts tell."""
    rng, spec = np.random.default_rng(0), contract.policy_spec()
    return [
        Episode(
            rng.normal(size=(row.length + 1, len(spec.observation))).astype(np.float32),
            rng.uniform(-1, 1, (row.length, len(spec.action))).astype(np.float32),
            rng.normal(size=row.length),
            row.terminated,
            row.truncated,
        )
        for each in parts
        for row in each.episodes
    ]


def report(parts: Sequence[BagResult], contract: Contract | None = None) -> dict[str, Any]:
    contract = contract or arm()
    converted = episodes(contract, parts)
    fields = DatasetStatistics.of(contract.policy_spec(), lambda: converted)
    return make_report(contract, ARM.name, "/", parts, fields, contract_text=ARM.read_text())
