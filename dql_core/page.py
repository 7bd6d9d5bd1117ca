"""Pages of html that need no network: what all of them show in one way, and their look.

What they have in common is laid out in ``page.html`` beside this file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import DictLoader, Environment, StrictUndefined, Template

from dql_core.errors import counted

DASH = "\N{EN DASH}"
_SHARED = Path(__file__).with_name("page.html")
Filters = Mapping[str, Callable[..., Any]]
_NO_FILTERS: Filters = {}


def fill(template: Path, filters: Filters = _NO_FILTERS, **values: Any) -> str:
    """Fill in a template of ours.

    Every value is escaped, but for what a filter of ours returns and the template calls safe, and
    none is ever taken for a template; a template names no other file than ``page.html``.

    Args:
        template: A file of ours.
        filters: What it shows values by, besides `shown` and its siblings, by name.
        values: What it shows, by name.
    """
    return _compiled(template, tuple(filters.items())).render(**values)


@cache
def _compiled(template: Path, filters: tuple[tuple[str, Callable[..., Any]], ...]) -> Template:
    environment = Environment(
        autoescape=True,
        undefined=StrictUndefined,
        loader=DictLoader({_SHARED.name: _SHARED.read_text(encoding="utf-8")}),
    )
    environment.filters.update(
        {
            "shown": shown,
            "fixed": fixed,
            "short": short,
            "percent": percent,
            "counted": counted,
            "rows": _rows,
        },
        **dict(filters),
    )
    return environment.from_string(template.read_text(encoding="utf-8"))


def shown(value: str | float | None) -> str:
    """A text as it is, a number with 4 digits, an integer with all of them."""
    if value is None or isinstance(value, str):
        return DASH if value is None else value
    return f"{value:,}" if isinstance(value, int) else f"{value:,.4g}"


def fixed(value: float | None, digits: int = 2) -> str:
    """A number with so many digits after the point."""
    return DASH if value is None else f"{value:.{digits}f}"


def short(value: float | None, digits: int = 4) -> str:
    """A number with so many digits."""
    return DASH if value is None else f"{value:.{digits}g}"


def percent(share: float | None, digits: int = 0) -> str:
    """A share of 1 in percent."""
    return DASH if share is None else f"{share:.{digits}%}"


def _rows(entries: Iterable[Mapping[str, Any]], *keys: str) -> list[list[Any]]:
    return [[entry[key] for key in keys] for entry in entries]
