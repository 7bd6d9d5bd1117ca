"""Which episodes are meant by number, outcome, return, length and intervention."""

from typing import Any

import numpy as np
import pytest

from dql_core.data.curation.rules import (
    EpisodeFacts,
    Rules,
    is_named,
    numbers_text,
    of_each_step,
    parse_numbers,
)
from dql_core.data.episode_reader import StoredEpisode
from dql_core.errors import ConfigError, DatasetError
from dql_core.spec import LoggedEpisode
from tests.core.conftest import TINY_SPEC

LENGTH = 4


def stored(**infos: Any) -> StoredEpisode:
    logged = LoggedEpisode(np.zeros((LENGTH + 1, 3), "f4"), np.zeros((LENGTH, 2), "f4"), TINY_SPEC)
    arrays = {name: np.asarray(values) for name, values in infos.items()}
    return StoredEpisode(0, logged, np.array([1.0, 2.0, 3.0, 0.5]), None, arrays)


def facts(number: int, **changes: Any) -> EpisodeFacts:
    known: dict[str, Any] = {"length": 10 * number, "earned": float(number), "terminated": False}
    return EpisodeFacts(number, **({**known, "success": None, "intervention": None} | changes))


EPISODES = [
    facts(0, success=True, terminated=True),
    facts(1, success=False, intervention=0.0),
    facts(2, success=True, intervention=0.5),
    facts(3, earned=float("nan"), intervention=1.0),
]


@pytest.mark.parametrize(
    ("rules", "meant"),
    [
        (Rules(), [0, 1, 2, 3]),
        (Rules("3,0-1"), [0, 1, 3]),
        (Rules(outcome="success"), [0, 2]),
        (Rules(outcome="failure"), [1]),
        (Rules(outcome="unlabelled"), [3]),
        (Rules(outcome="terminated"), [0]),
        (Rules(outcome="truncated"), [1, 2, 3]),
        (Rules(min_return=1.0), [1, 2]),
        (Rules(max_return=1.0), [0, 1]),
        (Rules(min_length=10, max_length=20), [1, 2]),
        (Rules(min_intervention=0.5), [2, 3]),
        (Rules(max_intervention=0.0), [1]),
        (Rules("1-3", outcome="success", min_return=0.0), [2]),
    ],
)
def test_all_rules_that_are_given_must_hold(rules: Rules, meant: list[int]) -> None:
    assert rules.choose(EPISODES, "data/arm") == meant


@pytest.mark.parametrize(
    ("success", "expected"),
    [
        (True, True),
        ([0], False),
        ([0, 0, 0, 1], True),
        ([1, 0, 0, 0, 0], False),
        (np.nan, None),
        ([np.nan, 1.0, 0.0, np.nan], None),
        (np.zeros(0), None),
    ],
)
def test_the_last_value_of_success_is_the_outcome(success: Any, expected: bool | None) -> None:
    assert EpisodeFacts.of(stored(success=success)).success is expected


@pytest.mark.parametrize(
    ("intervention", "expected"),
    [([1, 0, 0, 0], 0.25), ([1, 1, 0, 0, 0], 0.25), (True, 1.0), ([0], 0.0)],
)
def test_intervention_is_a_share_of_the_steps(intervention: Any, expected: float) -> None:
    """Of one row for each observation, the first belongs to the reset."""
    assert EpisodeFacts.of(stored(intervention=intervention)).intervention == expected
    assert of_each_step(np.asarray(intervention), LENGTH).shape == (LENGTH,)


def test_what_is_not_recorded_is_not_known() -> None:
    found = EpisodeFacts.of(stored())
    assert (found.success, found.intervention) == (None, None)
    assert (found.length, found.earned) == (4, 6.5)


@pytest.mark.parametrize("outcome", ["success", "failure", "unlabelled"])
def test_an_outcome_that_nobody_labelled_is_refused(outcome: Any) -> None:
    episodes = [facts(0), facts(1)]
    with pytest.raises(DatasetError, match=f"no episode has the info 'success'.*{outcome}"):
        Rules(outcome=outcome).choose(episodes, "data/arm")
    with pytest.raises(DatasetError, match=r"no episode has the info 'intervention'.*--max-inter"):
        Rules(max_intervention=0.5).choose(episodes, "data/arm")


def test_an_episode_that_does_not_exist_is_refused() -> None:
    with pytest.raises(DatasetError, match=r"data/arm: has no episode 4, since there are 4, .* 3"):
        Rules("2-900000000").choose(EPISODES, "data/arm")


@pytest.mark.parametrize("text", ["", "a", "1-", "3-1", "1,,2", "-1", "1.5", "9" * 30])
def test_numbers_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="such as 0-4,7"):
        Rules(text)


def limited(**limits: Any) -> Rules:
    return Rules(**limits)


@pytest.mark.parametrize("what", ["return", "length", "intervention"])
def test_limits_that_no_episode_meets_are_refused(what: str) -> None:
    with pytest.raises(ConfigError, match=f"--min-{what} 1 is above --max-{what} 0"):
        limited(**{f"min_{what}": 1, f"max_{what}": 0})
    with pytest.raises(ConfigError, match=f"--min-{what} is nan"):
        limited(**{f"min_{what}": float("nan")})


def test_numbers_are_written_as_they_are_read() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        numbers = set(rng.integers(0, 40, rng.integers(1, 30)).tolist())
        ranges = parse_numbers(numbers_text(numbers))
        assert {number for number in range(100) if is_named(number, ranges)} == numbers
    assert numbers_text([7, 2, 1, 0]) == "0-2,7"
