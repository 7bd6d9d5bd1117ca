"""A draft's entries in yaml as a person writes it: short flow mappings, with comments."""

from __future__ import annotations

import sys
import textwrap
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import yaml

from dql_core.spec import FieldSpec
from dql_core.strict_yaml import load_yaml
from dql_ros.bag.metadata import PlainDumper
from dql_ros.tools.contract_draft.field_lines import FieldLine
from dql_ros.tools.contract_draft.topic_profile import TopicProfile

WIDTH = 99


def flow(value: Any) -> str:
    """Return a value in yaml's flow style, on one line, without anchors; also within brackets."""
    text = yaml.dump(
        [value],
        Dumper=PlainDumper,
        default_flow_style=True,
        sort_keys=False,
        width=sys.maxsize,
    )
    return text.strip().removeprefix("[").removesuffix("]")


def comment(text: str, indent: int = 0) -> list[str]:
    """Return a text as lines of comment."""
    margin = " " * indent
    return textwrap.wrap(
        one_line(text),
        WIDTH,
        initial_indent=f"{margin}# ",
        subsequent_indent=f"{margin}# ",
        break_on_hyphens=False,
        break_long_words=False,
    )


def entry(line: str, remark: str = "") -> list[str]:
    """Return a line of yaml with its remark behind it, or above it if the line gets too long."""
    if not remark:
        return _folded(line)
    together = f"{line}  # {one_line(remark)}"
    if len(together) <= WIDTH:
        return [together]
    return [*comment(remark, len(line) - len(line.lstrip())), *_folded(line)]


def _folded(line: str) -> list[str]:
    """Return a line of yaml, or of yaml in a comment, as several if it is long."""
    content = line.lstrip()
    mark = "# " if content.startswith("# ") else ""
    margin = " " * (len(line) - len(content))
    lines = textwrap.wrap(
        content.removeprefix(mark),
        WIDTH - len(margin) - len(mark),
        subsequent_indent="    ",
        break_on_hyphens=False,
        break_long_words=False,
    )
    # Texts with several spaces in a row would lose some of them.
    is_same = load_yaml("\n".join(lines)) == load_yaml(content.removeprefix(mark))
    return [f"{margin}{mark}{each}" for each in lines] if is_same else [line]


def one_line(text: str) -> str:
    """Return a text without what would end a comment, such as names of topics may have."""
    return " ".join("".join(each if each.isprintable() else " " for each in text).split())


@dataclass(frozen=True)
class StreamDraft:
    """One topic of the draft.

    Attributes:
        topic: The topic.
        keys: Its keys besides topic, type and fields, each with a remark.
        fields: Its fields.
    """

    topic: TopicProfile
    keys: dict[str, tuple[object, str]] = field(default_factory=dict)
    fields: tuple[FieldLine, ...] = ()

    @property
    def specs(self) -> tuple[FieldSpec, ...]:
        """The vector's fields that it fills."""
        used = [line.selection() for line in self.fields if line.used]
        return tuple(spec for each in used for spec in each.fields(self.topic.name))


def with_own_names(streams: Sequence[StreamDraft]) -> list[StreamDraft]:
    """Name fields after the whole topic where its last part leaves two with the same name."""
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
