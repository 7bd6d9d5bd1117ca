"""One entry of a stream's ``fields``: which numbers of a message, in which form and unit.

A path leads to them: ``pose.position.x``, ``points.0.positions``, ``pose[name=box].position``. It
is a chain of field names. A number selects an element of a list by its place. Behind a list
``[key=value]`` selects the element whose name is ``value``: by the list of names called ``key``
that lies beside the list, or above, if there is one, else by the field ``key`` of each element.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import BeforeValidator, Field, model_validator

from dql_core.spec import FieldSpec
from dql_core.strict_yaml import StrictModel
from dql_ros.contract.units import conversion, half_turn

# What the vector has of a rotation: two columns of its matrix, or the angle about z; and of each
# angle: its cosine and its sine.
ROTATION_PARTS = {
    "6d": tuple(f"{column}_axis.{row}" for column in "xy" for row in "xyz"),
    "yaw": ("yaw",),
    "cos_sin": ("cos", "sin"),
}
_PART = re.compile(r"([^\s.\[\]=]+)(?:\[([^\s.\[\]=]+(?:\.[^\s.\[\]=]+)*)=([^\[\]]+)\])?(?:\.|\Z)")
# More is a mistake in writing, and would only fill the memory.
MAX_ENTRIES = 100_000
_SLICE = re.compile(r"\s*(\d{0,9})\s*:\s*(\d{1,9})\s*(?::\s*(\d{1,9})\s*)?")

Finite = Annotated[float, Field(allow_inf_nan=False)]


def _number(given: Any) -> Any:
    """The number that a text is, as YAML leaves ``1e-3``; all else as it is."""
    with suppress(ValueError):
        return float(given) if isinstance(given, str) else given
    return given


Constant = Annotated[Finite | str, BeforeValidator(_number)]


class Named(NamedTuple):
    """The step from a list to the element of a name.

    Attributes:
        key: The list of names beside the list, or the field of its elements, dotted.
        value: What it is there, as text.
    """

    key: str
    value: str

    def __str__(self) -> str:
        """The step as it is written."""
        return f"[{self.key}={self.value}]"


Step = str | int | Named


def split_path(path: str) -> tuple[Step, ...]:
    """Return the steps of a path: field names, places in lists, and names of elements.

    Raises:
        ValueError: If it is no path.
    """
    if not selects_by_name(path):
        return tuple(int(part) if part.isdecimal() else part for part in path.split("."))
    steps: list[Step] = []
    position = 0
    while position < len(path):
        found = _PART.match(path, position)
        if found is None:
            raise ValueError(
                f"'path' is '{path}': write list[key=value] for the element of a name, as in "
                f"transforms[child_frame_id=tool0].transform.translation.x"
            )
        part, key, value = found.groups()
        steps.append(int(part) if part.isdecimal() else part)
        if key is not None:
            steps.append(Named(key, value))
        position = found.end()
    return tuple(steps)


def join_steps(steps: Iterable[Step]) -> str:
    """Return the path of some steps; `split_path` takes it apart again."""
    path = ""
    for step in steps:
        path += str(step) if isinstance(step, Named) or not path else f".{step}"
    return path


def selects_by_name(path: str) -> bool:
    """Whether a path selects an element by its name, or tries to."""
    return "[" in path or "]" in path


class Element(NamedTuple):
    """One number of a message.

    Attributes:
        path: Path to the number, or to the array that it is part of.
        key: Joint name or index in the array; ``None`` where the path leads to a number.
    """

    path: str
    key: str | int | None


class FieldSelection(StrictModel):
    """Which numbers of a message belong to the vector: a path, then joints or indices.

    Attributes:
        path: Path to a number or an array in the message (``pose.position.x``); see above.
        constant: A value that no message carries. Without a path it is an element of the
            observation; with one it is sent in each command, where the path leads to a text as
            text, and is no part of the action.
        joints: Joint names that select elements of the array by the message's own name list.
        indices: Positions in the array, for messages that carry no names.
        slice: The same as ``start:stop:step``; the stop is needed.
        rotation: Turns the quaternion at ``path`` into the first two columns of its rotation
            matrix (``6d``) or its angle about z (``yaw``), or each selected angle into its cosine
            and its sine (``cos_sin``), which do not jump where it wraps around.
        quaternion_order: Order of the quaternion's numbers where it lies in an array.
        names: Field names of the vector; by default made from topic, path and joint or index.
        unit: REP-103 unit of every selected number.
        message_unit: The unit that the message has them in, if another; of an angle with
            ``cos_sin`` rad if it is left out.
        offset: What is subtracted from each number, after the conversion of units: a number, one
            each, or its value at the ``first`` tick of the episode.
        scale: What each is multiplied with then, one for all or one each.
        low: Lower bound in ``unit``, one for all or one each; actions need it.
        high: Upper bound, likewise.
        max_rate: Largest change of a command in a second, in ``unit``/s; for actions only.
    """

    path: str = ""
    constant: Constant | None = None
    joints: tuple[str, ...] = ()
    indices: tuple[int, ...] = ()
    # The indices have its meaning, so that it is neither dumped nor hashed.
    slice: str | None = Field(default=None, exclude=True)
    rotation: Literal["6d", "yaw", "cos_sin"] | None = None
    quaternion_order: Literal["xyzw", "wxyz"] = "xyzw"
    names: tuple[str, ...] = ()
    unit: str = ""
    message_unit: str = ""
    offset: Literal["first"] | Finite | tuple[Finite, ...] = 0.0
    scale: Finite | tuple[Finite, ...] = 1.0
    low: float | tuple[float, ...] = -math.inf
    high: float | tuple[float, ...] = math.inf
    max_rate: float | tuple[float, ...] = math.inf

    @property
    def width(self) -> int:
        """How many numbers the selection contributes to the vector."""
        if self.constant is not None:
            return 0 if self.path else len(self.names)
        parts = 1 if self.rotation is None else len(ROTATION_PARTS[self.rotation])
        return parts if self.is_of_quaternion else parts * len(self._keys)

    @property
    def is_of_quaternion(self) -> bool:
        """Whether it selects the numbers of one quaternion."""
        return self.rotation in {"6d", "yaw"}

    @property
    def _keys(self) -> tuple[str | int | None, ...]:
        """The keys of what is selected at the path."""
        return self.joints or self.indices or (None,)

    @property
    def elements(self) -> tuple[Element, ...]:
        """The message's numbers that it fills; a quaternion's in the order x, y, z, w."""
        if not self.path or isinstance(self.constant, str):
            return ()
        if self.is_of_quaternion and not self.indices:
            return tuple(Element(f"{self.path}.{axis}", None) for axis in "xyzw")
        keys = self._keys
        if self.quaternion_order == "wxyz":
            keys = (*keys[1:], keys[0])
        return tuple(Element(self.path, key) for key in keys)

    @property
    def read_elements(self) -> tuple[Element, ...]:
        """The message's numbers that the vector is made of: those filled, but for constants."""
        return () if self.constant is not None else self.elements

    @property
    def max_rates(self) -> tuple[float, ...]:
        """Largest change in a second of each number that it contributes, in ``unit``/s."""
        each = self.max_rate
        return each if isinstance(each, tuple) else (each,) * self.width

    @property
    def offsets(self) -> tuple[float, ...]:
        """What is subtracted from each number; zeros where that is known with an episode only."""
        if self.offset == "first":
            return (0.0,) * self.width
        return self.offset if isinstance(self.offset, tuple) else (self.offset,) * self.width

    @property
    def scales(self) -> tuple[float, ...]:
        """What each number is multiplied with after that."""
        return self.scale if isinstance(self.scale, tuple) else (self.scale,) * self.width

    @property
    def vector_unit(self) -> str:
        """Unit of the numbers in the vector."""
        return self.unit or ("rad" if self.rotation == "yaw" else "")

    @property
    def converted_units(self) -> tuple[str, str]:
        """The units that numbers are converted from, empty where they are not, and to."""
        if self.rotation == "cos_sin":
            return self.message_unit or "rad", "rad"
        source = "rad" if self.rotation == "yaw" else self.message_unit
        return source, self.vector_unit or "1"

    def fields(self, topic: str) -> tuple[FieldSpec, ...]:
        """Fields of the vector that this selection fills, in order."""
        if self.width == 0:
            return ()
        names = self.names or self._default_names(topic)
        bounds = zip(names, self._bounds("low"), self._bounds("high"), strict=True)
        return tuple(FieldSpec(name, self.vector_unit, low, high) for name, low, high in bounds)

    def _default_names(self, topic: str) -> tuple[str, ...]:
        prefix = f"{topic.rsplit('/', 1)[-1]}.{self.path}"
        keys = (None,) if self.is_of_quaternion else self._keys
        parts = (None,) if self.rotation is None else ROTATION_PARTS[self.rotation]
        return tuple(
            ".".join(str(each) for each in (prefix, key, part) if each is not None)
            for key in keys
            for part in parts
        )

    def _bounds(self, side: Literal["low", "high"]) -> tuple[float, ...]:
        bound: float | tuple[float, ...] = getattr(self, side)
        if isinstance(bound, tuple):
            return bound
        if self.rotation is not None and math.isinf(bound):
            # A rotation's numbers are bounded by what they are.
            limit = half_turn(self.vector_unit) if self.rotation == "yaw" else 1.0
            bound = math.copysign(limit, bound)
        return (bound,) * self.width

    @model_validator(mode="before")
    @classmethod
    def _expand_slice(cls, section: Any) -> Any:
        if not isinstance(section, dict) or not isinstance(section.get("slice"), str):
            return section
        if "indices" in section or "joints" in section:
            raise ValueError("give one of 'joints', 'indices' and 'slice'")
        return {**section, "indices": expand_slice(section["slice"])}

    @model_validator(mode="after")
    def _consistent(self) -> FieldSelection:
        problems = [*self._selection_problems(), *self._constant_problems()]
        problems += [*self._rotation_problems(), *self._unit_problems()]
        problems += self._offset_problems()
        problems = problems or list(self._bound_problems())
        if problems:
            raise ValueError("\n".join(problems))
        return self

    def _selection_problems(self) -> Iterator[str]:
        if not self.path and self.constant is None:
            yield "'path' is missing: it says where in the message the numbers are"
        try:
            split_path(self.path)
        except ValueError as cause:
            yield str(cause)
        if self.joints and self.indices:
            yield "give 'joints' or 'indices', not both"
        for key in ("joints", "indices"):
            if len(set(getattr(self, key))) != len(getattr(self, key)):
                yield f"'{key}' must not name an element twice"
        if any(index < 0 for index in self.indices):
            yield "'indices' count from 0"
        if self.names and self.width and len(self.names) != self.width:
            yield f"'names' has {len(self.names)} entries for {self.width} fields"

    def _constant_problems(self) -> Iterator[str]:
        if self.constant is None:
            return
        if isinstance(self.constant, str) and (not self.path or self._is_of_numbers):
            yield (
                f"the constant '{self.constant}' is a text, which needs the 'path' of a text that "
                f"it is sent to, and nothing else; or write a number"
            )
        if self.rotation is not None:
            yield "give 'constant' or 'rotation', not both"
        if self.path and self.names:
            yield "a constant that is sent is no field of the vector; take its 'names' out"
        if not self.path and (self.joints or self.indices or self.message_unit):
            yield "a constant without 'path' has no message to select from"
        if not self.path and not self.names:
            yield "a constant needs 'names', or the 'path' that it is sent to"

    @property
    def _is_of_numbers(self) -> bool:
        """Whether a key is given that only numbers have."""
        is_shifted = self.offset != 0.0 or self.scale != 1.0
        return bool(self.joints or self.indices or self.unit or self.message_unit) or is_shifted

    def _rotation_problems(self) -> Iterator[str]:
        if not self.is_of_quaternion:
            if self.quaternion_order != "xyzw":
                yield "'quaternion_order' is for fields with 'rotation' of a quaternion"
            if self.rotation is not None and self.unit:
                yield "a cosine and a sine have no 'unit'; that of the angle is 'message_unit'"
            return
        if self.joints or len(self.indices) not in {0, 4}:
            yield "'rotation' needs a quaternion: its path, or four 'indices' of an array"
        if self.quaternion_order != "xyzw" and not self.indices:
            yield "'quaternion_order' is for arrays; a quaternion message names its parts"
        if self.message_unit:
            yield "a quaternion has no 'message_unit'"
        if self.rotation == "6d" and self.unit:
            yield "the columns of a rotation matrix have no 'unit'"

    def _unit_problems(self) -> Iterator[str]:
        source, target = self.converted_units
        if source:
            try:
                conversion(source, target)
            except ValueError as cause:
                is_angle = self.rotation == "cos_sin"
                keys = "'message_unit'" if is_angle else "'message_unit' and 'unit'"
                yield f"{keys}: {cause}"

    def _offset_problems(self) -> Iterator[str]:
        if self.offset == 0.0 and self.scale == 1.0:
            return
        if self.constant is not None or self.rotation is not None:
            kind = "constant" if self.rotation is None else "rotation"
            yield f"'offset' and 'scale' are for numbers as they are, not for a {kind}"
        for key, each in (("offset", self.offsets), ("scale", self.scales)):
            if len(each) != self.width:
                yield f"'{key}' has {len(each)} entries for {self.width} fields"
        if 0.0 in self.scales:
            yield "'scale' must not be 0, which makes all numbers the same"

    def _bound_problems(self) -> Iterator[str]:
        bounds = {"low": self._bounds("low"), "high": self._bounds("high")}
        wrong = {key: each for key, each in bounds.items() if len(each) != self.width}
        for key, each in wrong.items():
            yield f"'{key}' has {len(each)} entries for {self.width} fields"
        if not wrong:
            for low, high in zip(*bounds.values(), strict=True):
                if not low < high:
                    yield f"'low' must be below 'high', not {low} and {high}"
        if len(self.max_rates) != self.width:
            yield f"'max_rate' has {len(self.max_rates)} entries for {self.width} fields"
        for rate in self.max_rates:
            if not rate > 0:
                yield f"'max_rate' must be positive, not {rate}"


def expand_slice(text: str) -> tuple[int, ...]:
    """Return the positions that ``text`` selects, as Python's ``range`` does.

    Args:
        text: ``start:stop`` or ``start:stop:step``; the start is 0 if left out.

    Raises:
        ValueError: If it is no slice, or selects nothing or too much.
    """
    return tuple(_positions(text))


def require_few(document: Any) -> None:
    """Refuse a contract whose slices together select too much, before any is expanded.

    Args:
        document: The contract, not yet validated.

    Raises:
        ValueError: If they do.
    """
    total = 0
    for text in _slices(document):
        with suppress(ValueError):  # reported where it is
            total += len(_positions(text))
    if total > MAX_ENTRIES:
        raise ValueError(f"the slices select {total} elements together, over {MAX_ENTRIES}")


def _positions(text: str) -> range:
    match = _SLICE.fullmatch(text)
    if match is None or len(text) > 60 or (match[3] is not None and int(match[3]) == 0):
        raise ValueError(
            f"'slice' is '{text}': write start:stop or start:stop:step, of whole numbers from 0 "
            f"up; the stop is needed, since messages differ in length"
        )
    positions = range(int(match[1] or 0), int(match[2]), int(match[3] or 1))
    if not 0 < len(positions) <= MAX_ENTRIES:
        raise ValueError(
            f"'slice' is '{text}': selects {len(positions)} elements, not 1 to {MAX_ENTRIES}"
        )
    return positions


def _slices(section: Any) -> Iterator[str]:
    if isinstance(section, dict):
        if isinstance(section.get("slice"), str):
            yield section["slice"]
        section = list(section.values())
    if isinstance(section, list):
        for each in section:
            yield from _slices(each)
