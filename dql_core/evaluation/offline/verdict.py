"""From fitted values to a verdict: better than the data, worse, or neither can be said."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from dql_core.evaluation.offline.fitted_q import BEHAVIOUR, FittedValues
from dql_core.evaluation.offline.recording import Recording
from dql_core.evaluation.statistics import LEVEL, Estimate

Verdict = Literal["better", "not distinguishable", "worse", "no verdict"]
WORDS: dict[Verdict, str] = {
    "better": "better than the data",
    "not distinguishable": "not distinguishable",
    "worse": "worse than the data",
    "no verdict": "no verdict",
}
# A verdict needs this probability.
SURE = 0.95
# Of the spread of what was recorded: more drift in the last quarter, and it has not converged.
MAX_DRIFT = 0.1
MAX_CLIPPED = 0.05
# Where a policy acts like nobody in so many states, its value is guesswork.
MAX_FAR_SHARE = 0.5
FEW_EPISODES = 10


@dataclass(frozen=True)
class BehaviourWorth:
    """What the recorded behaviour earned, and what the method makes of it: the control.

    Attributes:
        value: Discounted return from the first states as recorded.
        fitted: The same by fitted Q evaluation of the recorded actions.
        error: By how much the second exceeds the first beyond what chance explains.
        spread: Standard deviation over all transitions of the recorded returns, with what a
            truncated episode would have gone on to earn.
        tail: Mean weight of the value that a truncated episode lacks, in which ``value`` relies
            on the fit.
        doubts: What speaks against the fit; empty if it can be trusted.
    """

    value: Estimate
    fitted: float
    error: float
    spread: float
    tail: float
    doubts: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-ready dictionary."""
        return asdict(self) | {"value": self.value.to_json(), "doubts": list(self.doubts)}


@dataclass(frozen=True)
class Worth:
    """What a policy is worth.

    Attributes:
        verdict: Beside the recorded behaviour.
        probability: That it is better than the behaviour; ``None`` without a verdict.
        value: Discounted return from the recorded first states; ``None`` without a verdict.
        difference: From the behaviour's; ``None`` without a verdict.
        members: The difference as each member of the ensemble sees it.
        far_share: Share of states in which it acts like nobody recorded nearby.
        drift: Change of the value over the last quarter of the fit.
        clipped: Share of the last targets beyond what is possible.
        doubts: Why there is no verdict; empty if there is one.
        trace: The difference at each reading of the fit.
    """

    verdict: Verdict
    probability: float | None
    value: Estimate | None
    difference: Estimate | None
    members: tuple[float, ...]
    far_share: float
    drift: float
    clipped: float
    doubts: tuple[str, ...]
    trace: tuple[float, ...]

    @property
    def floor(self) -> float:
        """What it is worth more than the behaviour at least, by one standard error."""
        if self.difference is None or math.isinf(self.difference.low):
            return -math.inf
        half_width = self.difference.mean - self.difference.low
        return self.difference.mean - half_width / _quantile(len(self.members))

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-ready dictionary."""
        estimates = {name: getattr(self, name) for name in ("value", "difference")}
        return asdict(self) | {
            name: estimate and estimate.to_json() for name, estimate in estimates.items()
        }


def judge_behaviour(recording: Recording, fitted: FittedValues) -> BehaviourWorth:
    """Compare the fit of the recorded behaviour with what it earned."""
    returns = _recorded_values(recording, fitted)
    spread = float(recording.expected.std())
    errors = fitted.first[BEHAVIOUR].mean(axis=0) - returns
    chance = float(errors.std(ddof=1) / math.sqrt(len(errors))) if len(errors) > 1 else 0.0
    bias = float(errors.mean())
    error = math.copysign(max(abs(bias) - 2.0 * chance, 0.0), bias)
    members = fitted.first[BEHAVIOUR].mean(axis=1)
    doubts = _doubts(fitted, BEHAVIOUR, members - members.mean(), spread)
    if abs(error) > spread:
        doubts.append(
            f"its fit is {error:+.4g} from what was recorded, more than the recorded returns "
            f"differ among themselves"
        )
    return BehaviourWorth(
        value=_student(
            returns.mean(), returns.std(ddof=1) if len(returns) > 1 else math.inf, len(returns)
        ),
        fitted=float(fitted.first[BEHAVIOUR].mean()),
        error=error,
        spread=spread,
        tail=float(recording.tails[recording.firsts].mean()),
        doubts=tuple(doubts),
    )


def judge_policy(
    recording: Recording,
    fitted: FittedValues,
    policy: int,
    behaviour: BehaviourWorth,
    far_share: float,
) -> Worth:
    """Compare a policy with the recorded behaviour.

    The difference is taken member by member, so that what errors have in common cancels. Its
    standard error has three parts: the members' disagreement, the choice of the first states, and
    the error that the method makes on the behaviour.

    Args:
        recording: What was recorded.
        fitted: The values.
        policy: Its number among them.
        behaviour: What `judge_behaviour` made of the recording.
        far_share: `Support.far_share` of the policy.
    """
    differences = fitted.first[policy] - fitted.first[BEHAVIOUR]  # (m, E)
    members = differences.mean(axis=1)
    doubts = [
        *behaviour.doubts,
        *_doubts(fitted, policy, members - members.mean(), behaviour.spread),
    ]
    recorded = _recorded_values(recording, fitted)
    error = _standard_error(differences, behaviour)
    trace = (fitted.trace[:, policy] - fitted.trace[:, BEHAVIOUR]).mean(axis=-1)
    unknown = Worth(
        verdict="no verdict",
        probability=None,
        value=None,
        difference=None,
        members=tuple(members.tolist()),
        far_share=far_share,
        drift=_drift(fitted, policy),
        clipped=float(fitted.clipped[policy]),
        doubts=tuple(doubts),
        trace=tuple(trace.tolist()),
    )
    if doubts:
        return unknown
    mean, count = float(members.mean()), len(members)
    value = recorded + differences.mean(axis=0)  # (E,)
    own = float(value.var(ddof=1)) / len(value) if len(value) > 1 else math.inf
    return replace(
        unknown,
        verdict=_verdict(mean, error, count, far_share),
        probability=_probability(mean, error, count),
        value=_interval(float(value.mean()), math.sqrt(error**2 + own), count),
        difference=_interval(mean, error, count),
    )


def _recorded_values(recording: Recording, fitted: FittedValues) -> NDArray[np.float64]:
    """Return what each episode earned; a truncated one goes on as its behaviour's fit says."""
    firsts = recording.firsts
    tails: NDArray[np.float64] = recording.tails[firsts] * fitted.tails.mean(axis=0)
    return recording.returns[firsts] + tails


def _doubts(
    fitted: FittedValues, policy: int, deviations: NDArray[np.float64], spread: float
) -> list[str]:
    """Return why the fit of one policy cannot be believed."""
    who = "the recorded behaviour's fit" if policy == BEHAVIOUR else "the fit"
    doubts = []
    if not np.isfinite(fitted.first[policy]).all():
        return [f"{who} diverged: it is no number"]
    if fitted.clipped[policy] > MAX_CLIPPED:
        doubts.append(
            f"{who} diverged: {fitted.clipped[policy]:.0%} of its targets are beyond every "
            f"possible return"
        )
    drift = _drift(fitted, policy)
    if abs(drift) > MAX_DRIFT * spread:
        doubts.append(f"{who} has not converged: it still moved by {drift:+.4g} at the end")
    disagreement = float(deviations.std(ddof=1))
    if disagreement > spread:
        doubts.append(
            f"{who} contradicts itself: its members differ by {disagreement:.4g}, more than the "
            f"recorded returns do"
        )
    return doubts


def _drift(fitted: FittedValues, policy: int) -> float:
    """Return by how much the value moved from the second last to the last eighth of the fit."""
    trace = fitted.trace[:, policy].mean(axis=-1)
    eighth = max(len(trace) // 8, 1)
    return float(trace[-eighth:].mean() - trace[-2 * eighth : -eighth].mean())


def _standard_error(differences: NDArray[np.float64], behaviour: BehaviourWorth) -> float:
    count = differences.shape[1]
    if count < 2:
        return math.inf
    parts = (
        differences.mean(axis=1).std(ddof=1),
        differences.mean(axis=0).std(ddof=1) / math.sqrt(count),
        behaviour.error,
    )
    return math.sqrt(sum(float(part) ** 2 for part in parts))


def _verdict(mean: float, error: float, members: int, far_share: float) -> Verdict:
    probability = _probability(mean, error, members)
    if probability <= 1.0 - SURE:
        return "worse"
    if probability >= SURE and far_share <= MAX_FAR_SHARE:
        return "better"
    return "not distinguishable"


def _probability(mean: float, error: float, members: int) -> float:
    if error == 0.0:
        return 0.5 if mean == 0.0 else float(mean > 0.0)
    return float(stats.t.cdf(mean / error, members - 1))


def _quantile(members: int) -> float:
    return float(stats.t.ppf(0.5 + LEVEL / 2, members - 1))


def _interval(mean: float, error: float, members: int) -> Estimate:
    half_width = _quantile(members) * error
    return Estimate(mean, mean - half_width, mean + half_width)


def _student(mean: float, std: float, count: int) -> Estimate:
    if count < 2:
        return Estimate(float(mean), -math.inf, math.inf)
    return _interval(float(mean), float(std) / math.sqrt(count), count)
