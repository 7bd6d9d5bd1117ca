"""Ranks the episodes of a dataset: those to look at first."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from dql_core.data.curation.rules import CHOSEN_BY, EpisodeFacts, numbers_text
from dql_core.data.dataset import Episode, find_dataset
from dql_core.data.episode_reader import EpisodeReader, StoredEpisode
from dql_core.data.metadata import has_rewards
from dql_core.errors import DatasetError, counted, listed
from dql_core.evaluation.episodes.measures import (
    MEASURES,
    Figures,
    Measure,
    at_bounds,
    disagreement,
    jerk,
    outliers,
    standstill,
)
from dql_core.spec import PolicySpec

Progress = Callable[[int, int], None]
# Among fewer episodes a place says little.
FEW_EPISODES = 10


@dataclass(frozen=True)
class EpisodeScore:
    """What was found of an episode.

    Attributes:
        facts: Its number, length, return and ends.
        values: Each measure of it; ``None`` where it has none.
        places: Of each measure that it has, the share of the other episodes with a smaller one.
        score: Mean of the places: 0 if no other looks better in anything, towards 1 if all do in
            everything.
    """

    facts: EpisodeFacts
    values: dict[Measure, float | None]
    places: dict[Measure, float]
    score: float


@dataclass(frozen=True)
class Scores:
    """The ranking of a dataset's episodes, and the episodes.

    Attributes:
        source: The dataset's name.
        spec: Of its vectors.
        has_rewards: Whether anything gave it rewards.
        by: The measure that ranks them; ``None`` for the score.
        ranking: All episodes, the one to look at first in front.
        episodes: What is stored of each, by number.
        asked: How many steps were compared with those of other episodes.
        compared: With how many steps.
        remarks: What a reader must not miss, one line each.
    """

    source: str
    spec: PolicySpec
    has_rewards: bool
    by: Measure | None
    ranking: tuple[EpisodeScore, ...]
    episodes: dict[int, StoredEpisode]
    asked: int
    compared: int
    remarks: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Return all but the episodes themselves, JSON-ready."""
        return {
            "dataset": self.source,
            "ranked_by": self.by or "score",
            "asked": self.asked,
            "compared": self.compared,
            "remarks": list(self.remarks),
            "episodes": [
                {
                    "episode": each.facts.number,
                    "score": each.score,
                    **{key: value for key, value in asdict(each.facts).items() if key != "number"},
                    **each.values,
                    "places": each.places,
                }
                for each in self.ranking
            ],
        }


def score_episodes(
    source: str,
    *,
    by: Measure | None = None,
    seed: int = 0,
    progress: Progress = lambda done, total: None,
) -> Scores:
    """Measure the episodes of a dataset, and rank them.

    Args:
        source: The folder that holds ``data/``, the data folder itself, or a local Minari id.
        by: Rank by this measure alone.
        seed: Of the draw of recorded steps, where there are many.
        progress: Called for each episode that is read with how many of how many are.

    Raises:
        DatasetError: If the dataset cannot be read, or holds values that are no numbers.
    """
    reader = EpisodeReader(find_dataset(source).absolute(), source, infos=CHOSEN_BY)
    stored = []
    for each in reader:
        stored.append(each)
        progress(len(stored), reader.metadata.total_episodes)
    able = [each for each in stored if len(each.rewards)]
    if not able:
        raise DatasetError(f"{source}: every episode is empty; record or convert some first")
    _require_finite(able, source)
    spec = reader.metadata.spec
    episodes = [_episode(each) for each in able]
    far, without = outliers(episodes, spec)
    apart, asked, compared = disagreement(episodes, spec, seed)
    found: dict[Measure, Figures] = {
        "jerk": jerk(episodes),
        "standstill": standstill(episodes),
        "at_bounds": at_bounds(episodes, spec),
        "outliers": far,
        "disagreement": apart,
    }
    return Scores(
        source=source,
        spec=spec,
        has_rewards=has_rewards(reader.metadata.document),
        by=by,
        ranking=_ranked([EpisodeFacts.of(each) for each in able], found, by),
        episodes={each.index: each for each in able},
        asked=asked,
        compared=compared,
        remarks=tuple(_remarks(len(able), len(stored) - len(able), without)),
    )


def _episode(stored: StoredEpisode) -> Episode:
    logged = stored.episode
    ends = logged.terminated, logged.truncated
    return Episode(logged.observations, logged.actions, stored.rewards, *ends)


def _require_finite(stored: Sequence[StoredEpisode], source: str) -> None:
    bad = [
        each.index
        for each in stored
        if not all(
            np.isfinite(values).all()
            for values in (each.episode.observations, each.episode.actions, each.rewards)
        )
        or not np.isfinite(EpisodeFacts.of(each).earned)
    ]
    if bad:
        numbers = numbers_text(bad)
        raise DatasetError(
            f"{source}: {counted(len(bad), 'episode')} hold values that are no numbers, or add "
            f"up to none: leave them out first: dql dataset drop {source} --episode {numbers} "
            f"--out DIR"
        )


def _ranked(
    facts: Sequence[EpisodeFacts], found: dict[Measure, Figures], by: Measure | None
) -> tuple[EpisodeScore, ...]:
    places = {measure: _places(values) for measure, values in found.items()}
    scores = []
    for index, each in enumerate(facts):
        own = {
            measure: float(places[measure][index])
            for measure in MEASURES
            if not np.isnan(found[measure][index])
        }
        values = {
            measure: float(found[measure][index]) if measure in own else None
            for measure in MEASURES
        }
        scores.append(EpisodeScore(each, values, own, float(np.mean(list(own.values())))))

    def order(each: EpisodeScore) -> tuple[float, float, int]:
        first = each.score if by is None else each.places.get(by, -1.0)
        return -first, -each.score, each.facts.number

    return tuple(sorted(scores, key=order))


def _places(values: Figures) -> Figures:
    """Return of each value the share of the others that are smaller; NaN are not among them."""
    known = np.sort(values[~np.isnan(values)])
    smaller = np.searchsorted(known, values, side="left")
    return smaller / max(len(known) - 1, 1)


def _remarks(episodes: int, empty: int, without: Sequence[str]) -> list[str]:
    remarks = []
    if episodes < FEW_EPISODES:
        remarks.append(f"{counted(episodes, 'episode')}: places among so few say little")
    if empty:
        remarks.append(f"{counted(empty, 'episode')} without a step: left out")
    if without:
        remarks.append(
            f"no value of {listed(without)} is called an outlier: nine tenths of them are equal"
        )
    return remarks
