"""What names show: why no message has all that is selected, and when one means another thing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dql_core.errors import ContractError, listed, nearest
from dql_ros.codecs.message_path import JOINTS, MAX_LISTED, AbsentError, MessagePath
from dql_ros.contract import ActionStream, Stream
from dql_ros.contract.field import Named, join_steps, split_path

# Messages that name other elements are remembered up to so many kinds.
MAX_KINDS = 100


def selected_names(stream: Stream) -> dict[str, tuple[str, ...]]:
    """Return the names that a stream selects, by the list of names: its joints, and others."""
    found: dict[str, dict[str, None]] = {}
    for joint in stream.joints:
        found.setdefault(JOINTS, {})[joint] = None
    for field in stream.fields:
        for step in split_path(field.path):
            if isinstance(step, Named):
                found.setdefault(step.key, {})[step.value] = None
    return {key: tuple(names) for key, names in found.items()}


class NamesSeen:
    """Remembers which names came together in messages that lack some.

    Args:
        stream: What selects them.
    """

    def __init__(self, stream: Stream) -> None:
        self._topic = stream.topic
        self._is_command = isinstance(stream, ActionStream)
        self._selected = selected_names(stream)
        self._kinds: dict[tuple[str, tuple[str, ...]], str] = {}

    def note(self, absence: AbsentError) -> None:
        """Take in what a message lacks, and what it names."""
        if len(self._kinds) < MAX_KINDS:
            self._kinds.setdefault((absence.list_, absence.names), str(absence))

    def explanation(self) -> str:
        """Say why no message has all, if none has; empty if there was no such message."""
        if not self._kinds:
            return ""
        lists = {list_ for list_, _ in self._kinds}
        wanted = self._selected.get(lists.pop(), ()) if len(lists) == 1 else ()
        for (_, names), text in self._kinds.items():
            if set(wanted) <= set(names):
                return text
        kinds = [names for _, names in self._kinds]
        known = tuple(dict.fromkeys(name for names in kinds for name in names))
        if not known:
            return next(iter(self._kinds.values()))
        missing = [name for name in wanted if name not in known]
        return self._nowhere(missing, known) if missing else self._apart(wanted, kinds)

    def _nowhere(self, missing: Sequence[str], known: Sequence[str]) -> str:
        named = [f"'{name}'{nearest(name, known)}" for name in missing]
        return (
            f"{self._topic}: no message has {', '.join(named)}; the messages name: "
            f"{listed(known, MAX_LISTED)}; correct the names in the contract"
        )

    def _apart(self, wanted: Sequence[str], kinds: Sequence[Sequence[str]]) -> str:
        sets = dict.fromkeys(tuple(n for n in wanted if n in names) for names in kinds)
        parts = [
            each for each in sets if each and not any(set(each) < set(other) for other in sets)
        ]
        text = (
            f"{self._topic}: no message has all of {', '.join(wanted)}; they come apart: "
            f"{'; '.join(', '.join(part) for part in parts)}"
        )
        if self._is_command:
            return f"{text}; a command is one message: select what comes together"
        return (
            f"{text}; make a stream of each part, with a 'name': "
            f"{{topic: {self._topic}, name: {parts[-1][0]}, ...}}, see 'Messages without it' in "
            f"docs/reference/contract.md"
        )


class ParentFrames:
    """Sees that what is selected by name stays below one frame: a transform has one parent.

    Args:
        stream: What selects it.
    """

    def __init__(self, stream: Stream) -> None:
        self._topic = stream.topic
        self._parents = {
            element: MessagePath(f"{element}.header.frame_id", stream.topic)
            for element in map(_named_element, (field.path for field in stream.fields))
            if element
        }
        self._known: dict[str, str] = {}

    def check(self, message: Any) -> None:
        """Compare the frames with those of the messages before.

        Raises:
            ContractError: If one is another, so that the numbers mean another thing.
        """
        for element, path in list(self._parents.items()):
            try:
                frame = path.get(message)
            except AbsentError:
                continue
            except ContractError:  # it has no header
                del self._parents[element]
                continue
            known = self._known.setdefault(element, frame)
            if frame != known:
                raise ContractError(
                    f"{self._topic}: '{element}' is in the frame '{frame}' here and was in "
                    f"'{known}' before, so several nodes publish it; only one of them should"
                )


def _named_element(path: str) -> str:
    """The element that a path selects by name last; empty if there is none."""
    steps = split_path(path)
    last = max((at for at, step in enumerate(steps) if isinstance(step, Named)), default=-1)
    return join_steps(steps[: last + 1])
