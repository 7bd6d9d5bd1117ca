"""Yaml as a person writes a contract: short flow mappings, with comments."""

from __future__ import annotations

import json
import re
import sys
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from dql_core.plain_yaml import load_yaml

WIDTH = 99
# Plain text in flow style: nothing that yaml gives a meaning to.
PLAIN = re.compile(r"[\w/~.][\w/~.^ -]*", re.ASCII)


def flow(value: Any) -> str:
    """Return a value in yaml's flow style, on one line."""
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{key}: {flow(each)}' for key, each in value.items())}}}"
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, Sequence):
        return f"[{', '.join(map(flow, value))}]"
    if isinstance(value, float):
        return _number(value)
    return json.dumps(value)


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


def _text(text: str) -> str:
    try:
        is_plain = PLAIN.fullmatch(text) is not None and load_yaml(text) == text
    except yaml.YAMLError:
        is_plain = False
    if is_plain:
        return text
    return yaml.safe_dump(text, default_style='"', width=sys.maxsize).strip()


def _number(number: float) -> str:
    text = repr(number)
    # YAML 1.1 takes a number without a point for a text: 1e-05.
    return re.sub(r"^(-?\d+)e", r"\1.0e", text)
