"""A draft's entries of ``observation`` and ``action``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from dql_core.spec import FieldSpec
from dql_ros.contract_draft.field_lines import FieldLine
from dql_ros.contract_draft.studied import StudiedTopic
from dql_ros.contract_draft.yaml_text import entry, flow


@dataclass(frozen=True)
class StreamDraft:
    """One topic of the draft.

    Attributes:
        topic: The topic.
        keys: Its keys besides topic, type and fields, each with a remark.
        fields: Its fields.
    """

    topic: StudiedTopic
    keys: dict[str, tuple[object, str]] = field(default_factory=dict)
    fields: tuple[FieldLine, ...] = ()

    @property
    def specs(self) -> tuple[FieldSpec, ...]:
        """The vector's fields that it fills."""
        used = [line.selection() for line in self.fields if line.used]
        return tuple(spec for each in used for spec in each.fields(self.topic.name))


def with_own_names(streams: Sequence[StreamDraft]) -> list[StreamDraft]:
    """Name fields after the whole topic where its last part does not tell them apart."""
    count = Counter(spec.name for stream in streams for spec in stream.specs)
    return [
        _named(stream) if any(count[spec.name] > 1 for spec in stream.specs) else stream
        for stream in streams
    ]


def stream_text(stream: StreamDraft) -> Iterator[str]:
    """Yield an entry's lines."""
    topic = stream.topic
    yield f"  - topic: {flow(topic.name)}"
    yield f"    type: {flow(topic.msgtype)}"
    for key, (value, remark) in stream.keys.items():
        yield from entry(f"    {key}: {flow(value)}", remark)
    yield "    fields:"
    for line in stream.fields:
        mark = "-" if line.used else "# -"
        yield from entry(f"      {mark} {flow(line.entry)}", line.comment)


def _named(stream: StreamDraft) -> StreamDraft:
    owner = stream.topic.name.strip("/").replace("/", ".")
    prefix = f"{stream.topic.last_segment}."

    def named(line: FieldLine) -> FieldLine:
        specs = line.selection().fields(stream.topic.name) if line.used else ()
        names = [f"{owner}.{spec.name.removeprefix(prefix)}" for spec in specs]
        return replace(line, entry={**line.entry, "names": names}) if names else line

    return replace(stream, fields=tuple(named(line) for line in stream.fields))
