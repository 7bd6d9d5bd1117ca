import pytest

from dql_core.errors import ConfigError
from dql_core.runtime.policy import Choice, Selection, resolve_choice

DEFAULT = Choice(50, "softmax")


@pytest.mark.parametrize(
    ("num_candidates", "selection", "expected"),
    [
        (None, None, DEFAULT),
        (8, None, Choice(8, "softmax")),
        (None, "greedy", Choice(50, "greedy")),
        (8, "greedy", Choice(8, "greedy")),
        (8, "mode", Choice(8, "mode")),
        (None, "first", Choice(1, "first")),
        (1, "first", Choice(1, "first")),
    ],
)
def test_wishes_override_the_policys_own_choice(
    num_candidates: int | None, selection: Selection | None, expected: Choice
) -> None:
    assert resolve_choice(DEFAULT, True, num_candidates, selection) == expected


def test_policy_without_critic_takes_its_only_candidate() -> None:
    assert resolve_choice(DEFAULT, has_critic=False) == Choice(1, "first")


def test_candidates_agree_without_a_critic_too() -> None:
    own = Choice(20, "mode")
    assert resolve_choice(own, has_critic=False) == own
    assert resolve_choice(DEFAULT, False, 8, "mode") == Choice(8, "mode")


@pytest.mark.parametrize(
    ("has_critic", "num_candidates", "selection", "words"),
    [
        (True, 0, None, "num_candidates is 0: a policy samples at least 1"),
        (True, 9, "first", "num_candidates is 9, but .* use 1 or softmax or greedy or mode$"),
        (True, 4, "first", "num_candidates is 4, but .* use 1 or softmax or greedy$"),
        (False, 4, None, "num_candidates is 4, but .* looks at one only: use 1$"),
        (
            False,
            9,
            None,
            "num_candidates is 9, but selection 'first' looks at one only: use 1 or mode$",
        ),
        (True, 4, "mode", "num_candidates is 4, but selection 'mode' .* sample at least 5"),
        (False, None, "greedy", "selection 'greedy' needs a critic, .* use 'first' or 'mode'"),
        (True, None, "best", "selection is 'best': it must be softmax, greedy, mode or first"),
    ],
)
def test_impossible_choice_is_refused(
    has_critic: bool, num_candidates: int | None, selection: Selection | None, words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        resolve_choice(DEFAULT, has_critic, num_candidates, selection)
