"""The contract that a recording carries, on its way into a file of the user's own.

A contract may name Python functions, which are imported when it is checked or converted by. A
recording is data and may be anybody's, so what it says of code is left out, with what was there in
comments.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml
from yaml.nodes import MappingNode, Node

from dql_core.errors import ContractError
from dql_core.strict_yaml import MAX_YAML_BYTES, compose_yaml, load_yaml
from dql_ros.bag.metadata import dump
from dql_ros.tools.contract_draft.yaml_text import comment

FUNCTION = "function"
# Where a contract may name functions.
_PLACES: tuple[tuple[str, ...], ...] = (("reward",), ("episode", "terminated"))
_HINT = (
    "LEFT OUT, since a recording may be anybody's and this names code: remove the '#' in front of "
    "it where you trust that code."
)


@dataclass(frozen=True)
class CarriedContract:
    """A carried contract without its code.

    Attributes:
        text: The file's content.
        left_out: The functions that it named, each with its key: ``reward (module:function)``.
    """

    text: str
    left_out: tuple[str, ...]


def without_code(carried: str) -> CarriedContract:
    """Comment out what a carried contract says of code; the rest stays as it is.

    Raises:
        ContractError: If it is no contract: too long, no yaml mapping, or with code in other
            places. It says half a sentence.
    """
    if len(carried) > MAX_YAML_BYTES:
        raise ContractError(f"is longer than {MAX_YAML_BYTES:,} bytes")
    text = "".join(map(_visible, carried.replace("\r\n", "\n")))
    try:
        document = load_yaml(text)
        root = compose_yaml(text)
    except yaml.YAMLError as cause:
        raise ContractError(f"is no valid yaml: {' '.join(str(cause).split())}") from cause
    if not isinstance(document, dict):
        raise ContractError("is no mapping of keys")
    places = [place for place in _PLACES if any(_functions(_at(document, place)))]
    left_out = [
        f"{'.'.join(place)} ({name})"
        for place in places
        for name in _functions(_at(document, place))
    ]
    rest = _without(document, places)
    if any(_functions(rest)):
        raise ContractError("names code where a contract has none")
    return CarriedContract(_commented(text, root, places, rest), tuple(left_out))


def _functions(section: Any) -> Iterator[str]:
    """Yield what any mapping in a section calls a function, however deep it lies."""
    if isinstance(section, Mapping):
        if FUNCTION in section:
            yield str(section[FUNCTION])[:80]
        for each in section.values():
            yield from _functions(each)
    elif isinstance(section, list | tuple | set):
        for each in section:
            yield from _functions(each)


def _at(document: Any, place: tuple[str, ...]) -> Any:
    for key in place:
        document = document.get(key) if isinstance(document, Mapping) else None
    return document


def _without(document: dict[str, Any], places: list[tuple[str, ...]]) -> dict[str, Any]:
    """The document without these sections, nor those that are empty without them."""
    rest = dict(document)
    for key, *inner in places:
        if inner and (left := {k: v for k, v in rest[key].items() if k != inner[0]}):
            rest[key] = left
        else:
            del rest[key]
    return rest


def _commented(
    text: str, root: Node | None, places: list[tuple[str, ...]], rest: dict[str, Any]
) -> str:
    """Return the text with the sections in comments; what is left means ``rest``."""
    lines = text.split("\n")
    try:
        spans = sorted((_span(lines, root, place, rest) for place in places), reverse=True)
        for first, end in spans:
            lines[first:end] = _hint(lines[first:end])
        commented = "\n".join(lines)
        if load_yaml(commented) == rest:
            return commented
    except (ValueError, yaml.YAMLError):
        pass
    # A section shares lines or anchors with the rest, which is written anew.
    return "\n".join([*_hint(text.split("\n")), "", dump(rest)])


def _hint(lines: Sequence[str]) -> list[str]:
    return [*comment(_HINT), *(f"# {line}".rstrip() for line in lines)]


def _span(
    lines: Sequence[str], root: Node | None, place: tuple[str, ...], rest: dict[str, Any]
) -> tuple[int, int]:
    """First line of a section, and the line after it; of the outer one if that ends with it."""
    mapping = root
    first = end = 0
    for key in place:
        pairs = mapping.value if isinstance(mapping, MappingNode) else []
        index = [name.value for name, _ in pairs].index(key)  # raises ValueError
        value = pairs[index][1]
        first = pairs[index][0].start_mark.line
        is_flow = not isinstance(value, yaml.CollectionNode) or value.flow_style
        end = value.end_mark.line + bool(is_flow)
        if index + 1 < len(pairs):
            end = pairs[index + 1][0].start_mark.line
        if key not in rest:
            break
        mapping = value
    while end > first + 1 and not lines[end - 1].partition("#")[0].strip():
        end -= 1  # what is before the next section belongs to that
    return first, end


def _visible(character: str) -> str:
    """Escape what a terminal or an editor would not show, as yaml does between quotes."""
    if character.isprintable() or character in "\n\t":
        return character
    return character.encode("unicode_escape").decode()
