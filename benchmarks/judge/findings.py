"""What rows say together: does the judge order policies, choose well, and know what it knows?"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from statistics import fmean

import numpy as np

from benchmarks.judge.rows import Row
from benchmarks.judge.splits import NAMES
from dql_core.evaluation.statistics import Estimate, estimate_mean, estimate_rate, rank_correlation

RESAMPLES = 2000
FEWEST = 12
GOAL_RANK, GOAL_COVERED, GOAL_REGRET = 0.7, 0.8, 0.5
# What orders policies: a number that is larger for the better ones, None where it says nothing.
Ranker = Callable[[Row], float | None]
JUDGE, FLOOR = "judge", "judge, at least"
FITTED, TD_ERROR, DISTANCE = "d3rlpy's FQE", "TD error", "distance"


def _negative(value: float | None) -> float | None:
    return None if value is None else -value


RANKERS: dict[str, Ranker] = {
    JUDGE: lambda row: row.estimated.value,
    FLOOR: lambda row: row.estimated.floor,
    FITTED: lambda row: row.d3rlpy.value if row.d3rlpy else None,
    TD_ERROR: lambda row: _negative(row.td_error),
    DISTANCE: lambda row: -row.estimated.distance,
}
# What chooses a checkpoint: the judge by the value that one can count on, others by what orders.
CHOOSERS: dict[str, Ranker] = {
    JUDGE: RANKERS[FLOOR],
    **{name: ranker for name, ranker in RANKERS.items() if name not in {JUDGE, FLOOR}},
}


@dataclass(frozen=True)
class Rank:
    """How well something orders policies.

    Attributes:
        correlation: Spearman's with the true values; its interval is a bootstrap's over policies.
        count: Of how many policies it says something.
    """

    correlation: Estimate
    count: int


@dataclass(frozen=True)
class Regret:
    """By how much a choice falls short of the best one, in units of the true values.

    Attributes:
        chosen: Of what was chosen.
        last: Of what one has without a choice.
        spread: From the worst to the best true value.
    """

    chosen: float
    last: float
    spread: float


@dataclass(frozen=True)
class OfSet:
    """The policies of a set.

    Attributes:
        name: The set's.
        rows: One for each policy.
    """

    name: str
    rows: tuple[Row, ...]

    @property
    def judged(self) -> list[Row]:
        """Those with a verdict."""
        return [row for row in self.rows if row.estimated.value is not None]

    def rank(self, ranker: str) -> Rank | None:
        """Return how something orders the policies; ``None`` if it says too little."""
        pairs = [
            (value, row.true_value)
            for row in self.rows
            if (value := RANKERS[ranker](row)) is not None
        ]
        if len(pairs) < 3:
            return None
        values = np.array(pairs)
        rng = np.random.default_rng(0)
        drawn = rng.integers(len(values), size=(RESAMPLES, len(values)))
        found = [rank_correlation(*values[each].T) for each in drawn]
        low, high = np.quantile(found, [0.025, 0.975])
        whole = rank_correlation(*values.T)
        return Rank(Estimate(whole, float(low), float(high)), len(values))

    def regret_in_runs(self, chooser: str) -> Regret | None:
        """Return the mean over runs, of each of which one checkpoint is chosen."""
        runs = [run for run in self._runs if len(run) > 1]
        regrets = [_regret(run, chooser, [run[-1]]) for run in runs]
        if not regrets:
            return None
        return Regret(
            fmean(each.chosen for each in regrets),
            fmean(each.last for each in regrets),
            fmean(each.spread for each in regrets),
        )

    def regret_over_all(self, chooser: str) -> Regret:
        """Return that of one choice among all; the last of a run is that of any run."""
        return _regret(self.rows, chooser, [run[-1] for run in self._runs])

    @cached_property
    def covered(self) -> list[bool]:
        """Whether each interval holds the true value."""
        return [
            row.estimated.low <= row.true_value <= row.estimated.high
            for row in self.judged
            if row.estimated.low is not None and row.estimated.high is not None
        ]

    @property
    def worse_called_better(self) -> list[Row]:
        """Policies that earn less than what was recorded and were called better."""
        return [
            row
            for row in self.rows
            if row.estimated.verdict == "better" and row.true_value < row.behaviour
        ]

    def surely_worse(self, row: Row) -> bool:
        """Whether a policy earns less than what was recorded beyond its rollouts' interval."""
        return estimate_mean(row.truth.discounted).high < row.behaviour

    def called(self, verdict: str) -> int:
        """Return how many got a verdict."""
        return sum(row.estimated.verdict == verdict for row in self.rows)

    @property
    def better(self) -> int:
        """How many earn more than what was recorded."""
        return sum(row.true_value > row.behaviour for row in self.rows)

    @property
    def d3rlpy_seconds(self) -> float | None:
        """What d3rlpy took for all, by the clock on the wall."""
        seconds = [row.d3rlpy.seconds for row in self.rows if row.d3rlpy]
        return sum(seconds) if len(seconds) == len(self.rows) else None

    @property
    def _runs(self) -> list[list[Row]]:
        """Checkpoints of each training, in the order of their steps."""
        grouped: dict[str, list[Row]] = {}
        for row in sorted(self.rows, key=lambda each: each.policy.step):
            if row.is_checkpoint:
                grouped.setdefault(row.policy.run, []).append(row)
        return list(grouped.values())


def group(rows: Iterable[Row]) -> list[OfSet]:
    """Return rows by their sets, in the order of tables."""
    grouped: dict[str, list[Row]] = {}
    for row in rows:
        grouped.setdefault(row.set_name, []).append(row)
    order = {name: index for index, name in enumerate(NAMES)}
    names = sorted(grouped, key=lambda name: (order.get(name, len(order)), name))
    return [OfSet(name, tuple(grouped[name])) for name in names]


def verdicts(sets: Sequence[OfSet]) -> list[str]:
    """Say which goals are reached."""
    covered = [each for one in sets for each in one.covered]
    wrong = [row for one in sets for row in one.worse_called_better]
    return [
        _on("at least 12 policies", sets, lambda one: len(one.rows) >= FEWEST),
        *(
            _on(f"Spearman of at least {GOAL_RANK}, {name}", sets, partial(_ranks_well, ranker))
            for ranker, name in ((JUDGE, "by value"), (FLOOR, "by what chooses"))
        ),
        _on("Spearman above that of d3rlpy's FQE", sets, _ranks_better),
        _on(
            "the regret within runs is at most half that of the last checkpoints",
            sets,
            lambda one: _halves(one.regret_in_runs(JUDGE)),
        ),
        _on(
            "the regret over all is at most half that of the last checkpoints",
            sets,
            lambda one: _halves(one.regret_over_all(JUDGE)),
        ),
        _on(
            f"the interval holds the true value in at least {GOAL_COVERED:.0%}",
            sets,
            lambda one: bool(one.covered) and fmean(one.covered) >= GOAL_COVERED,
        )
        + (f"; of all {len(covered)} intervals {rate(covered)}" if covered else ""),
        f"policies worse than the data that were called better: {len(wrong)}"
        + (f" ({', '.join(row.key for row in wrong)})" if wrong else ""),
    ]


def rate(outcomes: Sequence[bool]) -> str:
    """Return a share with its interval."""
    found = estimate_rate(outcomes)
    return f"{found.mean:.0%} [{found.low:.0%}, {found.high:.0%}]"


def _regret(rows: Sequence[Row], chooser: str, last: Sequence[Row]) -> Regret:
    truths = [row.true_value for row in rows]
    able = [row for row in rows if CHOOSERS[chooser](row) is not None]
    best, fallback = max(truths), fmean(row.true_value for row in last)
    chosen = (
        max(able, key=lambda row: CHOOSERS[chooser](row) or 0.0).true_value if able else fallback
    )
    return Regret(best - chosen, best - fallback, best - min(truths))


def _ranks_well(ranker: str, one: OfSet) -> bool:
    found = one.rank(ranker)
    return found is not None and found.correlation.mean >= GOAL_RANK


def _ranks_better(one: OfSet) -> bool:
    ours, theirs = one.rank(JUDGE), one.rank(FITTED)
    return bool(ours and theirs and ours.correlation.mean > theirs.correlation.mean)


def _halves(regret: Regret | None) -> bool:
    return regret is not None and regret.chosen <= GOAL_REGRET * regret.last


def _on(goal: str, sets: Sequence[OfSet], holds: Callable[[OfSet], bool]) -> str:
    missed = [one.name for one in sets if not holds(one)]
    rest = f"; not on {', '.join(missed)}" if missed else ""
    return f"{goal}: on {len(sets) - len(missed)} of {len(sets)} sets{rest}"
