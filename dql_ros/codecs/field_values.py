"""A number, a text or an array in the type that a message's field takes.

rclpy's classes and rosbags' differ here: a ``byte`` is a ``bytes`` of length 1 or a signed number,
arrays are of ``array``, of NumPy or lists. Whole numbers are rounded to the nearest, and a flag is
true from 0.5 on. Beyond the largest float32 is infinity, as IEEE 754 has it.
"""

from __future__ import annotations

import array
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Value = float | str | NDArray[np.float64]


def in_type_of(owner: Any, field: str, value: Value) -> Any:
    """Return a value as the field of a message takes it.

    Args:
        owner: The message.
        field: The field's name; what it has now says what it takes.
        value: A number, a text, or an array of numbers of shape (n,).

    Raises:
        TypeError: If the field takes something else; a clause without its name.
        ValueError: If a whole number or a flag is not finite, or beyond what the field can hold.
    """
    present = getattr(owner, field)
    if isinstance(value, str) != isinstance(present, str):
        raise TypeError(_other(present, "a text" if isinstance(value, str) else "one number"))
    if isinstance(value, str):
        return value
    if isinstance(value, np.ndarray):
        return _array(owner, field, present, value)
    return _number(owner, field, present, float(value))


def number_of(found: object) -> float | None:
    """Return a field's number; a flag counts as 0 or 1. ``None`` if it is something else."""
    if isinstance(found, bytes) and len(found) == 1:
        return float(int.from_bytes(found, "little", signed=True))
    return float(found) if isinstance(found, float | int | np.number | np.bool_) else None


def numbers_of(found: object) -> NDArray[np.float64] | None:
    """Return a field's numbers, shape (n,), perhaps of its own memory; ``None`` if it has none."""
    if isinstance(found, list) and found and isinstance(found[0], bytes):
        found = np.frombuffer(b"".join(found), np.int8)
    try:
        numbers = np.asarray(found, dtype=np.float64)
    except (TypeError, ValueError):
        return None
    return numbers if numbers.ndim == 1 else None


def holds_fractions(owner: Any, field: str) -> bool:
    """Whether an array of numbers has fractions, and so can have a NaN."""
    present = getattr(owner, field)
    if isinstance(present, array.array):
        return present.typecode in "fd"
    return isinstance(present, np.ndarray) and present.dtype.kind == "f"


def kind_of(found: Any) -> str:
    """What a message has somewhere, in words."""
    if hasattr(found, "__len__") and not isinstance(found, str | bytes):
        return f"an array of {len(found)}"
    return f"a {type(found).__name__}"


def _number(owner: Any, field: str, present: Any, value: float) -> Any:
    if isinstance(present, bool | np.bool_):
        return bool(_finite(value) >= 0.5)
    if isinstance(present, bytes):
        return _byte(_whole(value))
    if isinstance(present, int | np.integer):
        return type(present)(_within(_kind(owner, field), _whole(value)))
    if isinstance(present, float | np.floating):
        return type(present)(value)
    raise TypeError(_other(present, "one number"))


def _array(owner: Any, field: str, present: Any, values: NDArray[np.float64]) -> Any:
    if isinstance(present, array.array):
        numbers = values.tolist() if present.typecode in "fd" else _wholes(values)
        return array.array(present.typecode, numbers)
    if isinstance(present, np.ndarray):
        if present.dtype.kind == "f":
            with np.errstate(over="ignore"):
                return values.astype(present.dtype)
        if present.dtype.kind == "b":
            return np.array([_finite(value) >= 0.5 for value in values.tolist()], bool)
        return np.array(_wholes(values), dtype=present.dtype)
    # Lists of rclpy say nothing of what they are of.
    if "boolean" in (kind := _kind(owner, field)):
        return [_finite(value) >= 0.5 for value in values.tolist()]
    if "octet" in kind:
        return [_byte(number) for number in _wholes(values)]
    raise TypeError(_other(present, "an array of numbers"))


def _kind(owner: Any, field: str) -> str:
    """What a field of an rclpy message is of; empty for rosbags', which refuse when written.

    rclpy does not: of a number that is too large it sends the lower bits, unless
    ROS_PYTHON_CHECK_FIELDS is set.
    """
    kinds: dict[str, str] = getattr(owner, "get_fields_and_field_types", dict)()
    return kinds.get(field, "")


def _within(kind: str, value: int) -> int:
    if kind:
        limits = np.iinfo(kind)
        if not limits.min <= value <= limits.max:
            raise ValueError(f"the type {kind} has no {value}")
    return value


def _other(present: Any, wanted: str) -> str:
    remedy = ""
    if wanted == "one number":
        remedy = "; name a number, or select elements of an array with 'joints' or 'indices'"
    return f"is {kind_of(present)}, not {wanted}{remedy}"


def _wholes(values: NDArray[np.float64]) -> Sequence[int]:
    return [_whole(value) for value in values.tolist()]


def _whole(value: float) -> int:
    return round(_finite(value))


def _byte(value: int) -> bytes:
    try:
        return value.to_bytes(1, "little", signed=True)
    except OverflowError:
        raise ValueError(f"a byte has no {value}") from None


def _finite(value: float) -> float:
    if not np.isfinite(value):
        raise ValueError(f"it takes whole numbers or flags only, not {value}")
    return value
