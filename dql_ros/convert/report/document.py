"""What a conversion did, merged from what became of each bag: the content of ``report.json``."""

from __future__ import annotations

import platform
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cache
from importlib.metadata import version
from typing import Any

import numpy as np

from dql_core.data.precision import PrecisionRow, blurred, merged, to_json
from dql_core.errors import listed
from dql_ros import __version__
from dql_ros.bag.reader import unreadable_remarks
from dql_ros.contract import Contract
from dql_ros.contract.outcomes import FAILURE, SUCCESS
from dql_ros.convert.bag_result import BagResult
from dql_ros.convert.clock import displacement
from dql_ros.convert.full_turns import turned
from dql_ros.convert.recorded_episode import Cause
from dql_ros.convert.report.field_statistics import DatasetStatistics
from dql_ros.convert.values_seen import OPENINGS, Unmatched
from dql_ros.convert.values_seen import merged as merged_values

LIBRARIES = ("rosbags", "mcap", "minari", "numpy")
MAX_NAMED = 5
_COUNTED = {"lacked", "interventions", "unattributed"}  # said in the remarks
# What became of action values beyond the bounds, by the contract's choice.
BEYOND = {"clip": "were clipped", "widen": "widened the bounds", "refuse": "were refused"}


def make_report(
    contract: Contract,
    contract_name: str,
    namespace: str,
    results: Sequence[BagResult],
    fields: DatasetStatistics,
    *,
    contract_text: str = "",
) -> dict[str, Any]:
    """Return the report as a JSON-ready dictionary; equal inputs give equal reports.

    Args:
        contract: The contract.
        contract_name: Its file name.
        namespace: Namespace of its relative topics.
        results: The bags, in the dataset's order, those that failed among them.
        fields: Figures of the dataset's fields.
        contract_text: The contract's file as it was read.
    """
    converted = [result for result in results if result.error is None]
    report = {
        "robot": contract.robot,
        "rate_hz": contract.rate_hz,
        "contract": contract_name,
        "contract_hash": contract.hash(),
        "contract_text": contract_text,
        "namespace": namespace,
        "versions": _versions(),
        "totals": _totals(results, has_reward=contract.reward is not None),
        "failed": [
            {"bag": result.bag, "error": result.error} for result in results if result.error
        ],
        "bags_sha256": {result.bag: result.files for result in converted},
        "bags": [_bag(result) for result in converted],
        "episodes": [
            {"bag": result.bag, **row.model_dump(by_alias=True, exclude=_COUNTED)}
            for result in converted
            for row in result.episodes
        ],
        "endings": _endings(converted),
        "observation": _observations(converted, fields),
        "action": _actions(converted, fields),
        "reward": fields.reward.to_json(),
    }
    lacked = sum(row.lacked for result in converted for row in result.episodes)
    notes = [
        *remarks(report, contract, lacked),
        *_about_takeover(converted, contract),
        *_about_outcomes(converted, contract),
        *_about_rounding(converted, contract),
        *_about_turns(converted, contract),
    ]
    return {**report, "remarks": list(dict.fromkeys(notes))}


@cache
def _versions() -> dict[str, str]:
    return {
        "dql_ros": __version__,
        **{name: version(name) for name in LIBRARIES},
        "python": platform.python_version(),
    }


def _totals(results: Sequence[BagResult], *, has_reward: bool) -> dict[str, Any]:
    converted = [result for result in results if result.error is None]
    episodes = [row for result in converted for row in result.episodes]
    lengths = [row.length for row in episodes]
    returns = [row.episode_return for row in episodes]
    return {
        "bags": len(results),
        "failed_bags": len(results) - len(converted),
        "messages": sum(result.message_count for result in converted),
        "recorded_s": round(sum(result.duration_s for result in converted), 6),
        "episodes": len(episodes),
        "transitions": sum(lengths),
        "terminated": sum(row.terminated for row in episodes),
        "truncated": sum(row.truncated for row in episodes),
        "success": sum(row.outcome == SUCCESS for row in episodes),
        "failure": sum(row.outcome == FAILURE for row in episodes),
        "discarded": sum(result.labels.discarded for result in converted),
        "mean_length": float(np.mean(lengths)) if lengths else None,
        "mean_return": float(np.mean(returns)) if returns and has_reward else None,
        "gaps": sum(topic.gaps for result in converted for topic in result.topics),
        "losses": sum(len(result.losses) for result in converted),
        "dropped_ticks": sum(result.dropped_ticks for result in converted),
        "nonfinite_splits": sum(result.split_nonfinite for result in converted),
        "clock_splits": sum(len(result.clock_faults) for result in converted),
        "clipped_actions": sum(sum(result.clipped) for result in converted),
        "by_index_messages": sum(result.by_index_warnings for result in converted),
        "absent_messages": sum(topic.absent for result in converted for topic in result.topics),
    }


def _bag(result: BagResult) -> dict[str, Any]:
    document = result.to_json()
    for elsewhere in ("files", "error"):
        del document[elsewhere]
    lengths = [row.length for row in result.episodes]
    return {**document, "episodes": len(lengths), "transitions": sum(lengths)}


def _endings(results: Sequence[BagResult]) -> list[dict[str, Any]]:
    """How many episodes ended how, the most frequent first."""
    rows = [row for result in results for row in result.episodes]
    counts = Counter((row.ending, row.terminated, row.truncated) for row in rows)
    return [
        {"ending": ending, "terminated": terminated, "truncated": truncated, "episodes": count}
        for (ending, terminated, truncated), count in sorted(
            counts.items(), key=lambda item: (-item[1], item[0])
        )
    ]


def _observations(results: Sequence[BagResult], fields: DatasetStatistics) -> list[dict[str, Any]]:
    """The observation fields, with what rounding left of them."""
    return _with_rounding(fields.observation.to_json(), [result.observed for result in results])


def _with_rounding(
    rows: list[dict[str, Any]], parts: Sequence[Sequence[PrecisionRow]]
) -> list[dict[str, Any]]:
    found = merged(parts) or (None,) * len(rows)
    return [
        {**row, "rounding": None if each is None else to_json(each)}
        for row, each in zip(rows, found, strict=True)
    ]


def _about_takeover(results: Sequence[BagResult], contract: Contract) -> Iterator[str]:
    """Sentences on whose commands the actions are."""
    takeover = contract.takeover
    rows = [row for result in results for row in result.episodes]
    if takeover is None or not rows:
        return
    steps, persons, unknown = (
        sum(counts)
        for counts in zip(
            *((row.length, row.interventions, row.unattributed) for row in rows), strict=True
        )
    )
    yield f"{persons} of {steps} actions are a person's (infos/intervention)."
    if unknown:
        yield (
            f"Of {unknown} of {steps} actions nobody said on '{takeover.intervention}' whose they "
            f"are: they count as not a person's."
        )


def _about_outcomes(results: Sequence[BagResult], contract: Contract) -> Iterator[str]:
    """Sentences on what a person said of the episodes, and on labels that count for nothing."""
    outcomes = contract.outcomes
    if outcomes is None:
        return
    rows = [row for result in results for row in result.episodes]
    told = Counter(row.outcome for row in rows)
    success, failure, rest = (told[each] for each in (SUCCESS, FAILURE, None))
    discarded, changed, unused, unseen = (
        sum(getattr(result.labels, key) for result in results)
        for key in ("discarded", "changed", "unused", "unseen")
    )
    yield (
        f"By a person's labels, {success} of {_many(len(rows), 'episode', 'episodes')} are a "
        f"success and {failure} a failure (infos/success); {rest} have no label, and "
        f"{discarded} were discarded and left out."
    )
    if changed:
        yield f"{_many(changed, 'label', 'labels')} changed an earlier one: the last one counts."
    if unused:
        yield f"{_many(unused, 'label', 'labels')} belong to no episode of the dataset."
    if unseen:
        yield (
            f"{_many(unseen, 'label', 'labels')} of success or failure do not count, since what "
            f"the contract needs was missing when the episode ended."
        )
    for label in dict.fromkeys(label for result in results for label in result.labels.stuck):
        flag = outcomes.flags[label]
        yield (
            f"outcomes.{label}: each message of {flag.topic} raises it, so that it counts once a "
            f"bag: let it be lowered between, or say '{label}' on '{outcomes.topic}'."
        )
    after = [
        row
        for result in results
        for row in result.left_out
        if row.reason == Cause.AFTER_LABEL.value
    ]
    if after:
        yield (
            f"{sum(row.to_s - row.from_s for row in after):.1f} s after a label are left out, "
            f"since nothing began another episode; if there is one, give 'start' or 'during'."
        )


def _about_rounding(results: Sequence[BagResult], contract: Contract) -> Iterator[str]:
    """Sentences on the fields that never change, and on those that float32 blurs."""
    spec = contract.policy_spec()
    observed = merged([result.observed for result in results])
    commanded = merged([result.commanded for result in results])
    for specs, rows in ((spec.observation, observed), (spec.action, commanded)):
        for field, row in zip(specs, rows, strict=False):
            if row.is_constant and not row.is_wide:
                yield f"{field.name} never changes: it is {row.low:g} throughout."
    yield from (f"{text}." for text in blurred(observed, spec.observation, are_observed=True))
    yield from (f"{text}." for text in blurred(commanded, spec.action, are_observed=False))


def _about_turns(results: Sequence[BagResult], contract: Contract) -> Iterator[str]:
    """Sentences on the angles that wrap around."""
    spec = contract.policy_spec()
    observed = [result.turned for result in results]
    commanded = [result.commands_turned for result in results]
    yield from (f"{text}." for text in turned(observed, spec.observation, are_observed=True))
    yield from (f"{text}." for text in turned(commanded, spec.action, are_observed=False))


def _actions(results: Sequence[BagResult], fields: DatasetStatistics) -> list[dict[str, Any]]:
    """The action fields, with what was recorded beside what the dataset has."""
    rows = _with_rounding(fields.action.to_json(), [result.commanded for result in results])
    clipped = [result.clipped for result in results if result.clipped]
    smallest = [result.action_min for result in results if result.action_min]
    largest = [result.action_max for result in results if result.action_max]
    return [
        {
            **row,
            "clipped": sum(each[index] for each in clipped),
            "recorded_min": min((each[index] for each in smallest), default=None),
            "recorded_max": max((each[index] for each in largest), default=None),
        }
        for index, row in enumerate(rows)
    ]


def remarks(report: dict[str, Any], contract: Contract, lacked: int) -> list[str]:
    """Return one sentence for each thing that may make the dataset less than it seems.

    Args:
        report: The report as made so far.
        contract: The contract behind it.
        lacked: Episodes that ended where something was missing.
    """
    sentences = (
        *_about_bags(report),
        *_about_episodes(report, contract, lacked),
        *_about_values(report, contract),
        *_about_clocks(report["bags"]),
        *_about_topics(report["bags"], contract),
    )
    return list(dict.fromkeys(sentences))  # the same of two roles of a topic


def _about_bags(report: dict[str, Any]) -> Iterator[str]:
    totals, bags = report["totals"], report["bags"]
    if report["failed"]:
        yield f"{totals['failed_bags']} of {totals['bags']} bags could not be converted."
    yield from _without_episode([bag for bag in bags if not bag["episodes"]])
    for bag in bags:
        for loss in bag["losses"]:
            lost = "an unknown number of" if loss["messages"] is None else f"{loss['messages']}"
            yield f"{bag['bag']}: {loss['file']}: {loss['reason']}; {lost} messages are lost."
        yield from (f"{bag['bag']}: {note}" for note in bag["notes"])
        skipped = [
            (topic["name"], topic["type"], topic["count"], topic["reason"])
            for topic in bag["skipped_topics"]
        ]
        yield from (f"{bag['bag']}: {remark}." for remark in unreadable_remarks(skipped))


def _without_episode(bags: Sequence[dict[str, Any]]) -> Iterator[str]:
    """Name the bags that gave no episode; apart those in which the same event never came."""
    unexplained = []
    never: dict[tuple[str, str], list[tuple[str, Unmatched]]] = {}
    for bag in bags:
        rows = [row for row in _unmatched(bag) if row.role in OPENINGS]
        for row in rows:
            never.setdefault((row.role, row.topic), []).append((bag["bag"], row))
        unexplained += [] if rows else [bag["bag"]]
    if unexplained:
        yield f"{listed(unexplained, MAX_NAMED)} gave no episode."
    for pairs in never.values():
        names, rows = [name for name, _ in pairs], [row for _, row in pairs]
        yield f"{listed(names, MAX_NAMED)} gave no episode: {merged_values(rows)}."


def _never_terminated(bags: Sequence[dict[str, Any]]) -> str:
    """What the messages have that were to end the task; empty if one did, or it is not known."""
    rows = [row for bag in bags for row in _unmatched(bag) if row.role == "terminated"]
    heard = [
        topic
        for bag in bags
        for topic in bag["topics"]
        if topic["role"] == "terminated" and topic["count"] + topic["absent"]
    ]
    return str(merged_values(rows)) if rows and len(rows) == len(heard) else ""


def _unmatched(bag: dict[str, Any]) -> list[Unmatched]:
    return [Unmatched.model_validate(row) for row in bag["unmatched"]]


def _about_episodes(report: dict[str, Any], contract: Contract, lacked: int) -> Iterator[str]:
    totals = report["totals"]
    if contract.reward is None:
        yield (
            "The contract names no reward: all rewards are 0, and only imitation can be "
            "learned (agent: diffusion_bc)."
        )
    elif totals["transitions"]:
        (reward,) = report["reward"]
        if reward["min"] == reward["max"]:
            yield f"Every reward is {reward['min']:g}: no action is better than another."
    if contract.episode.terminated is not None and totals["episodes"] and not totals["terminated"]:
        never = _never_terminated(report["bags"])
        yield (
            "The contract says what ends the task, and it never happened: no episode is "
            f"terminated{never and f'; {never}'}."
        )
    yield from _about_what_follows(report)
    if lacked:
        ends = _many(lacked, "episode ends", "episodes end")
        yield f"{ends} because a topic or value was missing (see the table of episodes)."
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


def _about_what_follows(report: dict[str, Any]) -> Iterator[str]:
    """Tell of attempts after the end of a task, where nobody said that they begin."""
    rows = (row for bag in report["bags"] for row in bag["left_out"])
    after_s = sum(
        row["to_s"] - row["from_s"] for row in rows if row["reason"] == Cause.AFTER_THE_END.value
    )
    kept_s = report["totals"]["transitions"] / report["rate_hz"]
    if after_s > kept_s:
        yield (
            f"{after_s:.1f} s after the end of the task are left out, and the episodes have "
            f"{kept_s:.1f} s: nothing said that another attempt began; if there are some, record "
            f"a topic that says so where each ends or begins, and name it as 'truncated', 'start' "
            f"or 'during'."
        )


def _about_clocks(bags: Sequence[dict[str, Any]]) -> Iterator[str]:
    for bag in bags:
        found: dict[tuple[str, str], list[dict[str, Any]]] = {}
        for row in bag["clock_faults"]:
            found.setdefault((row["topic"], row["what"]), []).append(row)
        for (topic, what), rows in found.items():
            count = _many(sum(row["count"] for row in rows), "message", "messages")
            where = f"the first at {rows[0]['from_s']:.3f} s"
            yield f"{bag['bag']}: {topic}: {count} {what}, {where}; episodes end there."


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


def _about_topics(bags: Sequence[dict[str, Any]], contract: Contract) -> Iterator[str]:
    oddities = {
        "backwards": "header stamps went backwards",
        "duplicate": "header stamps came twice",
        "zero": "header stamps were zero",
    }
    for bag in bags:
        for topic in bag["topics"]:
            for kind, words in oddities.items():
                if count := (topic["stamps"] or {}).get(kind, 0):
                    yield f"{bag['bag']}: {topic['topic']}: {count} {words}."
            if text := displacement(topic, 1 / contract.rate_hz):
                yield f"{bag['bag']}: {topic['topic']}: {text}."
            if topic["absent"]:
                total = topic["count"] + topic["absent"]
                yield (
                    f"{bag['bag']}: {topic['topic']}: {topic['absent']} of {total} messages were "
                    f"skipped: they have not got what the contract selects ({topic['role']})."
                )
            if topic["ended"]:
                stops = _many(topic["ended"], "trajectory", "trajectories")
                yield f"{bag['bag']}: {topic['topic']}: {stops} without points ended the command."


def _many(count: int, one: str, several: str) -> str:
    return f"{count} {one if count == 1 else several}"
