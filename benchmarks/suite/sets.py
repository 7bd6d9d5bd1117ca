"""The suite's data sets: of what environment they are, who recorded them, and how returns score.

Scores of the locomotion sets are normalised with D4RL's reference returns: 0 is its random policy
and 100 its expert. The data is ours, so these are no D4RL scores.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from dql_core.errors import ConfigError, did_you_mean

DATA = Path("runs/suite/data")


@dataclass(frozen=True)
class Reference:
    """The returns that score 0 and 100."""

    low: float
    high: float

    def scores(self, returns: Sequence[float]) -> NDArray[np.float64]:
        """Return the score of each return."""
        return 100.0 * (np.asarray(returns, dtype=np.float64) - self.low) / (self.high - self.low)


@dataclass(frozen=True)
class Share:
    """A part of a locomotion set.

    Attributes:
        algorithm: Which trained actor of the task recorded it.
        weight: How much of the set it is, relative to the other shares.
        action: A ``sample`` of the actor's distribution, or its ``mean``.
    """

    algorithm: str
    weight: float = 1.0
    action: Literal["sample", "mean"] = "sample"


@dataclass(frozen=True)
class TaskSet:
    """A data set of the suite.

    Attributes:
        name: Of its files.
        env_id: What it was recorded in and what policies are evaluated in.
        reference: The returns that score 0 and 100.
        gradient_clip: The paper's for the D4RL set of the same kind; for PushT its code's usual.
        shares: Which actors recorded it, worst first; none where people did.
    """

    name: str
    env_id: str
    reference: Reference
    gradient_clip: float
    shares: tuple[Share, ...] = ()

    @property
    def task(self) -> str:
        """The first part of the name, which is also the actors'."""
        return self.name.split("-")[0]


# REF_MIN_SCORE and REF_MAX_SCORE of D4RL's module infos; its environments are Gymnasium's -v4.
HOPPER = ("Hopper-v4", Reference(-20.272305, 3234.3))
HALFCHEETAH = ("HalfCheetah-v4", Reference(-280.178953, 12135.0))
WALKER2D = ("Walker2d-v4", Reference(1.629008, 4592.3))
# Of the reward `coverage / 0.95 - 1` over at most 300 steps: see pusht_env.py.
PUSHT = ("benchmarks.suite.pusht_env:suite/PushT-v0", Reference(-300.0, 0.0))


def _every(*algorithms: str) -> tuple[Share, ...]:
    return tuple(map(Share, algorithms))


SETS = {
    each.name: each
    for each in (
        TaskSet("hopper-medium-expert", *HOPPER, 5.0, _every("sac", "tqc")),
        TaskSet("hopper-mixed", *HOPPER, 4.0, _every("a2c", "sac", "ppo", "trpo", "tqc")),
        TaskSet("halfcheetah-medium-expert", *HALFCHEETAH, 7.0, _every("ppo", "tqc")),
        TaskSet(
            "halfcheetah-mixed", *HALFCHEETAH, 2.0, _every("trpo", "a2c", "ppo", "sac", "tqc")
        ),
        # A sample of this TQC's distribution walks no better than TRPO; its mean does.
        TaskSet(
            "walker2d-medium-expert",
            *WALKER2D,
            5.0,
            (Share("a2c"), Share("trpo"), Share("tqc", 2.0, "mean")),
        ),
        TaskSet("walker2d-mixed", *WALKER2D, 4.0, _every("a2c", "tqc", "trpo", "sac")),
        TaskSet("pusht-human", *PUSHT, 5.0),
    )
}


def find_set(name: str) -> TaskSet:
    """Return a set by its name, which may end in a number of episodes, as in hopper-mixed-10.

    Raises:
        ConfigError: If there is none.
    """
    base = re.sub(r"-\d+$", "", name)
    if base not in SETS:
        raise ConfigError(f"--set {name}: no such set{did_you_mean(base, list(SETS))}")
    return SETS[base]
