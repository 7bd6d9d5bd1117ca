"""What a policy depends on of a stream: which numbers of which messages, and in which form.

All other keys of a stream, such as its QoS and its `max_age_s`, may be others on the robot than in
the recordings.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from dql_core.spec import FieldSpec
from dql_ros.contract.field import FieldSelection
from dql_ros.contract.stream import Stream

# A field spec has these for itself, or they are the keys of one element.
_APART = {"names", "unit", "low", "high", "max_rate", "joints", "indices", "offset", "scale"}


def encoded_specs(stream: Stream) -> Iterator[FieldSpec]:
    """Yield the fields of the vector that a stream fills, with where their numbers come from."""
    common: dict[str, Any] = {"topic": stream.resolved_topic(), "type": stream.type}
    if sent := _sent_constants(stream):
        common["constants"] = sent
    for selection in stream.fields:
        encoding = common | _encoding(selection)
        specs = selection.fields(stream.topic)
        elements, shifts = _elements(selection), _shifts(selection)
        for spec, element, shift, rate in zip(
            specs, elements, shifts, selection.max_rates, strict=False
        ):
            yield replace(spec, max_rate=rate, source=encoding | element | shift)


def _encoding(selection: FieldSelection) -> dict[str, Any]:
    """The keys of a selection that say how its numbers are read, where they are not the default.

    A key that is new to a selection counts, unless `_APART` names it.
    """
    keys = selection.model_dump(mode="json", exclude_defaults=True, exclude=_APART)
    if keys.get("message_unit") == selection.vector_unit:
        del keys["message_unit"]
    return keys


def _elements(selection: FieldSelection) -> list[dict[str, Any]]:
    """What else leads to each number of a selection, one for each; empty without fields."""
    if selection.rotation is not None:
        each = {"indices": list(selection.indices)} if selection.indices else {}
        return [each] * selection.width
    if selection.joints:
        return [{"joint": joint} for joint in selection.joints]
    if selection.indices:
        return [{"index": index} for index in selection.indices]
    return [{}] * selection.width


def _shifts(selection: FieldSelection) -> list[dict[str, Any]]:
    """The offset and the scale of each number of a selection, where they are not the default."""
    offsets: Sequence[Any] = selection.offsets
    if selection.offset == "first":
        offsets = ["first"] * selection.width
    return [
        ({"offset": offset} if offset else {}) | ({"scale": scale} if scale != 1.0 else {})
        for offset, scale in zip(offsets, selection.scales, strict=True)
    ]


def _sent_constants(stream: Stream) -> dict[str, float]:
    """The values that each command carries besides the action, by path and element."""
    return {
        ".".join(str(part) for part in element if part is not None): selection.constant
        for selection in stream.fields
        if selection.constant is not None
        for element in selection.elements
    }
