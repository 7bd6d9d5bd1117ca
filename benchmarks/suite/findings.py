"""What rows say together: means with their intervals, times, and whether the goals are reached."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from statistics import fmean
from typing import Literal

import numpy as np

from benchmarks.suite.methods import METHODS, ORDER
from benchmarks.suite.rows import Point, Row
from benchmarks.suite.sets import SETS
from dql_core.evaluation.statistics import Estimate

RESAMPLES = 2000
ClockName = Literal["wall", "cpu"]
PAPER, PRESET, DEFAULT, DERIVED = "paper", "paper_preset", "default", "derived"
BC = "diffusion_bc"
BASELINES = (BC, "diffusion_bc_epsilon", "td3_bc", "d3rlpy_td3_bc", "d3rlpy_iql")


@dataclass(frozen=True)
class Moment:
    """A method at one step of its training, over its seeds.

    Attributes:
        step: Updates taken.
        seconds: Mean time they took.
        score: Mean score.
        low: Smallest mean score of a seed.
        high: Largest.
    """

    step: int
    seconds: float
    score: float
    low: float
    high: float


@dataclass(frozen=True)
class Cell:
    """All seeds of a method on a set.

    Attributes:
        rows: One for each seed, at least one; each has a curve.
        clock: Whose time counts.
    """

    rows: tuple[Row, ...]
    clock: ClockName = "wall"

    @cached_property
    def score(self) -> Estimate:
        """Score at the last step and its interval."""
        return bootstrap([row.curve[-1].scores for row in self.rows])

    @property
    def episodes(self) -> int:
        """Rollouts of one seed at the last step."""
        return len(self.rows[0].curve[-1].scores)

    @property
    def seconds(self) -> float:
        """Mean time of the whole training."""
        return fmean(self._seconds(row.curve[-1]) for row in self.rows)

    @property
    def broken(self) -> int:
        """Seeds whose training stopped early, or whose values left their limit."""
        return sum(bool(row.failure or row.alarms) for row in self.rows)

    @cached_property
    def curve(self) -> list[Moment]:
        """The steps that all seeds reached, each on the starts that all points have.

        The last policy is rolled out from more, which may be harder.
        """
        points = [{point.step: point for point in row.curve} for row in self.rows]
        starts = min(len(point.scores) for row in self.rows for point in row.curve)
        shared = sorted(set.intersection(*(set(each) for each in points)))
        moments = []
        for step in shared:
            scores = [fmean(each[step].scores[:starts]) for each in points]
            seconds = fmean(self._seconds(each[step]) for each in points)
            moments.append(Moment(step, seconds, fmean(scores), min(scores), max(scores)))
        return moments

    def _seconds(self, point: Point) -> float:
        return point.seconds if self.clock == "wall" else point.cpu_seconds

    def seconds_to(self, score: float) -> float | None:
        """Return the time after which the mean score is first that large; None if it never is."""
        return next((each.seconds for each in self.curve if each.score >= score), None)


def bootstrap(scores: Sequence[Sequence[float]]) -> Estimate:
    """Estimate a mean over seeds and episodes by the bootstrap.

    Seeds are drawn with replacement, and the episodes of each; of one seed, its episodes only,
    which says nothing of other seeds.

    Args:
        scores: Of each episode of each seed.
    """
    rng = np.random.default_rng(0)
    values = [np.asarray(each, dtype=np.float64) for each in scores]
    means = np.empty(RESAMPLES)
    for index in range(RESAMPLES):
        seeds = rng.integers(len(values), size=len(values))
        means[index] = fmean(rng.choice(values[seed], len(values[seed])).mean() for seed in seeds)
    low, high = np.quantile(means, [0.025, 0.975])
    return Estimate(fmean(each.mean() for each in values), float(low), float(high))


# Whether a goal is reached on a set, given what returns a method's rows on it.
Holds = Callable[[Callable[[str], Cell]], bool]


class Findings:
    """Rows by set and method.

    Args:
        rows: With equal numbers of updates.
        clock: The one on the ``wall``, or the ``cpu`` time, which other work on the machine does
            not add to.

    Attributes:
        clock: As given.
        cells: By the names of set and method.
        lost: Seeds that broke before there was anything to roll out, likewise.
        sets: Names, in the order of tables.
        subsets: Names of those of few episodes.
        methods: Names, likewise.
        trained: Those that trained; the others took their last policies.
    """

    def __init__(self, rows: Iterable[Row], clock: ClockName = "wall") -> None:
        self.clock = clock
        grouped: dict[tuple[str, str], list[Row]] = {}
        self.lost: Counter[tuple[str, str]] = Counter()
        for row in sorted(rows, key=lambda each: each.seed):
            key = row.set_name, row.method
            if row.curve:
                grouped.setdefault(key, []).append(row)
            else:
                self.lost[key] += 1
        self.cells = {key: Cell(tuple(group), clock) for key, group in grouped.items()}
        names = _ordered({name for name, _ in self.cells}, list(SETS))
        self.sets = [name for name in names if name in SETS]
        self.subsets = [name for name in names if name not in SETS]
        self.methods = _ordered({method for _, method in {**self.cells, **self.lost}}, ORDER)
        self.trained = [each for each in self.methods if trains(each)]

    def cell(self, set_name: str, method: str) -> Cell | None:
        """Return the rows of a method on a set; None if there are none."""
        return self.cells.get((set_name, method))

    def data_score(self, set_name: str) -> float:
        """Return the mean score of a set's data."""
        cells = (cell for (name, _), cell in self.cells.items() if name == set_name)
        return next(cells).rows[0].data_score

    def verdicts(self) -> list[str]:
        """Say which goals are reached, on which of the sets with the rows for it.

        A method misses a goal on a set where one of its seeds broke before its first rollout: the
        mean of the others would be that of the survivors.
        """
        of_preset = self._verdict(
            "preset: paper is not below the paper's code beyond its interval",
            PRESET,
            [PAPER],
            lambda at: at(PRESET).score.high >= at(PAPER).score.mean,
        )
        judged = [each for each in (DEFAULT, DERIVED) if each == DEFAULT or each in self.methods]
        return [of_preset, *(verdict for each in judged for verdict in self._verdicts_of(each))]

    def _verdicts_of(self, method: str) -> Iterator[str]:
        name = label(method)
        yield self._verdict(
            f"{name} is at or above the paper's code",
            method,
            [PAPER],
            lambda at: at(method).score.mean >= at(PAPER).score.mean,
        )
        yield self._verdict(
            f"{name} is above the best of BC, TD3+BC and IQL",
            method,
            BASELINES,
            lambda at: all(at(method).score.mean > at(other).score.mean for other in BASELINES),
        )
        yield self._verdict(
            f"{name} is above the data",
            method,
            [],
            lambda at: at(method).score.mean > at(method).rows[0].data_score,
        )
        yield self._verdict(
            f"{name} reaches the paper's code's score in at most a fifth of its time",
            method,
            [PAPER],
            lambda at: (
                (at(method).seconds_to(at(PAPER).curve[-1].score) or np.inf)
                <= at(PAPER).seconds / 5
            ),
        )
        yield self._verdict(
            f"{name} of few episodes does not diverge, nor is it below Diffusion-BC beyond its "
            f"interval",
            method,
            [BC],
            lambda at: not at(method).broken and at(method).score.high >= at(BC).score.mean,
            small=True,
        )

    def _cell_at(self, set_name: str, method: str) -> Cell:
        return self.cells[set_name, method]

    def _verdict(
        self,
        goal: str,
        judged: str,
        others: Sequence[str],
        holds: Holds,
        *,
        small: bool = False,
    ) -> str:
        known = [
            name
            for name in (self.subsets if small else self.sets)
            if ((name, judged) in self.cells or self.lost[name, judged])
            and all((name, each) in self.cells for each in others)
        ]
        reached = [
            name
            for name in known
            if not self.lost[name, judged] and holds(partial(self._cell_at, name))
        ]
        missed = [name for name in known if name not in reached]
        rest = f"; not on {', '.join(missed)}" if missed else ""
        return f"{goal}: on {len(reached)} of {len(known)} sets{rest}"


def trains(method: str) -> bool:
    """Whether a method trains, or takes the policies of one that does."""
    return method not in METHODS or not METHODS[method].trained_as


def label(method: str) -> str:
    """Return what a method is called in tables."""
    return METHODS[method].label if method in METHODS else method


def _ordered(names: set[str], order: Sequence[str]) -> list[str]:
    known = {name: index for index, name in enumerate(order)}
    return sorted(names, key=lambda name: (known.get(name, len(known)), name))
