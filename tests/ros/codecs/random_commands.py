"""Contracts of commands that are drawn at random from the fields of a message type."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from hypothesis import assume
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn
from rosbags.interfaces import Nodetype
from rosbags.typesys.store import Typestore

from dql_ros.codecs.message_path import NAME_LISTS, is_name
from dql_ros.contract import ActionStream

NAMES = ("elbow", "wrist", "a_1", "tool-2")
WHOLE = {"byte": "int8", "char": "uint8"}
APART = {"std_msgs/msg/Header", "std_msgs/msg/MultiArrayLayout"}
MOST_FIELDS = 12


@dataclass(frozen=True)
class Leaf:
    """Numbers of a message that are selected together, or a text.

    Attributes:
        selection: The contract's keys that select them.
        kind: The type of the numbers, or ``string``.
        count: How many there are.
    """

    selection: dict[str, Any]
    kind: str
    count: int = 1


@dataclass(frozen=True)
class NameList:
    """A list of names that a message has.

    Attributes:
        key: What it is called.
        names: What it is to hold.
    """

    key: str
    names: tuple[str, ...]


@st.composite
def commands(draw: DrawFn, store: Typestore, msgtype: str) -> tuple[ActionStream, list[Any]]:
    """A stream of some of a type's fields in any order, and three vectors for it."""
    groups = _groups(draw, store, msgtype, "", ())
    groups = draw(st.permutations(groups))[: draw(st.integers(1, MOST_FIELDS))]
    leaves = draw(st.permutations([leaf for group in groups for leaf in group]))
    fields: list[dict[str, Any]] = []
    numbers: list[st.SearchStrategy[Any]] = []
    for leaf in leaves:
        if leaf.kind == "string":
            fields.append({**leaf.selection, "constant": draw(st.sampled_from(NAMES))})
            continue
        shift = {} if leaf.kind != "float64" else draw(SHIFTS)
        of_leaf = st.lists(values_of(leaf.kind, shift), min_size=leaf.count, max_size=leaf.count)
        if draw(st.integers(0, 9)) == 0 and numbers:
            fields.append({**leaf.selection, "constant": draw(values_of(leaf.kind, {}))})
            continue
        fields.append({**leaf.selection, **shift, **bounds_of(leaf.kind)})
        numbers.append(st.tuples(of_leaf, of_leaf, of_leaf))
    assume(numbers)
    stream = ActionStream.model_validate(
        {"topic": "/c", "type": msgtype, "fields": fields, "frame_id": "tool0"}
    )
    drawn = [draw(each) for each in numbers]
    return stream, [np.concatenate([each[row] for each in drawn]) for row in range(3)]


SHIFTS = st.fixed_dictionaries(
    {}, optional={"scale": st.sampled_from([2.0, -0.25]), "offset": st.sampled_from([0.5, -3.0])}
)


def bounds_of(kind: str) -> dict[str, float]:
    """Bounds that a field of a type can hold."""
    if kind == "bool":
        return {"low": 0.0, "high": 1.0}
    if "float" in kind:
        return {"low": -(2.0**100), "high": 2.0**100}
    limits = np.iinfo(WHOLE.get(kind, kind))
    return {"low": max(float(limits.min), -(2.0**53)), "high": min(float(limits.max), 2.0**53)}


def values_of(kind: str, shift: dict[str, float]) -> st.SearchStrategy[float]:
    """Numbers that a field of a type has exactly, also after a shift by powers of two."""
    low, high = bounds_of(kind).values()
    if "float" not in kind:
        return st.integers(int(low), int(high)).map(float)
    if shift:
        return st.integers(-4096, 4096).map(lambda eighths: eighths / 8)
    return st.floats(low, high, width=32 if kind == "float32" else 64, allow_subnormal=False)


def has_numbers(store: Typestore, msgtype: str) -> bool:
    """Whether a type has a number that a contract could name."""
    return any(
        detail not in APART and has_numbers(store, str(detail))
        if node == Nodetype.NAME
        else _base(node, detail) not in {None, "string"}
        for _, (node, detail) in store.fielddefs[msgtype][1]
    )


def _groups(
    draw: DrawFn, store: Typestore, msgtype: str, prefix: str, above: tuple[NameList, ...]
) -> list[list[Leaf]]:
    """The leaves below a message that are selected together or not at all, numbers first."""
    fields = dict(store.fielddefs[msgtype][1])
    lists = (*_name_lists(draw, fields), *above)
    found: list[list[Leaf]] = []
    together: list[Leaf] = []  # what fills all elements of the lists of names
    for name, (node, detail) in fields.items():
        path = f"{prefix}{name}"
        base = _base(node, detail)
        if node == Nodetype.NAME:
            if detail not in APART:
                found += _groups(draw, store, str(detail), f"{path}.", lists)
        elif node == Nodetype.BASE:
            if base != "string" or not is_name(name):
                found.append([Leaf({"path": path}, str(base))])
        elif base is not None and base != "string":
            is_shared, leaves = _array(draw, node, detail, path, lists)
            together += leaves if is_shared else []
            found += [] if is_shared or not leaves else [leaves]
        elif base is None:
            found += _list(draw, store, node, detail, path, lists)
    return [*found, *([together] if together else [])]


def _name_lists(draw: DrawFn, fields: dict[str, Any]) -> Iterator[NameList]:
    keys = [
        name
        for name, (node, detail) in fields.items()
        if node == Nodetype.SEQUENCE and _base(node, detail) == "string"
    ]
    for key in keys:
        if key in NAME_LISTS or key.endswith("_names"):
            count = draw(st.integers(1, 3))
            yield NameList(key, tuple(draw(st.permutations(NAMES))[:count]))
            return


def _array(
    draw: DrawFn, node: Any, detail: Any, path: str, lists: tuple[NameList, ...]
) -> tuple[bool, list[Leaf]]:
    """How an array is selected, and whether with all others that have the same names."""
    (_, (kind, _)), limit = detail
    if lists:
        names = lists[0].names
        if node == Nodetype.ARRAY or 0 < limit < len(names):
            return True, []
        if lists[0].key in NAME_LISTS:
            return True, [Leaf({"path": path, "joints": names}, kind, len(names))]
        return True, [Leaf({"path": f"{path}[{lists[0].key}={name}]"}, kind) for name in names]
    most = limit if limit else 4
    count = limit if node == Nodetype.ARRAY else draw(st.integers(1, min(most, 4)))
    if count > 40 or draw(st.booleans()):
        return False, [Leaf({"path": path, "slice": f"0:{count}"}, kind, count)]
    return False, [Leaf({"path": f"{path}.{index}"}, kind) for index in range(count)]


def _list(
    draw: DrawFn, store: Typestore, node: Any, detail: Any, path: str, lists: tuple[NameList, ...]
) -> list[list[Leaf]]:
    """The leaves of a list of messages: the same of each element."""
    (_, element), limit = detail
    if element in APART:
        return []
    own = dict(store.fielddefs[element][1])
    key = next((n for n, (kind, what) in own.items() if is_name(n) and kind == Nodetype.BASE), "")
    if key and own[key][1][0] == "string":
        count = draw(st.integers(1, min(limit or 2, 2)))
        steps = [f"[{key}={name}]" for name in draw(st.permutations(NAMES))[:count]]
        return [] if node == Nodetype.ARRAY else _elements(draw, store, element, path, steps)
    if lists:
        return []  # whether its elements have the names that lie above, their form decides
    count = limit if node == Nodetype.ARRAY else draw(st.integers(1, min(limit or 3, 3)))
    return _elements(draw, store, element, path, [f".{index}" for index in range(count)])


def _elements(
    draw: DrawFn, store: Typestore, element: str, path: str, steps: list[str]
) -> list[list[Leaf]]:
    if not has_numbers(store, element):
        return []
    every = [_groups(draw, store, element, f"{path}{step}.", ()) for step in steps]
    if not all(every):  # its numbers are in lists that cannot be selected alone
        return []
    return [[leaf for groups in every for leaf in groups[draw(st.integers(0, len(groups) - 1))]]]


def _base(node: Any, detail: Any) -> str | None:
    """The type of a field's numbers or texts; ``None`` where it is of messages."""
    while node in {Nodetype.ARRAY, Nodetype.SEQUENCE}:
        node, detail = detail[0]
    return detail[0] if node == Nodetype.BASE else None
