"""Finds a function by its name, ``module:function``."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from dql_core.errors import ContractError, did_you_mean


def find_function(name: str, what: str) -> Callable[..., Any]:
    """Import a function.

    Args:
        name: ``module:function``.
        what: The key that names it, for messages.

    Raises:
        ContractError: If there is no such module or function.
    """
    module_name, _, function_name = name.partition(":")
    if not function_name:
        raise ContractError(
            f"{what}: '{name}' names no function; write module:function, such as "
            f"dql_core.rewards:distance_to_goal"
        )
    try:
        module = importlib.import_module(module_name)
    except (ImportError, SyntaxError) as cause:
        raise ContractError(
            f"{what}: cannot import '{module_name}': {cause}; {_mending(module_name)}"
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


def require_arguments(
    function: Callable[..., Any], arguments: Mapping[str, Any], where: str
) -> None:
    """Check that a function can be called as ``function(episode, **arguments)``.

    Raises:
        ContractError: Naming the argument that is unknown or missing.
    """
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


def source_sha256(name: str) -> str:
    """Return the SHA-256 of the source file that a function is written in; empty without one.

    Args:
        name: ``module:function``.

    Raises:
        ContractError: If there is no such module or function.
    """
    function = inspect.unwrap(find_function(name, "function"))
    try:
        file = inspect.getsourcefile(function)
    except TypeError:  # a compiled function, or an instance
        return ""
    if file is None or not Path(file).is_file():
        return ""
    return hashlib.sha256(Path(file).read_bytes()).hexdigest()


def _mending(module: str) -> str:
    package = Path(module.split(".", maxsplit=1)[0])
    here = package.with_suffix(".py").is_file() or package.is_dir()
    if here and importlib.util.find_spec(package.name) is None:
        return "it lies in this folder: put PYTHONPATH=. before the command"
    return "install it, or set PYTHONPATH to its folder"
