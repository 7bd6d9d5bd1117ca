"""Loops over numbers: what an ONNX graph computes number by number, as few functions of C."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from dql_core.export.c.program import (
    ELEMENTWISE,
    Dims,
    Length,
    Program,
    Stage,
    numeric_inputs,
)
from dql_core.runtime.onnx_file import Node

_BINARY = {"Add": "+", "Sub": "-", "Mul": "*", "Div": "/"}
_CALLS = {"Exp": "exponential", "Sqrt": "sqrtf", "Tanh": "tanhf"}


@dataclass(frozen=True)
class Loop:
    """One loop over the numbers of a value.

    Attributes:
        lengths: How far each of the nested loops goes.
        body: Statements of the innermost one, over ``x0[...]``, ``x1[...]``, ... and ``y[...]``.
        operands: The arrays x0, x1, ...
        in_place: Those of the operands that y may be.
    """

    lengths: tuple[Length, ...]
    body: tuple[str, ...]
    operands: tuple[str, ...]
    in_place: frozenset[str]


def build_loop(program: Program, name: str, dims: Callable[[str, Stage], Dims]) -> Loop:
    """Return the loop that computes the value ``name``, with all that is inlined there.

    Args:
        program: The graph.
        name: Of the value.
        dims: Gives the lengths of a value as they are known in a stage.
    """
    stage = program.stages[name]
    body = _Body(program)
    result = body.compute(program.producers[name])
    whole = dims(name, stage)
    masks = [_mask(dims(each, stage), whole) for each in body.operands]
    lengths, masks = _collapsed(whole, masks)
    statements = [*body.statements, f"y[{_index((True,) * len(lengths))}] = {result};"]
    for index, mask in enumerate(masks):
        place = f"x{index}[{_index(mask)}]"
        statements = [each.replace(f"@{index}@", place) for each in statements]
    full = (each for each, mask in zip(body.operands, masks, strict=True) if all(mask))
    return Loop(tuple(lengths), tuple(statements), tuple(body.operands), frozenset(full))


class _Body:
    """Statements in the making; ``@0@`` stands for the element of the first operand."""

    def __init__(self, program: Program) -> None:
        self.operands: list[str] = []
        self.statements: list[str] = []
        self._program = program
        self._atoms: dict[str, str] = {}

    def _atom(self, name: str) -> str:
        """Return a value as a literal, a variable of the loop or an element of an array."""
        if name not in self._atoms:
            constant = self._program.constants.get(name)
            if constant is not None and constant.size == 1:
                self._atoms[name] = literal(constant.item())
            elif name in self._program.inlined:
                text = self.compute(self._program.producers[name])
                variable = f"t{len(self.statements)}"
                self.statements.append(f"const float {variable} = {text};")
                self._atoms[name] = variable
            else:
                self._atoms[name] = f"@{len(self.operands)}@"
                self.operands.append(name)
        return self._atoms[name]

    def compute(self, node: Node) -> str:
        """Return the expression of a node's output."""
        first, *others = (self._atom(name) for name in numeric_inputs(node))
        if node.operator in _BINARY:
            return f"{first} {_BINARY[node.operator]} {others[0]}"
        if node.operator in _CALLS:
            return f"{_CALLS[node.operator]}({first})"
        if node.operator == "Clip":
            low, high = others
            return f"{first} < {low} ? {low} : ({first} > {high} ? {high} : {first})"
        if node.operator in ("Max", "Min"):
            return self._extreme(">" if node.operator == "Max" else "<", first, others)
        assert node.operator in ELEMENTWISE, node.operator  # Expand
        return first

    def _extreme(self, sign: str, first: str, others: list[str]) -> str:
        """Return the largest or smallest; one that is no number is kept."""
        for other in others[:-1]:
            variable = f"t{len(self.statements)}"
            text = _kept(sign, first, other)
            self.statements.append(f"const float {variable} = {text};")
            first = variable
        return _kept(sign, first, others[-1]) if others else first


def _mask(dims: Dims, whole: Dims) -> tuple[bool, ...]:
    """Return along which lengths an operand has numbers of its own."""
    padded = (Length(1),) * (len(whole) - len(dims)) + dims
    return tuple(each != Length(1) for each in padded)


def literal(value: float) -> str:
    """Return a float32 as a constant of C that reads back as itself."""
    if not np.isfinite(value):
        raise ValueError(f"{value} is no constant of C")
    text = f"{np.float32(value):.9g}"
    text = text if any(sign in text for sign in ".e") else f"{text}.0"
    return f"({text}f)" if value < 0 else f"{text}f"


def _kept(sign: str, first: str, second: str) -> str:
    return f"{first} {sign} {second} || {first} != {first} ? {first} : {second}"


def _collapsed(
    whole: Dims, masks: list[tuple[bool, ...]]
) -> tuple[list[Length], list[tuple[bool, ...]]]:
    """Merge neighbouring lengths along which all operands go in step; there is one at least."""
    lengths: list[Length] = []
    kept: list[tuple[bool, ...]] = []  # of each length: which operands have it
    for index, length in enumerate(whole):
        if length == Length(1):
            continue
        having = tuple(mask[index] for mask in masks)
        if kept and kept[-1] == having:
            grows = lengths[-1].grows or length.grows
            lengths[-1] = Length(lengths[-1].count * length.count, grows)
        else:
            lengths.append(length)
            kept.append(having)
    if not lengths:
        return [Length(1)], [(True,) for _ in masks]
    return lengths, [tuple(having[index] for having in kept) for index in range(len(masks))]


def _index(mask: tuple[bool, ...]) -> str:
    """Return the index of a number in an array that has the lengths of ``mask``."""
    text = ""
    for place, has in enumerate(mask):
        if has:
            outer = f"({text})" if " " in text else text
            text = f"{outer} * n{place} + i{place}" if text else f"i{place}"
    return text or "0"
