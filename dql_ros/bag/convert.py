"""Bags -> dataset: read, cut into episodes, reward, write, and say what happened."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dql_core.atomic import whole_directory, write_text
from dql_core.data.dataset import Episode, write_dataset
from dql_core.errors import BagError, DatasetError
from dql_ros.bag.episodes import RecordedEpisode
from dql_ros.bag.reader import Bag, sha256
from dql_ros.bag.recording import Recording, read_recording, require_topics
from dql_ros.bag.report import ConvertedBag, ConvertedEpisode, make_report
from dql_ros.bag.report_html import render
from dql_ros.bag.writer import CONTRACT_KEY
from dql_ros.contract import Contract, RewardFunction
from dql_ros.rewards import Rewards, load_rewards

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


def convert(
    source: Source, out: Path, progress: Callable[[int, int], None] = lambda done, total: None
) -> dict[str, Any]:
    """Convert bags to a Minari dataset in ``out/data`` with a report beside it.

    Args:
        source: What to convert.
        out: The folder to make; it appears whole or not at all.
        progress: Told, now and then, how many bytes of how many are done.

    Returns:
        The report, as written to ``out/report.json``.

    Raises:
        BagError: If a bag cannot be read, lacks what the contract needs, or no bag has an episode.
        ContractError: If the messages or the reward function do not fit the contract.
        DatasetError: If ``out`` already holds something.
    """
    try:
        with whole_directory(out) as temporary:
            return _convert_into(temporary, source, progress)
    except FileExistsError as cause:
        raise DatasetError(
            f"{out}: already exists; name another --out folder or remove it"
        ) from cause


def _convert_into(
    directory: Path, source: Source, progress: Callable[[int, int], None]
) -> dict[str, Any]:
    contract = source.contract
    rewards = (
        load_rewards(contract.reward) if isinstance(contract.reward, RewardFunction) else None
    )
    total = _check(source)
    bags: list[ConvertedBag] = []
    done = 0
    for path in source.bags:

        def tell(read: int, before: int = done) -> None:
            progress(before + read, total)

        with Bag(path) as bag:
            recording = read_recording(bag, contract, source.namespace, tell)
            digests = {file.name: sha256(file) for file in bag.files}
            done += bag.size_bytes
        bags.append(_converted(recording, digests, contract, rewards))
    episodes = [converted.episode for bag in bags for converted in bag.episodes]
    if not episodes:
        raise BagError(_nothing(bags))
    report = make_report(source.contract_name, contract, source.namespace, bags)
    write_dataset(
        directory,
        episodes,
        contract.policy_spec(),
        description=f"Recorded from {contract.robot} and converted by dql convert.",
        extra_metadata={
            CONTRACT_KEY: source.contract_text,
            "dql_inputs": json.dumps(report["bags_sha256"]),
        },
    )
    write_text(directory / REPORT_JSON, json.dumps(report, indent=2) + "\n")
    write_text(directory / REPORT_HTML, render(report, episodes, contract.policy_spec()))
    return report


def _check(source: Source) -> int:
    """Look at all bags before the first is read, and return their size in bytes."""
    total = 0
    for index, path in enumerate(source.bags):
        if path.resolve() in [other.resolve() for other in source.bags[:index]]:
            raise BagError(f"{path}: is named twice; name each bag once")
        with Bag(path) as bag:
            require_topics(bag, source.contract, source.namespace)
            total += bag.size_bytes
    return total


def _converted(
    recording: Recording, digests: dict[str, str], contract: Contract, rewards: Rewards | None
) -> ConvertedBag:
    episodes = [_episode(recorded, contract, rewards) for recorded in recording.episodes]
    return ConvertedBag(recording, digests, tuple(episodes))


def _episode(
    recorded: RecordedEpisode, contract: Contract, rewards: Rewards | None
) -> ConvertedEpisode:
    spec = contract.policy_spec()
    actions = recorded.actions.astype(np.float32)
    clipped = np.clip(actions, spec.action_low, spec.action_high)
    if rewards is not None:
        values = rewards(recorded.observations, clipped, spec)
    elif recorded.rewards is not None:
        values = recorded.rewards
    else:
        # The contract says by its silence that the log is to be imitated, not valued.
        values = np.zeros(len(recorded))
    episode = Episode(
        recorded.observations, clipped, values, recorded.terminated, recorded.truncated
    )
    return ConvertedEpisode(episode, recorded, (actions != clipped).sum(axis=0).tolist())


def _nothing(bags: Sequence[ConvertedBag]) -> str:
    """Say why no bag has an episode."""
    recording = bags[0].recording
    reasons = "; ".join(
        f"{span.reason} from {(span.start_ns - recording.start_ns) / 1e9:.1f} s to "
        f"{(span.end_ns - recording.start_ns) / 1e9:.1f} s"
        for span in recording.left_out[:3]
    )
    return (
        f"{recording.path}: no episode could be made ({reasons or 'no message'}); check the "
        f"contract's max_age_s and episode rules against the recording"
    )
