"""The functions that a yaml file names as ``module:function``: found, called, and checked."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib
import importlib.util
import inspect
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from dql_core.errors import ContractError, DqlError, did_you_mean
from dql_core.spec import LoggedEpisode
from dql_core.strict_yaml import StrictModel, written_like

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


class NamedFunction(StrictModel):
    """A Python function that is called with one episode.

    Attributes:
        function: ``module:function``.
        arguments: Keyword arguments for it.
    """

    function: Annotated[str, written_like(r"[\w.]+:\w+", "must be like module:function")]
    arguments: dict[str, Any] = Field(default_factory=dict)


class RewardFunction(NamedFunction):
    """A function that returns rewards, shape (T,).

    Attributes:
        weight: Factor of its rewards in the sum of several.
    """

    weight: float = Field(default=1.0, allow_inf_nan=False)


def load_rewards(functions: Sequence[RewardFunction], what: str = "reward") -> Rewards:
    """Import reward functions; the result computes their weighted sum, shape (T,).

    Args:
        functions: At least one.
        what: The key that names them, for messages.

    Raises:
        ContractError: If a function does not exist or does not take its arguments. The result
            raises it if a function fails or returns anything but T finite numbers.
    """
    terms = [(named.weight, _load(named, what)) for named in functions]

    def rewards(episode: LoggedEpisode) -> NDArray[np.float64]:
        total = np.zeros(len(episode))
        for weight, function in terms:
            total += weight * function.finite(episode)
        return total

    return rewards


def load_predicate(named: NamedFunction, what: str = "episode.terminated") -> Predicate:
    """Import a predicate; the result returns for each step whether it holds, shape (T,).

    Args:
        named: The predicate.
        what: The key that names it, for messages.

    Raises:
        ContractError: If the function does not exist or does not take its arguments. The result
            raises it if the function fails or returns anything but T bools.
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
        observations, actions = episode.observations.view(), episode.actions.view()
        observations.flags.writeable = actions.flags.writeable = False
        seen = dataclasses.replace(episode, observations=observations, actions=actions)
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

    def finite(self, episode: LoggedEpisode) -> NDArray[np.float64]:
        """Return one finite number for each transition, shape (T,)."""
        values = self(episode)
        if values.dtype.kind not in "biuf":
            raise ContractError(
                f"{self.where} returned values of type {values.dtype}, not numbers"
            )
        rewards = values.astype(np.float64)
        wrong = np.flatnonzero(~np.isfinite(rewards))
        if len(wrong):
            step = int(wrong[0])
            raise ContractError(
                f"{self.where} returned {rewards[step]} at step {step} of {len(rewards)}; a "
                f"reward is a finite number"
            )
        return rewards

    def _line(self, cause: Exception) -> str:
        """Name the last line of the function's file that was on the way to an exception."""
        file = self.function.__code__.co_filename if inspect.isfunction(self.function) else None
        frames = traceback.extract_tb(cause.__traceback__)
        lines = [frame.lineno for frame in frames if frame.filename == file]
        return f" ({Path(str(file)).name} line {lines[-1]})" if lines else ""


def _load(named: NamedFunction, what: str) -> _Function:
    function = _find(named.function, what)
    where = f"{what}: {named.function}"
    _require_arguments(function, named.arguments, where)
    return _Function(where, function, dict(named.arguments))


def _find(name: str, what: str) -> Callable[..., Any]:
    """Import the function ``module:function``, which the key ``what`` names."""
    module_name, _, function_name = name.partition(":")
    try:
        module = importlib.import_module(module_name)
    except (ImportError, SyntaxError) as cause:
        raise ContractError(
            f"{what}: cannot import '{module_name}': {cause}; {_remedy(module_name)}"
        ) from cause
    function = getattr(module, function_name, None)
    if not callable(function):
        functions = [key for key, value in vars(module).items() if inspect.isfunction(value)]
        raise ContractError(
            f"{what}: '{module_name}' has no function '{function_name}'"
            f"{did_you_mean(function_name, functions)}"
        )
    found: Callable[..., Any] = function
    return found


def _require_arguments(
    function: Callable[..., Any], arguments: Mapping[str, Any], where: str
) -> None:
    """Check that a function can be called as ``function(episode, **arguments)``."""
    try:
        signature = inspect.signature(function)
    except ValueError:  # a compiled function, which does not say what it takes
        return
    kinds = {parameter.kind for parameter in signature.parameters.values()}
    if inspect.Parameter.VAR_KEYWORD not in kinds:
        known = list(signature.parameters)[1:]
        for key in arguments:
            if key not in known:
                raise ContractError(f"{where} takes no argument '{key}'{did_you_mean(key, known)}")
    try:
        signature.bind(None, **arguments)
    except TypeError as cause:
        raise ContractError(
            f"{where}: {cause}; it is called with the episode, and by keyword with 'arguments'"
        ) from cause


def load_function(name: str) -> Callable[..., Any]:
    """Import a function, given as ``module:function``.

    Raises:
        ContractError: If there is no such module or function.
    """
    return _find(name, "function")


def source_sha256(name: str) -> str:
    """Return the SHA-256 of the source file that a function is written in; empty without one.

    Args:
        name: ``module:function``.

    Raises:
        ContractError: If there is no such module or function.
    """
    function = inspect.unwrap(_find(name, "function"))
    try:
        file = inspect.getsourcefile(function)
    except TypeError:  # a compiled function, or an instance
        return ""
    if file is None or not Path(file).is_file():
        return ""
    return hashlib.sha256(Path(file).read_bytes()).hexdigest()


def _remedy(module: str) -> str:
    package = Path(module.split(".", maxsplit=1)[0])
    here = package.with_suffix(".py").is_file() or package.is_dir()
    if here and importlib.util.find_spec(package.name) is None:
        return "it lies in this folder: put PYTHONPATH=. before the command"
    return "install it, or set PYTHONPATH to its folder"
