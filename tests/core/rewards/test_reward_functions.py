import dataclasses
import hashlib
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import hypothesis.extra.numpy as arrays
import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

import dql_core.rewards
from dql_core.errors import ContractError
from dql_core.rewards import (
    LoggedEpisode,
    action_cost,
    distance_to_goal,
    joint_limit_penalty,
    outcome,
    outside_bounds,
    success_bonus,
    within_distance,
)
from dql_core.rewards.call import (
    NamedFunction,
    RewardFunction,
    load_predicate,
    load_rewards,
    source_sha256,
)
from dql_core.spec import FieldSpec, PolicySpec

SPEC = PolicySpec(
    robot="cart",
    rate_hz=10.0,
    observation=(
        FieldSpec("x", "m", -5.0, 5.0),
        FieldSpec("y", "m", high=4.5),
        FieldSpec("goal_x", "m"),
        FieldSpec("goal_y", "m"),
    ),
    action=(FieldSpec("force", "N", -1.0, 1.0), FieldSpec("turn", "rad", -1.0, 1.0)),
)
OBSERVATIONS = np.array(
    [[0, 0, 3, 4], [3, 0, 3, 4], [3, 4, 3, 4], [3, 1, 3, 4], [3, 4, 3, 4]], dtype=np.float32
)
ACTIONS = np.array([[1, 0], [0.5, 1], [0, 0], [0, -2]], dtype=np.float32)
EPISODE = LoggedEpisode(OBSERVATIONS, ACTIONS, SPEC)
PLACE: dict[str, Any] = {"position": ["x", "y"], "goal": ["goal_x", "goal_y"]}
DISTANCE = RewardFunction(function="dql_core.rewards:distance_to_goal", arguments=PLACE)
MODULE = "my_rewards"
Write = Callable[[str], str]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Return a function that makes the module ``my_rewards`` of a text."""

    def _write(text: str) -> str:
        (tmp_path / f"{MODULE}.py").write_text(text)
        monkeypatch.syspath_prepend(tmp_path)
        monkeypatch.delitem(sys.modules, MODULE, raising=False)
        return f"{MODULE}:f"

    return _write


def rewards_of(function: str, weight: float = 1.0, **arguments: Any) -> list[float]:
    named = RewardFunction(function=function, arguments=arguments, weight=weight)
    values: list[float] = load_rewards([named])(EPISODE).tolist()
    return values


@pytest.mark.parametrize(("success", "earned"), [(True, 5.0), (False, -2.0), (None, 0.0)])
def test_an_outcome_is_earned_by_the_last_step(success: bool | None, earned: float) -> None:
    told = replace(EPISODE, success=success)
    assert outcome(told, success=5, failure=-2).tolist() == [0, 0, 0, earned]
    assert outcome(told).tolist() == [0, 0, 0, float(success is True)]


def test_fields_are_found_by_name() -> None:
    assert EPISODE.observation("y").tolist() == [0, 0, 4, 1, 4]
    assert EPISODE.action("turn").tolist() == [0, 1, 0, -2]
    assert EPISODE.observation_fields(["goal_y", "x"])[0].tolist() == [4, 0]
    assert len(EPISODE) == 4


def test_distance_counts_where_the_action_led_to() -> None:
    assert distance_to_goal(EPISODE, **PLACE).tolist() == [-4, 0, -3, 0]


def test_goal_may_be_a_fixed_place() -> None:
    assert distance_to_goal(EPISODE, position=["x", "y"], goal=[3, 4.0]).tolist() == [-4, 0, -3, 0]
    mixed = distance_to_goal(EPISODE, position=["x", "y"], goal=["goal_x", 0])
    assert mixed.tolist() == [0, -4, -1, -4]


POSITIONS = arrays.arrays(
    np.float64, (6, 4), elements=st.floats(-100, 100, allow_nan=False, width=32)
)


@settings(deadline=None, max_examples=50)
@given(POSITIONS, st.integers(-50, 50), st.integers(-50, 50))
def test_distance_does_not_change_when_robot_and_goal_move_alike(
    observations: np.ndarray[Any, np.dtype[np.float64]], dx: int, dy: int
) -> None:
    moved = observations + np.array([dx, dy, dx, dy])
    actions = np.zeros((5, 2), np.float32)
    here, there = (
        distance_to_goal(LoggedEpisode(values.astype("f4"), actions, SPEC), **PLACE)
        for values in (observations, moved)
    )
    np.testing.assert_allclose(here, there, atol=1e-4)
    assert (here <= 0).all()


def test_action_cost_is_the_weighted_sum_of_squares() -> None:
    assert action_cost(EPISODE).tolist() == [-1, -1.25, 0, -4]
    assert action_cost(EPISODE, fields=["turn"]).tolist() == [0, -1, 0, -4]
    assert action_cost(EPISODE, weights=[2, 0.5]).tolist() == [-2, -1, 0, -2]
    assert action_cost(EPISODE, fields=["turn", "force"], weights=[0.5, 2]).tolist() == (
        action_cost(EPISODE, weights=[2, 0.5]).tolist()
    )


def test_success_is_paid_once_or_at_each_step_in_the_radius() -> None:
    assert success_bonus(EPISODE, **PLACE, radius=0.5, bonus=10).tolist() == [0, 10, 0, 0]
    each = success_bonus(EPISODE, **PLACE, radius=0.5, bonus=10, once=False)
    assert each.tolist() == [0, 10, 0, 10]
    assert success_bonus(EPISODE, **PLACE, radius=0.5)[1] == 1


def test_what_no_action_reached_is_not_paid() -> None:
    there = dataclasses.replace(EPISODE, observations=np.roll(OBSERVATIONS, 1, axis=0))
    assert success_bonus(there, **PLACE, radius=0.5, bonus=10).tolist() == [0, 0, 10, 0]


def test_joint_costs_one_margin_at_its_limit_and_more_beyond() -> None:
    x = np.array([9, 0, 4, 4.5, 5, 5.5, -4, -5], dtype=np.float32)
    observations = np.tile(x[:, None], (1, 4))
    episode = LoggedEpisode(observations, np.zeros((7, 2), np.float32), SPEC)
    penalty = joint_limit_penalty(episode, fields=["x"], margin=1)
    assert penalty.tolist() == [0, 0, -0.5, -1, -1.5, 0, -1]
    both = joint_limit_penalty(episode, fields=["x", "goal_x"], margin=[1, 2], low=-5, high=[5, 6])
    assert both.tolist() == [0, 0, -0.75, -1.5, -2.25, -0.5, -2]


def test_predicates_tell_of_what_the_action_led_to() -> None:
    assert within_distance(EPISODE, **PLACE, radius=3).tolist() == [False, True, True, True]
    assert outside_bounds(EPISODE, fields=["x", "y"], high=[5, 3]).tolist() == [0, 1, 0, 1]
    assert outside_bounds(EPISODE, fields=["y"], low=0.5).tolist() == [1, 0, 0, 0]
    assert not outside_bounds(EPISODE, fields=["x", "y"]).any()


def test_nothing_is_outside_bounds_more_than_nan() -> None:
    observations = OBSERVATIONS.copy()
    observations[2, 0] = np.nan
    episode = dataclasses.replace(EPISODE, observations=observations)
    assert outside_bounds(episode, fields=["x"]).tolist() == [0, 1, 0, 0]


def test_several_functions_are_summed_with_their_weights() -> None:
    functions = [
        DISTANCE,
        RewardFunction(function="dql_core.rewards:action_cost", weight=0.5),
        RewardFunction(
            function="dql_core.rewards:success_bonus",
            arguments={**PLACE, "radius": 0.1},
            weight=-2,
        ),
    ]
    assert load_rewards(functions)(EPISODE).tolist() == [-4.5, -2.625, -3, -2]


@pytest.mark.parametrize("name", dql_core.rewards.__all__[1:])
def test_bundled_functions_have_a_short_name_and_neither_change_nor_keep_the_episode(
    name: str,
) -> None:
    arguments = {
        "distance_to_goal": PLACE,
        "success_bonus": {**PLACE, "radius": 1},
        "within_distance": {**PLACE, "radius": 1},
        "joint_limit_penalty": {"fields": ["x"], "margin": 0.5},
        "outside_bounds": {"fields": ["x"]},
    }.get(name, {})
    function = getattr(dql_core.rewards, name)
    before = OBSERVATIONS.tobytes(), ACTIONS.tobytes()
    values = function(EPISODE, **arguments)
    assert (OBSERVATIONS.tobytes(), ACTIONS.tobytes()) == before
    assert values.shape == (4,)
    assert values.dtype == (np.bool_ if name in {"outside_bounds", "within_distance"} else "f8")
    assert not np.shares_memory(values, OBSERVATIONS)
    assert not np.shares_memory(values, ACTIONS)
    # Steps do not depend on what comes after them.
    first = LoggedEpisode(OBSERVATIONS[:3], ACTIONS[:2], SPEC)
    assert function(first, **arguments).tolist() == values[:2].tolist()


@pytest.mark.parametrize(
    ("function", "arguments", "error"),
    [
        ("distance_to_goal", {"position": ["x"]}, "'position' names 1 fields and 'goal' 2"),
        (
            "distance_to_goal",
            {"position": ["x", "z"]},
            r"no observation field 'z' \(known: goal_x, goal_y, x, y\)",
        ),
        (
            "distance_to_goal",
            {"goal": ["gaol_x", "goal_y"]},
            r"no observation field 'gaol_x' \(did you mean 'goal_x'\?\)",
        ),
        ("distance_to_goal", {"goal": "goal_x"}, "'goal' is 'goal_x'; give a list"),
        ("distance_to_goal", {"goal": [1, None]}, "'goal' is None, not a number"),
        ("distance_to_goal", {"position": "xy"}, "'position' is 'xy'; give a list"),
        ("outcome", {"success": "1e1"}, "'success' is '1e1', not a number .*write 0.01"),
        ("outcome", {"failure": np.nan}, "'failure' is nan; it must be finite"),
        ("success_bonus", {"radius": "1e-2"}, "'radius' is '1e-2', not a number .*write 0.01"),
        ("success_bonus", {"radius": 0}, "'radius' is 0; it must be positive"),
        ("success_bonus", {"radius": 1, "bonus": np.inf}, "'bonus' is inf; it must be finite"),
        ("within_distance", {"radius": True}, "'radius' is True, not a number"),
        ("action_cost", {"fields": ["tun"]}, r"no action field 'tun' \(did you mean 'turn'\?\)"),
        ("action_cost", {"fields": []}, "'fields' is an empty list"),
        ("action_cost", {"weights": [1]}, r"'weights' has 1 numbers for 2 fields \(force, turn\)"),
        ("joint_limit_penalty", {"fields": ["y"], "margin": 1}, "'y' has no limits; give 'low'"),
        (
            "joint_limit_penalty",
            {"fields": ["x"], "margin": 6},
            "margin of 'x' is 6; .*at most half of its range from -5 to 5",
        ),
        (
            "joint_limit_penalty",
            {"fields": ["x"], "margin": 1, "low": 5},
            "limits of 'x' are 5 and 5; the lower one must be below",
        ),
        ("outside_bounds", {"fields": ["goal_x"]}, "'goal_x' has no limits"),
    ],
)
def test_wrong_arguments_are_told_with_function_and_value(
    function: str, arguments: dict[str, Any], error: str
) -> None:
    has_place = function not in {"action_cost", "outcome"} and "fields" not in arguments
    with_place = (PLACE | arguments) if has_place else arguments
    named = NamedFunction(function=f"dql_core.rewards:{function}", arguments=with_place)
    with pytest.raises(ContractError, match=rf"^end: dql_core.rewards:{function}: .*{error}"):
        load_predicate(named, "end")(EPISODE)


@pytest.mark.parametrize(
    ("function", "arguments", "error"),
    [
        ("dql_core.rewardz:f", {}, "cannot import 'dql_core.rewardz': .*set PYTHONPATH"),
        (
            "dql_core.rewards:distance_to_gaol",
            {},
            r"has no function 'distance_to_gaol' \(did you mean 'distance_to_goal'\?\)",
        ),
        ("dql_core.rewards.functions:np", {}, "has no function 'np'"),
        ("dql_core.rewards:distance_to_goal", {}, "missing a required .*argument: 'position'"),
        (
            "dql_core.rewards:distance_to_goal",
            {**PLACE, "goall": 1},
            r"takes no argument 'goall' \(did you mean 'goal'\?\)",
        ),
    ],
)
def test_function_that_cannot_be_called_is_refused_before_anything_is_read(
    function: str, arguments: dict[str, Any], error: str
) -> None:
    with pytest.raises(ContractError, match=rf"^reward: .*{error}"):
        load_rewards([RewardFunction(function=function, arguments=arguments)])


def test_module_in_the_working_folder_is_told_how_to_be_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine_alone.py").write_text("")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    with pytest.raises(ContractError, match=r"put PYTHONPATH=\. before the command"):
        load_rewards([RewardFunction(function="mine_alone:f")])


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ("len(episode.observations) * [0.0]", r"returned shape \(5,\), not \(4,\)"),
        ("[0.0, float('nan'), 1.0, 2.0]", "returned nan at step 1 of 4"),
        ("['a'] * 4", "returned values of type <U1, not numbers"),
        ("None", r"returned shape \(\), not \(4,\)"),
        ("[[0.0], [1.0, 2.0], 0, 0]", "raised ValueError: .*inhomogeneous"),
        ("episode.observation('z')", r": no observation field 'z' \(known"),
        ("{}['k']", r"raised KeyError: 'k' \(my_rewards.py line 2\)"),
        ("episode.actions.fill(0)", "raised ValueError: .*read-only"),
    ],
)
def test_what_a_function_does_and_returns_is_checked(write: Write, body: str, error: str) -> None:
    name = write(f"def f(episode):\n    return {body}\n")
    with pytest.raises(ContractError, match=f"^reward: my_rewards:f.*{error}"):
        rewards_of(name)


def test_predicate_must_return_flags(write: Write) -> None:
    name = write("def f(episode):\n    return episode.action('force')\n")
    with pytest.raises(ContractError, match=r"my_rewards:f returned .*float64, not bools"):
        load_predicate(NamedFunction(function=name))(EPISODE)
    name = write("def f(episode, *, least):\n    return episode.action('force') > least\n")
    predicate = load_predicate(NamedFunction(function=name, arguments={"least": 0.2}))
    assert predicate(EPISODE).tolist() == [True, True, False, False]


def test_function_may_use_how_the_episode_ended(write: Write) -> None:
    name = write(
        "import numpy as np\n"
        "def f(episode, **more):\n"
        "    last = np.arange(len(episode)) == len(episode) - 1\n"
        "    return last * episode.terminated * more['bonus']\n"
    )
    named = RewardFunction(function=name, arguments={"bonus": 7})
    ended = dataclasses.replace(EPISODE, terminated=True)
    assert load_rewards([named])(ended).tolist() == [0, 0, 0, 7]
    assert load_rewards([named])(EPISODE).tolist() == [0, 0, 0, 0]


def test_source_hash_is_of_the_functions_own_file(write: Write, tmp_path: Path) -> None:
    name = write("from dql_core.rewards import action_cost\ndef f(episode): ...\n")
    content = (tmp_path / f"{MODULE}.py").read_bytes()
    assert source_sha256(name) == hashlib.sha256(content).hexdigest()
    library = source_sha256("dql_core.rewards.functions:action_cost")
    assert source_sha256(f"{MODULE}:action_cost") == library
    assert source_sha256("math:hypot") == ""
