"""How many candidates are sampled for an action and how one of them is chosen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from dql_core.errors import ConfigError

Selection = Literal["softmax", "greedy", "first"]


@dataclass(frozen=True)
class Choice:
    """A number of candidates and a rule.

    Attributes:
        num_candidates: Candidates K sampled for an action.
        selection: ``softmax`` draws one by its value, ``greedy`` takes the best, ``first`` the
            first; only the last needs no critic, and then others need not be sampled.
    """

    num_candidates: int
    selection: Selection


def resolve_choice(
    default: Choice,
    has_critic: bool,
    num_candidates: int | None = None,
    selection: Selection | None = None,
) -> Choice:
    """Combine a policy's defaults with a caller's wishes.

    Args:
        default: The policy's own.
        has_critic: Whether the policy can rank candidates.
        num_candidates: The caller's K, if any.
        selection: The caller's rule, if any.

    Raises:
        ConfigError: If the policy cannot choose in this way.
    """
    if selection is None:
        selection = default.selection if has_critic else "first"
    if selection not in get_args(Selection):
        raise ConfigError(f"selection is '{selection}': it must be softmax, greedy or first")
    if num_candidates is not None and num_candidates < 1:
        raise ConfigError(f"num_candidates is {num_candidates}: a policy samples at least 1")
    if not has_critic and selection != "first":
        raise ConfigError(
            f"selection '{selection}' needs a critic, which this policy does not have: use 'first'"
        )
    if selection == "first":
        if num_candidates is not None and num_candidates > 1:
            raise ConfigError(
                f"num_candidates is {num_candidates}, but selection 'first' looks at one only: "
                f"use 1{', softmax or greedy' if has_critic else ''}"
            )
        return Choice(1, selection)
    return Choice(num_candidates or default.num_candidates, selection)
