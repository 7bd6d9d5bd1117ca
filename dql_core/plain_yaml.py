"""Yaml of plain values: whatever a text says, it is read or refused soon.

A few lines of yaml can stand for gigabytes, by aliases of aliases and by merge keys (``<<``). So
each node is measured with all that its aliases stand for, before any value is made of it.
"""

from __future__ import annotations

from typing import Any

import yaml
from yaml.composer import Composer
from yaml.constructor import SafeConstructor
from yaml.events import AliasEvent
from yaml.nodes import MappingNode, Node, ScalarNode
from yaml.resolver import Resolver

from dql_core.documents import MAX_DEPTH

# A contract of a thousand fields has a third of it.
MAX_VALUES = 50_000
MAX_NUMBER_LENGTH = 128
MAX_OTHER_KEYS = 1000
_TEXT = "tag:yaml.org,2002:str"
# What SafeConstructor raises beside YAMLError, for example of '!!int x' and of the 31st of June.
_NO_VALUE = (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError)


def load_yaml(text: str, *, max_values: int = MAX_VALUES, doubled: list[str] | None = None) -> Any:
    """Return the plain value that a text describes.

    Args:
        text: One yaml document.
        max_values: Most scalars, lists and mappings that it may stand for.
        doubled: Takes a sentence for each key that appears twice in a mapping, whose last value
            then counts; ``None`` to refuse them.

    Raises:
        yaml.YAMLError: If it is no yaml, has a key twice, contains itself, stands for too much, is
            nested more than `MAX_DEPTH` deep, or asks for another object.
    """
    try:
        return _PlainLoader(text, max_values, doubled).get_single_data()
    except _NO_VALUE as cause:
        raise yaml.YAMLError(f"a value is none: {cause}") from cause


def compose_yaml(text: str) -> Node | None:
    """Return the nodes of a text, whose tags may be of any kind; ``None`` if it is empty.

    Raises:
        yaml.YAMLError: As `load_yaml`.
    """
    try:
        node: Node | None = _PlainLoader(text, MAX_VALUES, None).get_single_node()
    except _NO_VALUE as cause:
        raise yaml.YAMLError(f"a value is none: {cause}") from cause
    return node


try:
    from yaml._yaml import CParser

    class _SafeLoader(Composer, CParser, SafeConstructor, Resolver):
        """yaml's safe loader with the parser in C, which makes it five times as fast.

        Not so yaml's own CSafeLoader, whose composer overruns its stack on deep nesting.
        """

        def __init__(self, text: str) -> None:
            CParser.__init__(self, text)
            Composer.__init__(self)
            SafeConstructor.__init__(self)
            Resolver.__init__(self)

except ImportError:
    from yaml import SafeLoader as _SafeLoader  # type: ignore[assignment]


class _PlainLoader(_SafeLoader):
    """A safe loader that measures what it composes."""

    def __init__(self, text: str, max_values: int, doubled: list[str] | None) -> None:
        super().__init__(text)
        self._max_values = max_values
        self._doubled = doubled
        self._open = 0
        # How many values and how deep a nesting each finished node stands for.
        self._extents: dict[Node, tuple[int, int]] = {}

    def compose_node(self, parent: Node | None, index: Any) -> Node | None:
        is_alias = self.check_event(AliasEvent)
        self._open += 1
        self._require_within(len(self._extents), self._open)
        node = super().compose_node(parent, index)
        self._open -= 1
        if is_alias:
            self._require(node in self._extents, "contains itself", node)
        elif node is not None:
            self._extents[node] = self._extent(node)
        return node

    def _extent(self, node: Node) -> tuple[int, int]:
        if isinstance(node, ScalarNode):
            is_short = node.tag == _TEXT or len(node.value) <= MAX_NUMBER_LENGTH
            self._require(is_short, f"has a number of {len(node.value)} characters", node)
            return 1, 0
        children = node.value
        if isinstance(node, MappingNode):
            self._look_for_doubled(node)
            children = [each for pair in node.value for each in pair]
        extents = [self._extents[child] for child in children]
        size = 1 + sum(size for size, _ in extents)
        depth = 1 + max((depth for _, depth in extents), default=0)
        self._require_within(size, depth, node)
        return size, depth

    def _look_for_doubled(self, mapping: MappingNode) -> None:
        lines: dict[tuple[str, str], int] = {}
        keys = [key for key, _ in mapping.value if isinstance(key, ScalarNode)]
        # Of numbers, unlike texts, somebody can choose many that Python's hash takes for the same.
        others = sum(key.tag != _TEXT for key in keys)
        self._require(others <= MAX_OTHER_KEYS, f"has {others} keys that are no texts", mapping)
        for key in keys:
            line = key.start_mark.line + 1
            if first := lines.get((key.tag, key.value)):
                told = f"key '{key.value[:60]}' appears twice, in line {first} and in line {line}"
                if self._doubled is None:
                    raise yaml.YAMLError(f"{told}: keep one")
                self._doubled.append(told)
            lines[key.tag, key.value] = line

    def _require_within(self, size: int, depth: int, node: Node | None = None) -> None:
        limit = self._max_values
        self._require(size <= limit, f"stands for more than {limit:,} values", node)
        self._require(depth <= MAX_DEPTH, f"is nested more than {MAX_DEPTH} deep", node)

    def _require(self, holds: bool, problem: str, node: Node | None = None) -> None:
        if not holds:
            where = "" if node is None else f"what begins in line {node.start_mark.line + 1} "
            raise yaml.YAMLError(f"{where}{problem}")
