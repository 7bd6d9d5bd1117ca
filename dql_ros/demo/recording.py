"""Episodes driven over ROS 2, recorded into bags and converted: the demo's one way to data."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dql_core.data.dataset import Episode, load_dataset
from dql_ros.bag.convert import Source, convert
from dql_ros.closed_loop import run_closed_loop
from dql_ros.contract import load_contract
from dql_ros.demo.driven import require_same_episodes
from dql_ros.processes import NodeCommand
from dql_ros.simulation import EpisodeResult


@dataclass(frozen=True)
class Session:
    """One run of simulation, driver and recorder.

    Attributes:
        driver: The node that drives.
        episodes: How many episodes.
        seed: Seed of the first episode.
        bag: Where to record.
    """

    driver: NodeCommand
    episodes: int
    seed: int
    bag: Path


def record_sessions(
    contract: Path, sessions: Sequence[Session], on_episode: Callable[[], None]
) -> list[EpisodeResult]:
    """Run one session after the other and return how all their episodes ended.

    Raises:
        DqlError: If the contract is wrong.
        SimulationError: If a process fails.
    """
    results: list[EpisodeResult] = []
    for session in sessions:
        session.bag.parent.mkdir(parents=True, exist_ok=True)
        results += run_closed_loop(
            contract,
            session.driver,
            episodes=session.episodes,
            seed=session.seed,
            record=session.bag,
            on_episode=lambda _: on_episode(),
        )
    return results


def convert_bags(
    contract: Path,
    bags: Sequence[Path],
    out: Path,
    results: Sequence[EpisodeResult],
    progress: Callable[[int, int], None],
) -> tuple[dict[str, Any], tuple[Episode, ...]]:
    """Convert bags and check that the dataset has the episodes that were driven.

    Returns:
        The converter's report and the dataset's episodes.

    Raises:
        DqlError: If the bags do not fit the contract.
        SimulationError: If the recording has other episodes than ``results``.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    source = Source(
        load_contract(contract),
        bags,
        contract_name=contract.name,
        contract_text=contract.read_text(),
    )
    report = convert(source, out, progress=progress)
    episodes = load_dataset(str(out)).episodes
    require_same_episodes(results, episodes, out.name)
    return report, episodes
