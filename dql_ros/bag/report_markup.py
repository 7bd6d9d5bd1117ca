"""The few pieces of html that the conversion report is made of; all text is escaped here."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape


def section(title: str, content: str) -> str:
    """A titled part of the page; nothing where there is no content."""
    return f"<h2>{escape(title)}</h2>{content}" if content else ""


def subsection(title: str, content: str) -> str:
    """A titled part of a section; nothing where there is no content."""
    return f"<h3>{escape(title)}</h3>{content}" if content else ""


def bullets(items: Iterable[str]) -> str:
    """A list; nothing where there is no item."""
    lines = "".join(f"<li>{escape(item)}</li>" for item in items)
    return f"<ul>{lines}</ul>" if lines else ""


def soft(text: str) -> str:
    """A line of small print."""
    return f"<p class=soft>{escape(text)}</p>"


def details(summary: str, content: str, *, is_open: bool) -> str:
    """Content that folds."""
    opened = " open" if is_open else ""
    return f"<details{opened}><summary>{escape(summary)}</summary>{content}</details>"


def table(
    header: Sequence[str | tuple[str, Sequence[str]]],
    rows: Iterable[Sequence[object]],
    *,
    long: Iterable[int] = (),
) -> str:
    """A table that scrolls in its own box; nothing where there is no row.

    Args:
        header: Column titles; a pair is a title over several columns and their own titles.
        rows: One cell a column; ``None`` is shown as a dash, a tuple as a word over
            lines of small print.
        long: Columns of running text, which may be broken into lines; not under a pair.
    """
    wrapped = frozenset(long)
    body = "".join(f"<tr>{_cells(row, wrapped)}</tr>" for row in rows)
    return f"<div class=wide><table>{_head(header, wrapped)}{body}</table></div>" if body else ""


def _cells(row: Sequence[object], wrapped: frozenset[int]) -> str:
    return "".join(
        f"<td{' class=long' if index in wrapped else ''}>{_cell(cell)}</td>"
        for index, cell in enumerate(row)
    )


def _cell(cell: object) -> str:
    if isinstance(cell, tuple):
        word, *small = (escape(str(each)) for each in cell)
        return word + "".join(f"<br><span class=soft>{line}</span>" for line in small)
    return "&ndash;" if cell is None else escape(str(cell))


def _head(header: Sequence[str | tuple[str, Sequence[str]]], wrapped: frozenset[int]) -> str:
    grouped = any(isinstance(each, tuple) for each in header)
    above, below = [], []
    for index, each in enumerate(header):
        if isinstance(each, tuple):
            title, columns = each
            above.append(f"<th colspan={len(columns)}>{escape(title)}</th>")
            below += [f"<th>{escape(column)}</th>" for column in columns]
        else:
            span = " rowspan=2" if grouped else ""
            kind = " class=long" if index in wrapped else ""
            above.append(f"<th{span}{kind}>{escape(each)}</th>")
    second = f"<tr>{''.join(below)}</tr>" if grouped else ""
    return f"<tr>{''.join(above)}</tr>{second}"
