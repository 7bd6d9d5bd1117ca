"""Calls the functions that a yaml file names, and checks what they return."""

from __future__ import annotations

import dataclasses
import inspect
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from dql_core.errors import ContractError, DqlError
from dql_core.rewards.episode import LoggedEpisode
from dql_core.rewards.lookup import find_function, require_arguments

Rewards = Callable[[LoggedEpisode], NDArray[np.float64]]
Predicate = Callable[[LoggedEpisode], NDArray[np.bool_]]

# What somebody else's function may raise by a mistake in it.
MISTAKES = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    NameError,
    RuntimeError,
    TypeError,
    ValueError,
)


class Named(Protocol):
    """A function's name, ``module:function``, and its keyword arguments."""

    @property
    def function(self) -> str: ...  # noqa: D102  # the class says it

    @property
    def arguments(self) -> Mapping[str, Any]: ...  # noqa: D102


class Weighted(Named, Protocol):
    """A named function with its factor in a sum."""

    @property
    def weight(self) -> float: ...  # noqa: D102


def load_rewards(functions: Sequence[Weighted], what: str = "reward") -> Rewards:
    """Import reward functions; what comes back computes their weighted sum, shape (T,).

    Args:
        functions: At least one.
        what: The key that names them, for messages.

    Raises:
        ContractError: If a function does not exist or does not take its arguments. What comes
            back raises it if a function fails or returns anything but T finite numbers.
    """
    terms = [(named.weight, _load(named, what)) for named in functions]

    def rewards(episode: LoggedEpisode) -> NDArray[np.float64]:
        total = np.zeros(len(episode))
        for weight, function in terms:
            total += weight * _finite(function, function(episode))
        return total

    return rewards


def load_predicate(named: Named, what: str = "episode.terminated") -> Predicate:
    """Import a predicate; what comes back tells of each step, shape (T,), whether it holds.

    Args:
        named: The predicate.
        what: The key that names it, for messages.

    Raises:
        ContractError: If the function does not exist or does not take its arguments. What comes
            back raises it if the function fails or returns anything but T bools.
    """
    function = _load(named, what)

    def predicate(episode: LoggedEpisode) -> NDArray[np.bool_]:
        flags = function(episode)
        if flags.dtype != np.bool_:
            raise ContractError(
                f"{function.where} returned numbers of type {flags.dtype}, not bools; compare "
                f"them, as in x > 0.5"
            )
        return flags

    return predicate


@dataclasses.dataclass(frozen=True)
class _Function:
    """An imported function with its arguments; ``where`` begins each message."""

    where: str
    function: Callable[..., Any]
    arguments: Mapping[str, Any]

    def __call__(self, episode: LoggedEpisode) -> NDArray[Any]:
        """Return one value for each transition, shape (T,)."""
        seen = dataclasses.replace(
            episode,
            observations=_read_only(episode.observations),
            actions=_read_only(episode.actions),
        )
        try:
            values = np.asarray(self.function(seen, **self.arguments))
        except DqlError as cause:
            raise ContractError(f"{self.where}: {cause}") from cause
        except MISTAKES as cause:
            raise ContractError(
                f"{self.where} raised {type(cause).__name__}: {cause}{self._line(cause)}"
            ) from cause
        if values.shape != (len(episode),):
            raise ContractError(
                f"{self.where} returned shape {values.shape}, not ({len(episode)},): one value "
                f"for each transition"
            )
        return values

    def _line(self, cause: Exception) -> str:
        """Tell the last line of the function's file that was on the way to an exception."""
        file = self.function.__code__.co_filename if inspect.isfunction(self.function) else None
        frames = traceback.extract_tb(cause.__traceback__)
        lines = [frame.lineno for frame in frames if frame.filename == file]
        return f" ({Path(str(file)).name} line {lines[-1]})" if lines else ""


def _load(named: Named, what: str) -> _Function:
    function = find_function(named.function, what)
    where = f"{what}: {named.function}"
    require_arguments(function, named.arguments, where)
    return _Function(where, function, dict(named.arguments))


def _read_only(values: NDArray[np.float32]) -> NDArray[np.float32]:
    view = values.view()
    view.flags.writeable = False
    return view


def _finite(function: _Function, values: NDArray[Any]) -> NDArray[np.float64]:
    if values.dtype.kind not in "biuf":
        raise ContractError(
            f"{function.where} returned values of type {values.dtype}, not numbers"
        )
    rewards = values.astype(np.float64)
    wrong = np.flatnonzero(~np.isfinite(rewards))
    if len(wrong):
        step = int(wrong[0])
        raise ContractError(
            f"{function.where} returned {rewards[step]} at step {step} of {len(rewards)}; a "
            f"reward is a finite number"
        )
    return rewards
