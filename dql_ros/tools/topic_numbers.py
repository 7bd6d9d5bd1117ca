"""What numbers a topic's messages hold: their ranges, and which of them come together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rosbags.interfaces import Nodetype
from rosbags.typesys.store import Typestore

from dql_core.errors import ContractError
from dql_ros.codecs.block import MessageBlock
from dql_ros.codecs.block_decoder import DamageFinder
from dql_ros.codecs.cdr_layout import CdrLayout, LayoutError, RowPlan, lay_out
from dql_ros.codecs.message_path import JointOrder, is_name, name_list_paths
from dql_ros.codecs.rotation import yaws_of_quaternions
from dql_ros.contract import Element, FieldSelection
from dql_ros.contract.field import Named, Step, join_steps, split_path
from dql_ros.convert.full_turns import SLACK, full_turn_steps
from dql_ros.convert.report.topic_statistics import Pauses

# Longer arrays are images, scans and the like, and are no numbers of a vector.
MAX_ARRAY = 64
# Messages of more numbers, or in more layouts, are no robot's state either.
MAX_NUMBERS = 512
MAX_LAYOUTS = 200
# What spans more radians counts on after a turn.
LARGEST_TURN = (1 + SLACK) * 2 * np.pi
# Quaternions of rotations are so near to length 1, also as float32.
UNIT_LENGTH = 1e-5


@dataclass
class NumberFacts:
    """What one number of the messages was.

    Attributes:
        dtype: numpy's name of its type.
        messages: How many messages have it.
        nonfinite: In how many of them it was NaN or infinite.
        low: The smallest finite value; infinite without any.
        high: The largest; minus infinity without any.
        turns: How often it jumped as an angle in rad does that wraps around.
    """

    dtype: str
    messages: int = 0
    nonfinite: int = 0
    low: float = np.inf
    high: float = -np.inf
    turns: int = 0

    @property
    def wraps_around(self) -> bool:
        """Whether it is an angle that does, if it is one in rad."""
        return self.turns > 0 and self.high - self.low <= LARGEST_TURN

    @property
    def is_constant(self) -> bool:
        """Whether it had one finite value only."""
        return self.low == self.high


@dataclass
class QuaternionFacts:
    """What x, y, z and w at one path were together.

    Attributes:
        shortest: The smallest norm.
        longest: The largest.
        tilt: The largest of abs(x) and abs(y): 0 where all turns were about z.
        turns: How often the angle about z jumped by a full turn.
    """

    shortest: float = np.inf
    longest: float = 0.0
    tilt: float = 0.0
    turns: int = 0

    @property
    def is_rotation(self) -> bool:
        """Whether all of them were of unit length, as rotations are."""
        return self.shortest > 1 - UNIT_LENGTH and self.longest < 1 + UNIT_LENGTH


class TopicNumbers:
    """Takes blocks of a topic's messages.

    Attributes:
        messages: How many were taken.
        facts: What each number was, in the messages' order; those of one path by joint name
            where the messages name as many joints, else by index.
        quaternions: By path.
        names: The lists of joint names that occurred with each array.
        lengths: The lengths of each array that occurred.
        refusal: Why the topic's messages make no vector; empty if they do.
        groups: Numbers that come together in messages, and when such messages came.

    Args:
        topic: The topic.
        msgtype: Type of its messages.
        typestore: Knows the type.
    """

    def __init__(self, topic: str, msgtype: str, typestore: Typestore) -> None:
        self.messages = 0
        self.facts: dict[Element, NumberFacts] = {}
        self.quaternions: dict[str, QuaternionFacts] = {}
        self.names: dict[str, list[tuple[str, ...]]] = {}
        self.lengths: dict[str, set[int]] = {}
        self.refusal = ""
        self.groups: dict[frozenset[Element], Pauses] = {}
        self._topic = topic
        self._msgtype = msgtype
        self._typestore = typestore
        self._plans: list[tuple[RowPlan, tuple[Element, ...]]] = []

    def begin_recording(self, typestore: Typestore) -> None:
        """What comes next is of another recording, with its own definition of the type."""
        self._typestore = typestore
        self._plans = []
        for pauses in self.groups.values():
            pauses.begin_recording()

    def add(self, block: MessageBlock) -> None:
        """Take note of messages; if they cannot be read, `refusal` says why."""
        waiting = np.arange(len(block))
        self.messages += len(block)
        came: dict[frozenset[Element], list[NDArray[np.int64]]] = {}
        while len(waiting) and not self.refusal:
            try:
                plan, elements = self._plan(block, int(waiting[0]))
            except (LayoutError, ContractError) as cause:
                finder = DamageFinder(self._topic, self._msgtype, self._typestore)
                damage = finder.damaged(block.select(waiting[:1])).get(0)
                self.refusal = str(cause)
                if damage is not None:
                    self.refusal = f"a message is damaged: {damage}; --salvage leaves it out"
                return
            rows = waiting[block.lengths[waiting] == plan.length]
            fits, gathered = plan.take(block.data, block.starts[rows])
            if fits is not None:
                rows, gathered = rows[fits], [matrix[fits] for matrix in gathered]
            self._note(plan.numbers(gathered), elements)
            came.setdefault(frozenset(elements), []).append(block.log_times_ns[rows])
            waiting = np.setdiff1d(waiting, rows, assume_unique=True)
        for together, times_ns in came.items():
            pauses = self.groups.setdefault(together, Pauses())
            pauses.add(np.sort(np.concatenate(times_ns)))

    @property
    def common(self) -> dict[Element, NumberFacts]:
        """The numbers that all messages have."""
        return {key: fact for key, fact in self.facts.items() if fact.messages == self.messages}

    def _plan(self, block: MessageBlock, index: int) -> tuple[RowPlan, tuple[Element, ...]]:
        """The plan for a message's layout, known or new."""
        start, length = block.starts[index : index + 1], int(block.lengths[index])
        for plan, elements in reversed(self._plans):
            if plan.length == length and plan.take(block.data, start)[0] is None:
                return plan, elements
        if len(self._plans) == MAX_LAYOUTS:
            raise LayoutError("its messages differ in form too much")
        layout = lay_out(block.payload(index), self._msgtype, self._typestore)
        selections = tuple(self._selections(layout))
        elements = tuple(element for each in selections for element in each.elements)
        if len(elements) > MAX_NUMBERS:
            raise LayoutError(f"its messages have more than {MAX_NUMBERS} numbers")
        order = JointOrder(self._topic, (), by_index=False)
        self._plans.append((RowPlan(layout, selections, order, stamped=False), elements))
        for element in elements:
            place = layout.places[layout.located(element.path)]
            self.facts.setdefault(element, NumberFacts(place.dtype))
        return self._plans[-1]

    def _selections(self, layout: CdrLayout) -> Iterator[FieldSelection]:
        for place_path, place in layout.places.items():
            path = _by_name(layout, place_path)
            if path.startswith("header.") or self._is_later_element(path):
                continue
            if place.count is None:
                yield FieldSelection(path=path)
                continue
            self.lengths.setdefault(path, set()).add(place.count)
            if not 0 < place.count <= MAX_ARRAY:
                continue
            found = (layout.string_lists.get(each) for each in name_list_paths(place_path))
            listed = next((each for each in found if each is not None), None)
            names = tuple(text for text, _ in listed or ())
            known = self.names.setdefault(path, [])
            if listed is not None and names not in known:
                known.append(names)
            if names and len(names) == len(set(names)) == place.count:
                yield FieldSelection(path=path, joints=names)
            elif not names:
                yield FieldSelection(path=path, indices=tuple(range(place.count)))

    def changes_place(self, path: str) -> bool:
        """Whether a path takes an element by its place from a list of any length."""
        return any(True for _ in self._places_in_lists(path))

    def _is_later_element(self, path: str) -> bool:
        """Whether a path leads through a list of any length, and not to the first element."""
        return any(place > 0 for place in self._places_in_lists(path))

    def _places_in_lists(self, path: str) -> Iterator[int]:
        """Yield the places on a path in lists of messages that are not always of one length."""
        description: Any = (Nodetype.NAME, self._msgtype)
        is_list = False
        for step in split_path(path):
            if isinstance(step, str):
                description = dict(self._typestore.get_msgdef(description[1]).fields)[step]
                is_list = description[0] == Nodetype.SEQUENCE
                if description[0] in {Nodetype.ARRAY, Nodetype.SEQUENCE}:
                    description = description[1][0]
            elif isinstance(step, int) and is_list:
                yield step

    def _note(self, numbers: NDArray[np.float64], elements: Sequence[Element]) -> None:
        finite = np.isfinite(numbers)
        lows = np.where(finite, numbers, np.inf).min(axis=0)
        highs = np.where(finite, numbers, -np.inf).max(axis=0)
        bad = (~finite).sum(axis=0)
        for column, element in enumerate(elements):
            fact = self.facts[element]
            fact.messages += len(numbers)
            fact.nonfinite += int(bad[column])
            fact.low = min(fact.low, float(lows[column]))
            fact.high = max(fact.high, float(highs[column]))
            if fact.dtype[1] == "f":
                known = numbers[finite[:, column], column]
                fact.turns += full_turn_steps(known, 2 * np.pi)
        columns = {element.path: column for column, element in enumerate(elements)}
        for path in quaternion_paths(columns):
            turns = numbers[:, [columns[f"{path}.{axis}"] for axis in "xyzw"]]
            norms = np.sqrt((turns**2).sum(axis=1))
            known = self.quaternions.setdefault(path, QuaternionFacts())
            # What is no number makes no rotation: fmin and fmax would pass over it.
            known.shortest = float(np.min([known.shortest, np.nan_to_num(norms.min(), nan=0.0)]))
            known.longest = float(np.max([known.longest, np.nan_to_num(norms.max(), nan=np.inf)]))
            known.tilt = float(np.max([known.tilt, np.abs(turns[:, :2]).max()]))
            yaws = yaws_of_quaternions(turns)[:, 0]
            known.turns += full_turn_steps(yaws[np.isfinite(yaws)], 2 * np.pi)


def field_names(path: str) -> tuple[str, ...]:
    """The names of fields on a path, without places and names of elements."""
    return tuple(step for step in split_path(path) if isinstance(step, str))


def _by_name(layout: CdrLayout, path: str) -> str:
    """The path with names of elements instead of their places, where they have names."""
    steps: list[Step] = []
    place = ""
    for step in split_path(path):
        named = _name_of(layout, place, step) if isinstance(step, int) else None
        steps.append(named or step)
        place = f"{place}.{step}" if place else str(step)
    return join_steps(steps)


def _name_of(layout: CdrLayout, path: str, index: int) -> Named | None:
    """What an element of a list is called; ``None`` if it has no name of its own."""
    prefix = f"{path}.{index}."
    fields = (each.removeprefix(prefix) for each in layout.strings if each.startswith(prefix))
    key = next((each for each in fields if is_name(each)), None)
    if key is not None:
        places = range(layout.lengths.get(path, 0))
        names = [layout.strings[f"{path}.{place}.{key}"][0] for place in places]
    else:
        found = ((each, layout.string_lists.get(each)) for each in name_list_paths(path))
        list_path, listed = next((each for each in found if each[1] is not None), ("", None))
        if (
            listed is None
            or len(listed) != layout.lengths.get(path)
            or _has_arrays(layout, prefix)
        ):
            return None
        key, names = list_path.rpartition(".")[2], [text for text, _ in listed]
    name = names[index]
    is_own = names.count(name) == 1 and name and not set(name) & set("[]")
    return Named(key, name) if is_own and name.isprintable() else None


def _has_arrays(layout: CdrLayout, prefix: str) -> bool:
    """Whether names beside a list may be those of numbers in its elements, as of trajectories."""
    return any(
        path.startswith(prefix) and place.count is not None
        for path, place in layout.places.items()
    )


def quaternion_paths(columns: Mapping[str, object]) -> list[str]:
    """The paths under which there are x, y, z and w."""
    owners = dict.fromkeys(path.rpartition(".")[0] for path in columns if path.endswith(".w"))
    return [path for path in owners if all(f"{path}.{axis}" in columns for axis in "xyz")]
