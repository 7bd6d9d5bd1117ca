"""Sees that what a contract takes from a list by its place has the same name in every message."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from dql_core.errors import ContractError
from dql_ros.codecs.message_path import MessagePath, field_names, is_list, name_list_paths
from dql_ros.contract import Stream
from dql_ros.contract.path import join_steps, split_path

if TYPE_CHECKING:
    from dql_ros.codecs.cdr_layout import CdrLayout


def is_name(field: str) -> bool:
    """Whether a text field of this name says which element of a list it is in."""
    return field in {"name", "child_frame_id"} or field.endswith("_name")


class PlaceNames:
    """Remembers what the elements were called that are taken by their places.

    Which broadcaster comes first on ``/tf``, or which joint in a state, may change from message to
    message; what is taken by its place would then be now one, now the other.

    Args:
        stream: What is taken.
    """

    def __init__(self, stream: Stream) -> None:
        places: dict[str, set[int]] = {}
        for selection in stream.fields:
            for path, key in selection.read_elements:
                steps = split_path(path)
                for index, step in enumerate(steps):
                    if isinstance(step, int):
                        places.setdefault(join_steps(steps[:index]), set()).add(step)
                if isinstance(key, int):
                    places.setdefault(path, set()).add(key)
        self._lists = [
            _NamedList(path, tuple(sorted(indices)), stream.topic)
            for path, indices in places.items()
        ]

    def check(self, message: Any) -> None:
        """Compare the names with those of the messages before.

        Raises:
            ContractError: If one is another.
        """
        for each in self._lists:
            each.check(message)

    def fix(self, layout: CdrLayout) -> None:
        """Make the names a part of the layout of the message that was looked at last."""
        for each in self._lists:
            each.fix(layout)


class _NamedList:
    """A list, and the places that are taken from it."""

    def __init__(self, path: str, indices: tuple[int, ...], topic: str) -> None:
        self._path = path
        self._indices = indices
        self._topic = topic
        self._list = MessagePath(path, topic)
        self._is_known = False
        self._field = ""  # of the elements, if they have names
        self._names: MessagePath | None = None  # of a list of names beside it
        self._before: dict[int, str] = {}

    def check(self, message: Any) -> None:
        if self._is_known and not self._field and self._names is None:
            return
        try:
            elements = self._list.get(message)
        except ContractError:  # said by those who need it
            return
        if not is_list(elements) and not hasattr(elements, "__len__"):
            return
        if not self._is_known and len(elements):
            self._find(message, elements)
        names = self._named(message, elements)
        for index in self._indices:
            if index < len(names) and self._before.setdefault(index, names[index]) != names[index]:
                raise ContractError(
                    f"{self._topic}: element {index} of '{self._path}' is '{names[index]}' here "
                    f"and was '{self._before[index]}' before; select it by its name"
                )

    def fix(self, layout: CdrLayout) -> None:
        with suppress(ContractError):
            if self._field:
                for index in self._indices:
                    text = layout.strings.get(
                        f"{layout.located(self._path)}.{index}.{self._field}"
                    )
                    if text is not None:
                        layout.fix(text[1])
            elif self._names is not None:
                texts = layout.string_lists.get(layout.located(self._names.path), ())
                for index in self._indices:
                    if index < len(texts):
                        layout.fix(texts[index][1])

    def _find(self, message: Any, elements: Any) -> None:
        """Find where the names are."""
        self._is_known = True
        fields = (field for field in field_names(elements[0]) if is_name(field))
        self._field = next((f for f in fields if isinstance(getattr(elements[0], f), str)), "")
        if self._field:
            return
        for path in name_list_paths(self._path):
            names = MessagePath(path, self._topic)
            with suppress(ContractError):
                if is_list(names.get(message)):
                    self._names = names
                    return

    def _named(self, message: Any, elements: Any) -> list[str]:
        """What the elements are called; empty where the message does not say."""
        if self._field:
            return [str(getattr(element, self._field)) for element in elements]
        names = [] if self._names is None else list(self._names.get(message))
        return names if len(names) == len(elements) else []
