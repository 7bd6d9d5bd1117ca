"""A policy for those who run it: its decisions, the choice among candidates, and its noise.

All random numbers of a decision are drawn outside the policy's graph, which is a pure function.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol, get_args

import numpy as np
from numpy.typing import NDArray

from dql_core.errors import ConfigError
from dql_core.spec import PolicySpec

Selection = Literal["softmax", "greedy", "mode", "first"]
# Candidates that ``mode`` needs: one in so many is within its kernel.
FEWEST_TO_AGREE = 5
# Actions of a chunk, far beyond what is of use.
MAX_HORIZON = 1_000
# Below this spread of their values all candidates count as equally good.
MIN_SPREAD = 1e-6
_SMALLEST, _LARGEST = np.finfo(np.float64).tiny, 1.0 - np.finfo(np.float64).epsneg


def default_execute(horizon: int) -> int:
    """Return how many actions of a chunk of H are played before the next is decided: a quarter.

    The sooner it is asked for, the newer is what it is decided from, and the more of the present
    chunk is left for it to go on from; a slow decision lengthens what is played by itself.
    """
    return math.ceil(horizon / 4)


@dataclass(frozen=True)
class Decision:
    """One sampled action, or a chunk of several, and what it was chosen from.

    Attributes:
        action: The chosen action in the units of the spec and within its bounds, shape (A,); one
            of the candidates, or by ``mode`` what is between them. Of a chunk its first.
        q_values: The critic's value of each candidate, shape (K,); zeros without a critic.
        candidates: All sampled actions, shape (K, A), or chunks of them, (K, H, A).
        later: The actions that follow the first in its chunk, shape (H - 1, A); None if the
            policy samples one at a time.
    """

    action: NDArray[np.float32]
    q_values: NDArray[np.float32]
    candidates: NDArray[np.float32]
    later: NDArray[np.float32] | None = None

    @classmethod
    def of_chunk(
        cls,
        chunk: NDArray[np.float32],
        q_values: NDArray[np.float32],
        candidates: NDArray[np.float32],
    ) -> Decision:
        """Return the decision for a chunk, shape (H, A), or for one for each of V observations."""
        return cls(chunk[..., 0, :], q_values, candidates, chunk[..., 1:, :])

    @property
    def first_actions(self) -> NDArray[np.float32]:
        """Of each candidate the action that would come first, shape (K, A)."""
        return self.candidates if self.later is None else self.candidates[..., 0, :]

    @property
    def chunk(self) -> NDArray[np.float32]:
        """All chosen actions, the first one first, shape (H, A)."""
        first = self.action[..., None, :]
        return first if self.later is None else np.concatenate([first, self.later], axis=-2)


class Committed(NamedTuple):
    """What the next chunk is to go on from: actions that are due whatever is decided now.

    Attributes:
        actions: What the robot will be sent in the chunk's steps, in the units of the spec, shape
            (H, A); what is not known of it may be any finite number, where its weight is 0.
        weights: How firmly each step is held, from 0, free, to 1, fixed; shape (H,).
    """

    actions: NDArray[np.float32]
    weights: NDArray[np.float32]

    @classmethod
    def nothing(cls, horizon: int, action_size: int) -> Committed:
        """Return what leaves all of a chunk free."""
        return cls(np.zeros((horizon, action_size), np.float32), np.zeros(horizon, np.float32))


class Graph(Protocol):
    """The whole choice of an action as a pure function, whatever computes it."""

    def __call__(
        self,
        observation: NDArray[np.float32],
        noise: Noise,
        committed: Committed | None = None,
    ) -> Decision:
        """Choose an action, or a chunk of them, for a raw observation, shape (O,).

        Args:
            observation: Shape (O,).
            noise: Of the decision.
            committed: What a chunk goes on from; None if it is free, as an action by itself is.
        """


class Policy(Protocol):
    """Samples an action for an observation, or a chunk of several."""

    @property
    def spec(self) -> PolicySpec:
        """What observation and action mean."""

    @property
    def horizon(self) -> int:
        """Actions of a decision, H: 1, or more if it samples chunks."""

    def reset(self) -> None:
        """Begin a new episode."""

    def act(
        self,
        observation: NDArray[np.float32],
        rng: np.random.Generator,
        committed: Committed | None = None,
    ) -> Decision:
        """Sample an action for a raw observation, shape (O,).

        All randomness comes from ``rng``: equal generators give equal decisions.

        Args:
            observation: Shape (O,).
            rng: Source of all randomness.
            committed: What a chunk is to go on from; for policies of one action there is none.
        """


@dataclass(frozen=True)
class Choice:
    """A number of candidates and a rule.

    Attributes:
        num_candidates: Candidates K sampled for an action.
        selection: ``softmax`` draws one by its value, ``greedy`` takes the best, ``mode`` what
            most of them agree on, the better ones the more (`dql_core.runtime.mode`), ``first``
            the first; the last two need no critic, and the last no other candidates.
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

    Of a policy that takes the mode, fewer candidates than can agree are drawn from by value.

    Args:
        default: The policy's own.
        has_critic: Whether the policy can rank candidates.
        num_candidates: The caller's K, if any.
        selection: The caller's rule, if any.

    Raises:
        ConfigError: If the policy cannot choose in this way.
    """
    if selection is None:
        selection, count = default.selection, num_candidates or default.num_candidates
        if selection == "mode" and count < FEWEST_TO_AGREE and (has_critic or count == 1):
            selection = "softmax"
        if not has_critic and selection != "mode":
            selection = "first"
    if selection not in get_args(Selection):
        raise ConfigError(f"selection is '{selection}': it must be softmax, greedy, mode or first")
    if num_candidates is not None and num_candidates < 1:
        raise ConfigError(f"num_candidates is {num_candidates}: a policy samples at least 1")
    if not has_critic and selection not in ("first", "mode"):
        raise ConfigError(
            f"selection '{selection}' needs a critic, which this policy does not have: use "
            f"'first' or 'mode'"
        )
    if selection == "first":
        if num_candidates is not None and num_candidates > 1:
            others = ["softmax", "greedy"] * has_critic
            others += ["mode"] * (num_candidates >= FEWEST_TO_AGREE)
            raise ConfigError(
                f"num_candidates is {num_candidates}, but selection 'first' looks at one only: "
                f"use {' or '.join(['1', *others])}"
            )
        return Choice(1, selection)
    choice = Choice(num_candidates or default.num_candidates, selection)
    if selection == "mode" and choice.num_candidates < FEWEST_TO_AGREE:
        raise ConfigError(
            f"num_candidates is {choice.num_candidates}, but selection 'mode' is what many agree "
            f"on: sample at least {FEWEST_TO_AGREE}, or 20 to have little noise"
        )
    return choice


class Noise(NamedTuple):
    """Inputs of the graph that make it a pure function.

    Attributes:
        steps: Standard normal; ``steps[0]`` starts the reverse chain, ``steps[i]`` is added in
            its i-th later step; shape (Z, K, A).
        selection: Gumbel noise on the candidates' scores, so that their argmax is a draw from
            the softmax; zeros where the best is wanted; shape (K,).
    """

    steps: NDArray[np.float32]
    selection: NDArray[np.float32]


def draw_noise(
    rng: np.random.Generator, shape: tuple[int, int, int], selection: Selection
) -> Noise:
    """Draw the noise of one decision.

    Args:
        rng: Source of all randomness.
        shape: Draws for each action dimension, candidates, action width: (Z, K, A).
        selection: How a candidate is chosen. A single one needs no draw.
    """
    steps = rng.standard_normal(shape, dtype=np.float32)
    if draws_selection(shape[1], selection):
        return Noise(steps, rng.gumbel(size=shape[1]).astype(np.float32))
    return Noise(steps, np.zeros(shape[1], dtype=np.float32))


def draws_selection(num_candidates: int, selection: Selection) -> bool:
    """Whether the choice of a candidate is random."""
    return selection == "softmax" and num_candidates > 1


class WarmStartNoise:
    r"""Noise that starts each reverse chain near where the one before started.

    All normal draws follow :math:`z_t = \rho z_{t-1} + \sqrt{1 - \rho^2} \epsilon_t`, a stationary
    autoregression: each decision alone is distributed as without it, but consecutive ones keep to
    the same mode of the policy. The selection's Gumbel draws are made of such normal ones by their
    distribution function.

    Args:
        correlation: :math:`\rho` of consecutive decisions, from 0 to 1.

    Raises:
        ConfigError: If it is not such a number.
    """

    def __init__(self, correlation: float) -> None:
        if not 0.0 <= correlation <= 1.0:
            raise ConfigError(f"warm_start is {correlation}: it must be from 0 to 1")
        self._correlation = correlation
        self._last: NDArray[np.float32] | None = None

    def reset(self) -> None:
        """Forget the decision before, as at the beginning of an episode."""
        self._last = None

    def draw(
        self, rng: np.random.Generator, shape: tuple[int, int, int], selection: Selection
    ) -> Noise:
        """As `dql_core.runtime.policy.draw_noise`."""
        draws, candidates, width = shape
        normal = rng.standard_normal(draws * candidates * width + candidates, dtype=np.float32)
        if self._last is not None:
            normal *= np.float32(math.sqrt(1.0 - self._correlation**2))
            normal += np.float32(self._correlation) * self._last
        self._last = normal
        steps, scores = normal[:-candidates].reshape(shape), normal[-candidates:]
        if draws_selection(candidates, selection):
            return Noise(steps, gumbel(scores))
        return Noise(steps, np.zeros(candidates, dtype=np.float32))


def gumbel(normal: NDArray[np.float32]) -> NDArray[np.float32]:
    """Make standard Gumbel draws, shape (K,), of standard normal ones; they rise with them."""
    below = [0.5 * math.erfc(-value / math.sqrt(2.0)) for value in normal.tolist()]
    # By rounding the distribution function may reach its ends, whose draws are infinite.
    inside = np.clip(below, _SMALLEST, _LARGEST)
    drawn: NDArray[np.float32] = (-np.log(-np.log(inside))).astype(np.float32)
    return drawn
