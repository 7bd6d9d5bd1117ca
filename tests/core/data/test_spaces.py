import subprocess
import sys

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, Space, Tuple
from gymnasium.spaces.utils import flatten as gymnasium_flatten

from dql_core.data.spaces import flatten, spec_from_spaces, unflatten_action
from dql_core.errors import DatasetError

ACTION = Box(-1.0, 1.0, (2,), dtype=np.float32)
NESTED = Dict(
    {
        "observation": Box(-np.inf, np.inf, (2, 2)),
        "achieved_goal": Box(-1.0, 1.0, (2,), dtype=np.float64),
        "more": Tuple((Box(0.0, 2.0, ()), Dict(z=Box(-3.0, 3.0, (1,))))),
    }
)


def test_fields_are_named_in_the_order_of_the_vector() -> None:
    spec = spec_from_spaces(NESTED, ACTION, "hand", "here")
    assert [field.name for field in spec.observation] == [
        "observation.achieved_goal[0]",
        "observation.achieved_goal[1]",
        "observation.more.0",
        "observation.more.1.z[0]",
        "observation.observation[0,0]",
        "observation.observation[0,1]",
        "observation.observation[1,0]",
        "observation.observation[1,1]",
    ]
    assert (spec.observation[2].low, spec.observation[2].high) == (0.0, 2.0)
    assert [field.name for field in spec.action] == ["action[0]", "action[1]"]


@pytest.mark.parametrize("space", [NESTED, Box(-1.0, 1.0, (3,)), Tuple((ACTION, ACTION))])
def test_a_value_is_laid_out_as_gymnasium_does(space: Space[object]) -> None:
    space.seed(0)
    value = space.sample()
    expected = np.asarray(gymnasium_flatten(space, value), dtype=np.float32)
    np.testing.assert_array_equal(flatten(space, value), expected)


def test_many_values_are_laid_out_at_once() -> None:
    value = {
        "observation": np.arange(12.0).reshape(3, 2, 2),
        "achieved_goal": np.arange(6.0).reshape(3, 2),
        "more": (np.array([7.0, 8.0, 9.0]), {"z": np.zeros((3, 1))}),
    }
    vectors = flatten(NESTED, value, batch_dims=1)
    assert vectors.dtype == np.float32
    assert vectors.tolist()[1] == [2, 3, 8, 0, 4, 5, 6, 7]


def test_a_vector_environments_observation_is_laid_out_by_environment() -> None:
    space = gym.vector.utils.batch_space(NESTED, 4)
    space.seed(0)
    batch = space.sample()
    vectors = flatten(NESTED, batch, batch_dims=1)
    assert vectors.shape == (4, 8)
    np.testing.assert_array_equal(vectors[:, :2], batch["achieved_goal"].astype(np.float32))


def test_an_action_gets_the_shape_and_type_of_its_space() -> None:
    space = Box(-1.0, 1.0, (2, 2), dtype=np.float64)
    names = [field.name for field in spec_from_spaces(ACTION, space, "hand", "here").action]
    assert names == ["action[0,0]", "action[0,1]", "action[1,0]", "action[1,1]"]
    actions = unflatten_action(space, np.arange(12, dtype=np.float32).reshape(3, 4))
    assert actions.dtype == np.float64
    assert actions[1].tolist() == [[4, 5], [6, 7]]


@pytest.mark.parametrize(
    ("space", "words"),
    [
        (Discrete(3), r"the action space is Discrete\(3\); a Box is needed"),
        (Tuple((ACTION,)), r"the action space is Tuple\(.*; a Box is needed"),
        (
            Box(0, 9, (2,), dtype=np.int64),
            r"'action' is Box\(0, 9, \(2,\), int64\); Boxes of floa",
        ),
        (Box(-np.inf, np.inf, (2,)), "is unbounded or empty"),
        (Box(-3e38, 3e38, (2,), dtype=np.float32), "is unbounded or empty"),
        (Box(1.0, 1.0, (2,)), "is unbounded or empty"),
    ],
)
def test_action_spaces_that_cannot_be_learned_are_refused(
    space: Space[object], words: str
) -> None:
    with pytest.raises(DatasetError, match=f"here: .*{words}") as caught:
        spec_from_spaces(ACTION, space, "robot", "here")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("space", "words"),
    [
        (Discrete(3), r"'observation' is Discrete\(3\)"),
        (Dict(a=ACTION, b=MultiBinary(2)), r"'observation.b' is MultiBinary\(2\)"),
        (Dict(image=Box(0, 255, (64, 64, 3), np.uint8)), r"'observation.image' is Box\(0, 255"),
    ],
)
def test_observation_spaces_that_cannot_be_learned_are_refused_by_name(
    space: Space[object], words: str
) -> None:
    with pytest.raises(DatasetError, match=f"here: the space of {words}.*; Boxes of floats"):
        spec_from_spaces(space, ACTION, "robot", "here")


def test_bundled_environments_are_known_to_whoever_makes_one() -> None:
    code = (
        "from dql_core.data.spaces import make_env; make_env('dql_core/ScaraReach-v0', '').close()"
    )
    assert subprocess.call([sys.executable, "-c", code]) == 0
