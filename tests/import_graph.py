"""Which modules are imported with a module, read off the sources: nothing is imported for it."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1]
OURS = ("dql_core", "dql_ros", "tests", "benchmarks", "examples", "scripts")


@cache
def file_of(name: str) -> Path | None:
    """The file of one of our modules; ``None`` for a name within one."""
    path = ROOT.joinpath(*name.split("."))
    found = (path.with_suffix(".py"), path / "__init__.py")
    return next((each for each in found if each.is_file()), None)


def statements(body: list[ast.stmt], *, needed: bool) -> Iterator[ast.Import | ast.ImportFrom]:
    """The imports that are executed when a module is; those of `needing` blocks if asked."""
    for node in body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield node
        elif isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        elif isinstance(node, ast.With) and extra_of(node):
            yield from statements(node.body, needed=needed) if needed else ()
        elif not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            parts = ("body", "orelse", "finalbody")
            for part in parts:
                yield from statements(getattr(node, part, []), needed=needed)


def extra_of(node: ast.With) -> str:
    """The extra that a `needing` block names; empty for another block."""
    call = node.items[0].context_expr
    if isinstance(call, ast.Call) and ast.unparse(call.func) == "needing":
        assert isinstance(call.args[0], ast.Constant)
        return str(call.args[0].value)
    return ""


@cache
def imported(name: str, *, needed: bool) -> frozenset[str]:
    """The modules that importing ``name`` asks for itself, its packages among them."""
    path = file_of(name)
    parts = name.split(".")
    found = {".".join(parts[:end]) for end in range(1, len(parts))}
    if path is None:  # a folder of tests, which needs no __init__.py
        return frozenset(found)
    for node in statements(ast.parse(path.read_text()).body, needed=needed):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        else:
            assert node.module is not None
            within = (f"{node.module}.{alias.name}" for alias in node.names)
            is_ours = node.module.split(".")[0] in OURS
            found |= {node.module, *(each for each in within if is_ours and file_of(each))}
    return frozenset(found)


def third_party(name: str, *, needed: bool = False) -> set[str]:
    """All libraries that are imported with one of our modules."""
    seen: set[str] = set()
    # What is imported on the way is there, or the block that imports it says what is not.
    pending = {name}
    while pending:
        module = pending.pop()
        seen.add(module)
        if module.split(".")[0] in OURS:
            pending |= imported(module, needed=needed) - seen
    roots = {each.split(".")[0] for each in seen}
    return roots - {*OURS, *sys.stdlib_module_names}
