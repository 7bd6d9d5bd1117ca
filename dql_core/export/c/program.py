"""A policy's ONNX graph in the order in which C computes it: once, for each candidate, at the end.

What depends on the observation alone is computed once a decision, what depends on a candidate's
noise for a few candidates at a time, so that memory does not grow with their number, and the
choice among them at the end. All three are the graph itself; nothing here knows which networks it
holds. A graph whose candidates depend on each other before the choice is refused.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from dql_core.errors import BundleError
from dql_core.runtime.onnx_check import shapes_of
from dql_core.runtime.onnx_file import FLOAT, Graph, Node

# Operators that make each number of their output of one number of each input.
ELEMENTWISE = {
    *("Add", "Sub", "Mul", "Div", "Max", "Min", "Exp", "Sqrt", "Tanh", "Clip", "Expand"),
}
VIEWS = {"Reshape", "Split"}
# Of what is computed in one loop without arrays between; the values of 64 critics take some 130.
MAX_DEPTH = 150


class Stage(IntEnum):
    """When a value is computed; later ones may use earlier ones."""

    SHARED = 0
    CANDIDATE = 1
    CHOICE = 2


@dataclass(frozen=True)
class Length:
    """A length of an array: ``count``, or ``count`` for each candidate."""

    count: int
    grows: bool = False

    def __mul__(self, factor: int) -> Length:
        return Length(self.count * factor, self.grows)


Dims = tuple[Length, ...]


@dataclass(frozen=True)
class View:
    """Where a value lies: in the array of another, from ``offset`` on."""

    root: str
    offset: Length


@dataclass(frozen=True)
class Program:
    """A graph whose values have stages, sizes and places.

    Attributes:
        nodes: Those that compute something, stage by stage, each in the graph's order.
        stages: Of each value.
        dims: Of each value.
        views: Of each value that is part of another.
        inlined: Values that are no arrays: computed within the loop that uses them.
        constants: Arrays of the graph, float32.
        producers: The node of each value.
        outputs: What the graph returns.
    """

    nodes: tuple[Node, ...]
    stages: Mapping[str, Stage]
    dims: Mapping[str, Dims]
    views: Mapping[str, View]
    inlined: frozenset[str]
    constants: Mapping[str, NDArray[np.float32]]
    producers: Mapping[str, Node]
    outputs: frozenset[str]

    @classmethod
    def of(cls, graph: Graph, unused: Set[str] = frozenset()) -> Program:
        """Put a graph in order.

        Args:
            graph: A policy's, `dql_core.runtime.onnx_check.require_policy_graph`.
            unused: Outputs that need not be computed.

        Raises:
            BundleError: If candidates depend on each other before one is chosen, a weight is not
                finite, or something is computed with integers or clipped to no range.
        """
        dims = _dims(graph)
        outputs = frozenset(graph.outputs) - unused
        stages = _stages(graph, dims)
        computing = list(_needed(graph, outputs))[::-1]
        constants = _constants(graph)
        for node in computing:
            _require_separate(node, stages, dims, graph)
            if (graph.constants.keys() - constants.keys()) & set(numeric_inputs(node)):
                raise _refused(f"computes with integers by '{node.operator}'")
            if node.operator == "Clip" and not _is_range(*map(constants.get, node.inputs[1:])):
                raise _refused("clips to what is no range of two numbers")
        views = dict(_views(computing, dims, outputs))
        return cls(
            nodes=tuple(sorted(computing, key=lambda node: stages[node.outputs[0]])),
            stages=stages,
            dims=dims,
            views=views,
            inlined=frozenset(_inlined(computing, stages, dims, outputs)),
            constants=constants,
            producers={name: node for node in computing for name in node.outputs},
            outputs=outputs,
        )

    def place(self, name: str) -> View:
        """Return where a value lies."""
        view = self.views.get(name, View(name, Length(0)))
        if view.root == name:
            return view
        outer = self.place(view.root)
        grows = view.offset.grows or outer.offset.grows
        return View(outer.root, Length(outer.offset.count + view.offset.count, grows))


def numeric_inputs(node: Node) -> tuple[str, ...]:
    """Return a node's inputs but for those that are shapes."""
    if node.operator in ("Reshape", "Expand"):
        return node.inputs[:1]
    return () if node.operator == "ConstantOfShape" else node.inputs


def size(dims: Dims) -> Length:
    """Return how many numbers a value has."""
    return Length(math.prod(each.count for each in dims), any(each.grows for each in dims))


def _constants(graph: Graph) -> dict[str, NDArray[np.float32]]:
    found = {}
    for name, constant in graph.constants.items():
        if constant.dtype == FLOAT:
            found[name] = np.frombuffer(constant.data, "<f4").reshape(constant.shape)
            if not np.isfinite(found[name]).all():
                raise _refused("has a weight that is not finite")
    return found


def _is_range(
    low: NDArray[np.float32] | None = None, high: NDArray[np.float32] | None = None
) -> bool:
    """Whether these are two numbers in their order: of others, each program makes its own."""
    if low is None or high is None or low.size != 1 or high.size != 1:
        return False
    return bool(low.item() <= high.item())


def _needed(graph: Graph, outputs: Set[str]) -> Iterator[Node]:
    """Yield the nodes that the outputs depend on, the last one first."""
    needed = set(outputs)
    for node in reversed(graph.nodes):
        if needed & set(node.outputs):
            needed |= set(numeric_inputs(node))
            yield node


def _dims(graph: Graph) -> dict[str, Dims]:
    """Find which lengths grow, by comparing two numbers of candidates."""
    two, three = shapes_of(graph, 2), shapes_of(graph, 3)
    found = {}
    for name, shape in two.items():
        lengths = []
        for small, large in zip(shape, three[name], strict=True):
            grows = small != large
            if grows and 3 * small != 2 * large:
                raise _refused(f"has a value of {small} numbers for two candidates, {large} for 3")
            lengths.append(Length(small // 2 if grows else small, grows))
        if sum(each.grows for each in lengths) > 1:
            raise _refused("has a value that grows along two axes")
        found[name] = tuple(lengths)
    return found


def _stages(graph: Graph, dims: Mapping[str, Dims]) -> dict[str, Stage]:
    stages = dict.fromkeys(graph.constants, Stage.SHARED)
    stages |= {
        "observation": Stage.SHARED,
        "noise": Stage.CANDIDATE,
        "selection_noise": Stage.CHOICE,
    }
    for node in graph.nodes:
        stage = max((stages[name] for name in numeric_inputs(node)), default=Stage.SHARED)
        if node.operator == "Shape":
            stage = Stage.SHARED
        elif node.operator in ("ReduceMean", "ArgMax", "Gather"):
            stage = Stage.CHOICE
        elif any(size(dims[name]).grows for name in node.outputs):
            stage = max(stage, Stage.CANDIDATE)
        stages |= dict.fromkeys(node.outputs, stage)
    return stages


def _require_separate(
    node: Node, stages: Mapping[str, Stage], dims: Mapping[str, Dims], graph: Graph
) -> None:
    """Refuse a node before the choice that makes a candidate's numbers of another's."""
    stage = stages[node.outputs[0]]
    if stage is Stage.CHOICE:
        for name in numeric_inputs(node):
            if stages[name] is Stage.CANDIDATE and name not in graph.outputs:
                raise _refused("chooses by more than its candidates and their values")
        return
    if stage is not Stage.CANDIDATE:
        return
    output = dims[node.outputs[0]]
    if not size(output).grows or not _is_separate(node, dims, graph):
        raise _refused(f"makes candidates of each other by '{node.operator}'")


def _is_separate(node: Node, dims: Mapping[str, Dims], graph: Graph) -> bool:
    inputs = [dims[name] for name in numeric_inputs(node)]
    output = dims[node.outputs[0]]
    if node.operator == "Reshape":
        return _keeps_apart(node, inputs[0], output, graph)
    if node.operator == "Split":
        return _growing(output).count == 1
    growing = [each for each in (output, *inputs) if size(each).grows]
    is_one_each = all(_growing(each).count == 1 for each in growing)
    return is_one_each and _keeps_its_rows(node, inputs, output)


def _keeps_its_rows(node: Node, inputs: list[Dims], output: Dims) -> bool:
    if node.operator == "Gemm":
        growing = [size(each).grows for each in inputs[:2]]
        if node.attributes.get("transB"):
            return inputs[1][0].grows and not growing[0] and not size(inputs[2]).grows
        return inputs[0][0].grows and not growing[1]
    if node.operator == "LayerNormalization":
        return output[0].grows and len(output) == 2
    # What grows is as far from the last length as in the output.
    return len({_from_the_end(each) for each in (output, *inputs) if size(each).grows}) == 1


def _keeps_apart(node: Node, before: Dims, after: Dims, graph: Graph) -> bool:
    """Whether a Reshape leaves the candidates' numbers in their blocks.

    It may merge the leading lengths where all who use that take them apart again.
    """
    users = [each for each in graph.nodes if node.outputs[0] in each.inputs]
    count = _growing(after).count
    split_again = after[0].grows and all(
        each.operator == "Split"
        and each.attributes.get("axis", 0) == 0
        and len(each.outputs) == count
        for each in users
    )
    return _around(before) == _around(after) and (count == 1 or split_again)


def _growing(dims: Dims) -> Length:
    return next(each for each in dims if each.grows)


def _from_the_end(dims: Dims) -> int:
    return next(index for index, each in enumerate(reversed(dims)) if each.grows)


def _around(dims: Dims) -> tuple[int, int]:
    """How many numbers there are for each candidate: blocks before it, and numbers in each."""
    if not size(dims).grows:
        return 0, 0
    at = len(dims) - 1 - _from_the_end(dims)
    before = math.prod(each.count for each in dims[:at]) * dims[at].count
    return before, math.prod(each.count for each in dims[at + 1 :])


def _views(
    nodes: list[Node], dims: Mapping[str, Dims], outputs: frozenset[str]
) -> Iterator[tuple[str, View]]:
    """Yield the values that need no array of their own."""
    for node in nodes:
        if node.operator not in VIEWS or outputs & set(node.outputs) or is_strided(node, dims):
            continue
        part = size(dims[node.outputs[0]])
        for index, name in enumerate(node.outputs):
            yield name, View(node.inputs[0], part * index)


def is_strided(node: Node, dims: Mapping[str, Dims]) -> bool:
    """Whether the parts of a Split do not lie one after the other."""
    if node.operator != "Split":
        return False
    whole = dims[node.inputs[0]]
    axis = range(len(whole))[int(node.attributes.get("axis", 0))]
    return any(each != Length(1) for each in whole[:axis])


def _inlined(
    nodes: list[Node],
    stages: Mapping[str, Stage],
    dims: Mapping[str, Dims],
    outputs: frozenset[str],
) -> Iterator[str]:
    """Yield what is used only where numbers of the same place are computed of it."""
    users: dict[str, list[Node]] = {}
    for node in nodes:
        for name in numeric_inputs(node):
            users.setdefault(name, []).append(node)
    depths: dict[str, int] = {}
    for node in nodes:
        name = node.outputs[0]
        depth = 1 + max((depths.get(each, 0) for each in numeric_inputs(node)), default=0)
        if node.operator not in ELEMENTWISE or name in outputs or depth > MAX_DEPTH:
            continue
        if all(
            user.operator in ELEMENTWISE
            and stages[user.outputs[0]] == stages[name]
            and dims[user.outputs[0]] == dims[name]
            for user in users.get(name, [])
        ):
            depths[name] = depth
            yield name


def _refused(reason: str) -> BundleError:
    return BundleError(f"the graph {reason}: no C can be written of it; use the bundle itself")
