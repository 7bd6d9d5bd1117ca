"""Where in the messages of a type the numbers, names and times of a stream go."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dql_core.errors import ContractError
from dql_core.streams import SECOND_NS
from dql_ros.codecs.field_values import holds_fractions
from dql_ros.codecs.message_path import NAME_LISTS, MessagePath, name_list_path
from dql_ros.contract import ActionStream, Stream
from dql_ros.contract.field import MAX_ENTRIES, Named, Step, join_steps, split_path


class Place(NamedTuple):
    """Where one number of a message is.

    Attributes:
        path: Path to the number, or to the array that it is part of.
        key: The joint, the index or the name in that array; ``None`` for a number by itself.
    """

    path: str
    key: str | int | Named | None

    def __str__(self) -> str:
        """The number's own path."""
        steps = split_path(self.path)
        return join_steps(steps if self.key is None else (*steps, self.key))


def places_of(stream: Stream) -> list[Place]:
    """Where the numbers are that a stream fills, in the order of its `StreamTransform`."""
    return [_place(*element) for selection in stream.fields for element in selection.elements]


def _place(path: str, key: str | int | None) -> Place:
    steps = split_path(path)
    if key is not None or isinstance(steps[-1], str):
        return Place(path, key)
    return Place(join_steps(steps[:-1]), steps[-1])


def require_whole(topic: str, places: Sequence[Place], *, may_lack: bool = False) -> None:
    """Check, whatever the type, that no element of a list is left out and none filled twice.

    Args:
        topic: The topic, for error messages.
        places: Where numbers and texts go.
        may_lack: Whether they may be left out, and filled twice.

    Raises:
        ContractError: Naming the list and the element.
    """
    lists = _list_keys(places)
    if any(index >= MAX_ENTRIES for keys in lists.values() for index in _indices(keys)):
        raise ContractError(f"{topic}: a list with over {MAX_ENTRIES:,} elements cannot be sent")
    if may_lack:
        return
    twice = next((place for place, count in Counter(places).items() if count > 1), None)
    if twice is not None:
        raise _twice(topic, twice.path, twice.key)
    for path, keys in lists.items():
        indices = _indices(keys)
        if indices and len(indices) != len(keys):
            raise ContractError(
                f"{topic}: '{path}' cannot be sent, since the contract selects some of its "
                f"elements by their place and others by name; select all by name"
            )
        _require_all(topic, path, indices, range(len(indices)), "index")
    for path, joints, others in _joint_arrays(places):
        _require_all(topic, path, joints, others, "joint")


def _list_keys(places: Sequence[Place]) -> dict[str, set[int | Named]]:
    """What is selected of each list and array, by its path; joints left out."""
    lists: dict[str, set[int | Named]] = {}
    for path, key in places:
        steps = (*split_path(path), *(() if key is None else (key,)))
        for index, step in enumerate(steps):
            if not isinstance(step, str):
                lists.setdefault(join_steps(steps[:index]), set()).add(step)
    return lists


def _indices(keys: Iterable[int | Named]) -> set[int]:
    return {key for key in keys if isinstance(key, int)}


def _joint_arrays(places: Sequence[Place]) -> Iterator[tuple[str, list[str], list[str]]]:
    """Yield each array by joints with its joints, and those of all arrays beside it."""
    beside: dict[str, dict[str, list[str]]] = {}
    for path, key in places:
        if isinstance(key, str):
            owner = path.rpartition(".")[0]
            beside.setdefault(owner, {}).setdefault(path, []).append(key)
    for arrays in beside.values():
        every = list(dict.fromkeys(joint for joints in arrays.values() for joint in joints))
        yield from ((path, joints, every) for path, joints in arrays.items())


def _require_all(
    topic: str, path: str, given: Collection[Any], needed: Iterable[Any], what: str
) -> None:
    for key in needed:
        if key not in given:
            raise ContractError(
                f"{topic}: '{path}' cannot be sent, since the contract gives {what} {key!r} no "
                f"value; select all elements of the array, or give it a 'constant'"
            )


def _twice(topic: str, path: str, key: object) -> ContractError:
    element = "it" if key is None else f"element {key!r}"
    return ContractError(
        f"{topic}: '{path}' cannot be sent, since the contract gives {element} two values"
    )


class FilledArray(NamedTuple):
    """An array that is filled as a whole.

    Attributes:
        path: Where it is.
        positions: Which of the numbers fills each element, -1 for none; shape (n,).
        unknown: What the others have.
    """

    path: MessagePath
    positions: NDArray[np.intp]
    unknown: float


@dataclass(frozen=True)
class Filling:
    """Where in the messages of one type the parts of a stream go.

    Attributes:
        names: The lists of names, outer ones first, and what they hold.
        arrays: The arrays of numbers.
        stamps: The stamps of headers, or without one, on the way to what is filled.
        frame_ids: Where their frames are, and what they are; of commands.
        due_ns: When points on the way are due, in nanoseconds from the start; of commands.
    """

    names: tuple[tuple[MessagePath, tuple[str, ...]], ...]
    arrays: tuple[FilledArray, ...]
    stamps: tuple[MessagePath, ...]
    frame_ids: tuple[tuple[MessagePath, str], ...] = ()
    due_ns: tuple[tuple[MessagePath, int], ...] = ()


class Planner:
    """Looks at a message of a stream's type.

    Args:
        stream: What is sent.
        places: Where its numbers go.
        joint_order: The rank of joints in lists of names; others come behind.
        unknown: What elements have that nothing fills; ``None`` if there must be none.
        message: Of the type, just made, with all elements of lists that are on the way.

    Raises:
        ContractError: If it has not got what the stream names.
    """

    def __init__(
        self,
        stream: Stream,
        places: Sequence[Place],
        joint_order: Mapping[str, int],
        unknown: float | None,
        message: Any,
    ) -> None:
        self._stream, self._topic, self._places = stream, stream.topic, places
        self._joint_order, self._unknown = joint_order, unknown
        self._message = message
        texts = [each.path for each in stream.fields if isinstance(each.constant, str)]
        self._paths = [*(place.path for place in places), *texts]
        self._lists: dict[str, str] = {}  # of a list by name, where its names are
        self._names = self._find_names()

    def filling(self) -> Filling:
        """Return where everything goes."""
        owners, stream = list(self._owners()), self._stream
        named = sorted(self._names.items(), key=lambda item: len(split_path(item[0])))
        frames = list(self._fields(owners, "header", "frame_id"))
        filling = Filling(
            tuple((self._at(path), tuple(names)) for path, names in named),
            tuple(self._arrays()),
            (*self._fields(owners, "header", "stamp"), *self._stamps(owners)),
        )
        if not isinstance(stream, ActionStream):
            return filling
        return replace(
            filling,
            frame_ids=tuple((path, stream.frame_id) for path in frames),
            due_ns=tuple(self._due_times(owners, stream.time_from_start_s)),
        )

    def _at(self, path: str) -> MessagePath:
        return MessagePath(path, self._topic)

    def _find_names(self) -> dict[str, list[str]]:
        """What each list of names holds, by its path."""
        found: dict[str, list[str]] = {}

        def note(path: str, key: str, name: str, lists: Sequence[str]) -> None:
            self._lists[path] = name_list_path(self._message, path, self._topic, lists)
            names = found.setdefault(self._lists[path], [])
            if name not in names:
                names.append(name)

        for path in self._paths:
            steps = split_path(path)
            for index, step in enumerate(steps):
                if isinstance(step, Named):
                    with suppress(ContractError):  # a field of the elements is their name
                        note(join_steps(steps[:index]), step.key, step.value, (step.key,))
        for path, key in self._places:
            if isinstance(key, Named):
                note(path, key.key, key.value, (key.key,))
            elif isinstance(key, str):
                note(path, "", key, NAME_LISTS)
        for names in found.values():
            names.sort(key=lambda name: self._joint_order.get(name, len(self._joint_order)))
        return found

    def _arrays(self) -> Iterator[FilledArray]:
        arrays: dict[str, dict[str | int, int]] = {}
        for position, (path, key) in enumerate(self._places):
            if key is None:
                continue
            element = key.value if isinstance(key, Named) else key
            sources = arrays.setdefault(path, {})
            if element in sources:
                raise _twice(self._topic, path, element)
            sources[element] = position
        for path, sources in arrays.items():
            yield self._array(path, sources)

    def _array(self, path: str, sources: Mapping[str | int, int]) -> FilledArray:
        array = self._at(path)
        elements: Sequence[str | int]
        if path in self._lists:
            elements = self._names[self._lists[path]]
        else:
            indices = [key for key in sources if isinstance(key, int)]
            # One that has elements before it is filled always has so many.
            elements = range(max(max(indices) + 1, len(array.numbers(self._message))))
        if self._unknown is None:
            what = "index"
            if path in self._lists:
                is_of_joints = self._lists[path].rpartition(".")[2] in NAME_LISTS
                what = "joint" if is_of_joints else "element"
            _require_all(self._topic, path, list(sources), elements, what)
        owner, field = array.owner(self._message), path.rpartition(".")[2]
        may_be_nan = self._unknown is not None and holds_fractions(owner, field)
        positions = np.array([sources.get(key, -1) for key in elements], dtype=np.intp)
        return FilledArray(array, positions, self._unknown or 0.0 if may_be_nan else 0.0)

    def _owners(self) -> Iterator[tuple[tuple[Step, ...], Any]]:
        """Yield what is on the way to what is filled, the message itself first."""
        prefixes: dict[tuple[Step, ...], None] = {}
        for path in self._paths:
            steps = split_path(path)
            prefixes.update(dict.fromkeys(steps[:index] for index in range(len(steps))))
        for steps in prefixes:
            yield steps, self._at(join_steps(steps)).get(self._message) if steps else self._message

    def _fields(
        self, owners: Sequence[tuple[tuple[Step, ...], Any]], part: str, field: str
    ) -> Iterator[MessagePath]:
        """Yield where a part of the owners has a field, unless the contract fills that itself."""
        for steps, owner in owners:
            path = join_steps((*steps, part, field))
            if hasattr(getattr(owner, part, None), field) and not self._fills(path):
                yield self._at(path)

    def _stamps(self, owners: Sequence[tuple[tuple[Step, ...], Any]]) -> Iterator[MessagePath]:
        for steps, owner in owners:
            path = join_steps((*steps, "stamp"))
            if hasattr(getattr(owner, "stamp", None), "nanosec") and not self._fills(path):
                yield self._at(path)

    def _due_times(
        self, owners: Sequence[tuple[tuple[Step, ...], Any]], due_s: float
    ) -> Iterator[tuple[MessagePath, int]]:
        for steps, owner in owners:
            path = join_steps((*steps, "time_from_start"))
            if hasattr(owner, "time_from_start") and not self._fills(path):
                number = steps[-1] if steps and isinstance(steps[-1], int) else 0
                yield self._at(path), round((number + 1) * due_s * SECOND_NS)

    def _fills(self, path: str) -> bool:
        """Whether the contract itself fills a field, or a part of it."""
        return any(each == path or each.startswith(f"{path}.") for each in self._paths)
