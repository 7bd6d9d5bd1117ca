"""What launch files make of their arguments, which are texts."""

from __future__ import annotations

from collections.abc import Mapping

Value = str | int | float | bool | list[str]


def is_true(arguments: Mapping[str, str], name: str) -> bool:
    """Return an argument that is ``true`` or ``false``.

    Raises:
        ValueError: If it is neither.
    """
    value = arguments[name].lower()
    if value not in {"true", "false"}:
        raise ValueError(f"launch argument '{name}' is '{arguments[name]}': give true or false")
    return value == "true"


def given(parameters: Mapping[str, Value]) -> dict[str, Value]:
    """Leave out what was not given, so that it does not hide what a parameter file says."""
    return {name: value for name, value in parameters.items() if value != ""}


def number(arguments: Mapping[str, str], name: str) -> float | str:
    """Return an argument that is a number, or nothing.

    Raises:
        ValueError: If it is something else.
    """
    try:
        return float(arguments[name]) if arguments[name] else ""
    except ValueError:
        raise ValueError(
            f"launch argument '{name}' is '{arguments[name]}': give a number"
        ) from None


def names(arguments: Mapping[str, str], name: str) -> list[str] | str:
    """Return an argument that is a list of names with commas between them, or nothing."""
    return [part.strip() for part in arguments[name].split(",") if part.strip()] or ""
