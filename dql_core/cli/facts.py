"""How the command line shows what a file or folder holds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.table import Table
from rich.text import Text

from dql_core.spec import FieldSpec, PolicySpec

Columns = Mapping[str, NDArray[np.floating[Any]]]


def facts_table(title: str, facts: Mapping[str, object]) -> Table:
    """Show labelled facts, one a line; an empty one is left out."""
    table = Table(title=title, title_justify="left", title_style="bold", show_header=False)
    table.add_column(style="cyan", no_wrap=True)
    table.add_column(overflow="fold")
    for label, value in facts.items():
        if value != "":
            table.add_row(label, str(value))
    return table


def plain_table(*headings: str) -> Table:
    """Return an empty table that folds long words and never cuts them."""
    table = Table()
    for heading in headings:
        table.add_column(heading, overflow="fold")
    return table


def spec_facts(spec: PolicySpec) -> dict[str, object]:
    """Facts of a spec beside its fields."""
    return {
        "robot": spec.robot,
        "control rate": f"{spec.rate_hz:g} Hz" if spec.rate_hz else "unknown (no contract)",
        "contract": spec.contract_hash[:12] or "none",
    }


def fields_table(
    spec: PolicySpec, observation: Columns | None = None, action: Columns | None = None
) -> Table:
    """Show the fields of a spec, with further columns where there are any.

    Args:
        spec: The fields.
        observation: One number for each observation field, shape (O,), by column.
        action: One number for each action field, shape (A,), by column.
    """
    columns = list(dict.fromkeys([*(observation or {}), *(action or {})]))
    table = plain_table("field", "unit", "bounds", *columns)
    for kind, fields, numbers in (
        ("observation", spec.observation, observation or {}),
        ("action", spec.action, action or {}),
    ):
        table.add_row(Text(kind, "bold"))
        for index, field in enumerate(fields):
            row = [f"{numbers[name][index]:.4g}" if name in numbers else "" for name in columns]
            table.add_row(f"{index} {field.name}", field.unit, _bounds(field), *row)
        table.add_section()
    return table


def _bounds(field: FieldSpec) -> str:
    if np.isinf(field.low) and np.isinf(field.high):
        return "none"
    return f"{field.low:g} to {field.high:g}"
