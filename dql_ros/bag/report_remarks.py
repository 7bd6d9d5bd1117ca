"""What a reader of the conversion report must not overlook."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from dql_ros.contract import Contract

MAX_NAMED = 5
# What became of action values beyond the bounds, by the contract's choice.
BEYOND = {"clip": "were clipped", "widen": "widened the bounds", "refuse": "were refused"}


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
