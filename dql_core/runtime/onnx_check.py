"""Refuses a graph that is not plainly a policy, before ONNX Runtime sees it.

A bundle may be somebody else's, and then its graph is data: it computes with the operators that
`dql export` writes, from the inputs that the manifest names to its outputs, in memory that is
in proportion to the number of candidates, and does nothing else.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from dql_core.errors import BundleError, counted
from dql_core.runtime.manifest import GRAPH_FILE, Manifest
from dql_core.runtime.onnx_file import INT64, Graph, Node, OnnxError, Shape, read_graph

# What all values of a decision take together; 10 MB with 50 candidates at the paper's sizes.
MAX_BYTES = 1 << 32
# Multiplications of a decision; the paper's sizes take some hundred million.
MAX_PRODUCTS = 1 << 36
# Of float32; the few integers are small.
_NUMBER_BYTES = 4

Sizes = tuple[int, ...]


def require_policy_graph(content: bytes, manifest: Manifest) -> None:
    """Refuse the content of an ONNX file that is not the graph of the policy of ``manifest``.

    Raises:
        BundleError: If it is damaged, asks for anything but plain operators on numbers in the
            file itself, has other inputs or outputs, or values of a size out of all bounds.
    """
    try:
        graph = read_graph(content)
        _require_interface(graph, manifest)
        _require_bounded(graph, manifest.num_candidates)
    except OnnxError as cause:
        raise BundleError(f"{GRAPH_FILE}: {cause}; {cause.remedy}") from cause


def _require_interface(graph: Graph, manifest: Manifest) -> None:
    size, width = len(manifest.policy_spec.observation), len(manifest.policy_spec.action)
    horizon = manifest.horizon
    action: Shape = (width,) if horizon == 1 else (horizon, width)
    inputs: dict[str, Shape] = {
        "observation": (size,),
        "noise": (manifest.sampler.num_noises, "K", horizon * width),
        "selection_noise": ("K",),
    }
    if horizon > 1:
        inputs |= {"committed": action, "committed_weight": (horizon,)}
    outputs: dict[str, Shape] = {
        "action": action,
        "q_values": ("K",),
        "candidates": ("K", *action),
    }
    for kind, found, needed in (
        ("inputs", graph.inputs, inputs),
        ("outputs", graph.outputs, outputs),
    ):
        if found != needed:
            raise OnnxError(
                f"has the {kind} {_listed(found)}, and its manifest needs {_listed(needed)}"
            )


def _require_bounded(graph: Graph, num_candidates: int) -> None:
    """Refuse what takes more memory than there is, or than in proportion to the candidates."""
    (sizes, products), (more, _) = (_costs(graph, count) for count in (2, 3))
    for name, size in sizes.items():
        if 2 * more[name] > 3 * size:
            raise OnnxError(f"has a value '{name:.80}' that grows faster than its candidates")
    total = sum(sizes.values()) // 2 * num_candidates
    if total > MAX_BYTES:
        raise OnnxError(
            f"takes {total:,} bytes to choose among {counted(num_candidates, 'candidate')}, more "
            f"than {MAX_BYTES:,}",
            "choose among fewer",
        )
    if products // 2 * num_candidates > MAX_PRODUCTS:
        raise OnnxError(
            f"takes {products // 2 * num_candidates:,} multiplications to choose among "
            f"{counted(num_candidates, 'candidate')}, more than {MAX_PRODUCTS:,}",
            "choose among fewer",
        )


def shapes_of(graph: Graph, num_candidates: int) -> dict[str, Sizes]:
    """Return the shape of every value of a decision among ``num_candidates``, by its name.

    Raises:
        OnnxError: If the graph has an operator that no policy needs, or values that do not fit it.
    """
    return dict(_shapes(graph, num_candidates).known)


def _shapes(graph: Graph, num_candidates: int) -> _Shapes:
    shapes = _Shapes(graph, num_candidates)
    for node in graph.nodes:
        shapes.follow(node)
    return shapes


def _costs(graph: Graph, num_candidates: int) -> tuple[dict[str, int], int]:
    """Size in bytes of every value of a decision by its name, and its multiplications."""
    shapes = _shapes(graph, num_candidates)
    for name, shape in graph.outputs.items():
        if shapes.of(name) != _fixed(shape, num_candidates):
            raise OnnxError(f"has an output '{name}' of shape {shapes.of(name)}")
    computed = [name for node in graph.nodes for name in node.outputs]
    sizes = {name: _NUMBER_BYTES * math.prod(shapes.of(name)) for name in computed}
    return sizes, shapes.products


class _Shapes:
    """The shapes of a graph's values, found node by node as ONNX defines its operators.

    Attributes:
        products: Multiplications in the matrix products so far.
        known: The shapes found so far, by the name of the value.
    """

    def __init__(self, graph: Graph, num_candidates: int) -> None:
        self.products = 0
        self.known: dict[str, Sizes] = {
            name: constant.shape for name, constant in graph.constants.items()
        }
        # The content of those values that are shapes themselves.
        self._contents: dict[str, Sizes] = {
            name: tuple(constant.integers)
            for name, constant in graph.constants.items()
            if constant.dtype == INT64 and len(constant.shape) == 1 and constant.shape[0] < 9
        }
        for name, shape in graph.inputs.items():
            if name in self.known:
                raise OnnxError(f"has a constant and an input '{name:.80}'")
            self.known[name] = _fixed(shape, num_candidates)

    def of(self, name: str) -> Sizes:
        """Return the shape of a value that was computed before."""
        if name not in self.known:
            raise OnnxError(f"uses '{name:.80}' before it is computed")
        return self.known[name]

    def follow(self, node: Node) -> None:
        """Find the shapes of what a node computes."""
        if node.operator not in _OPERATORS:
            raise OnnxError(f"has the operator '{node.operator:.80}', which no policy needs")
        attributes, arities, rule = _OPERATORS[node.operator]
        kinds = {name: float if name == "beta" else int for name in attributes}
        given = {name: type(value) for name, value in node.attributes.items()}
        if not given.items() <= kinds.items() or len(node.inputs) not in arities:
            raise OnnxError(f"uses the operator '{node.operator}' as no policy needs it")
        try:
            shapes = rule(self, node)
        except (ValueError, IndexError) as cause:
            raise OnnxError(f"has values that do not fit '{node.operator}'") from cause
        if len(shapes) != len(node.outputs):
            raise OnnxError(f"uses the operator '{node.operator}' as no policy needs it")
        for name, shape in zip(node.outputs, shapes, strict=True):
            if not name or name in self.known or any(length < 0 for length in shape):
                raise OnnxError(f"computes '{name:.80}' twice, or of no size")
            self.known[name] = shape

    def inputs(self, node: Node) -> list[Sizes]:
        """Return the shapes of a node's inputs."""
        return [self.of(name) for name in node.inputs]

    def content(self, name: str) -> Sizes:
        """Return the content of a value that is a shape."""
        if name not in self._contents:
            raise OnnxError(f"has a shape '{name:.80}' that depends on what is computed")
        return self._contents[name]

    def remember(self, name: str, content: Sizes) -> None:
        """Keep the content of a value that is a shape."""
        self._contents[name] = content


def _same(shapes: _Shapes, node: Node) -> list[Sizes]:
    return [shapes.inputs(node)[0]]


def _broadcast(shapes: _Shapes, node: Node) -> list[Sizes]:
    return [np.broadcast_shapes(*shapes.inputs(node))]


def _gemm(shapes: _Shapes, node: Node) -> list[Sizes]:
    (rows, inner), second, *_ = shapes.inputs(node)
    other, columns = reversed(second) if node.attributes.get("transB") else second
    if other != inner:
        raise ValueError
    shapes.products += rows * inner * columns
    return [(rows, columns)]


def _split(shapes: _Shapes, node: Node) -> list[Sizes]:
    (shape,), count = shapes.inputs(node), len(node.outputs)
    axis = _axis(node, shape)
    if node.attributes.get("num_outputs") != count or shape[axis] % count:
        raise ValueError
    return [(*shape[:axis], shape[axis] // count, *shape[axis + 1 :])] * count


def _reshape(shapes: _Shapes, node: Node) -> list[Sizes]:
    wanted, total = shapes.content(node.inputs[1]), math.prod(shapes.of(node.inputs[0]))
    given = math.prod(length for length in wanted if length != -1)
    if wanted.count(-1) > 1 or any(length < -1 or length == 0 for length in wanted):
        raise ValueError
    shape = tuple(total // given if length == -1 else length for length in wanted)
    if math.prod(shape) != total:
        raise ValueError
    return [shape]


def _gather(shapes: _Shapes, node: Node) -> list[Sizes]:
    shape, indices = shapes.inputs(node)
    axis = _axis(node, shape)
    return [(*shape[:axis], *indices, *shape[axis + 1 :])]


def _arg_max(shapes: _Shapes, node: Node) -> list[Sizes]:
    (shape,) = shapes.inputs(node)
    axis = _axis(node, shape)
    kept = (1,) if node.attributes.get("keepdims", 1) else ()
    return [(*shape[:axis], *kept, *shape[axis + 1 :])]


def _mean(shapes: _Shapes, node: Node) -> list[Sizes]:
    return [(1,) * len(shapes.inputs(node)[0])]


def _shape_of(shapes: _Shapes, node: Node) -> list[Sizes]:
    content = shapes.inputs(node)[0][int(node.attributes.get("start", 0)) :]
    shapes.remember(node.outputs[0], content)
    return [(len(content),)]


def _of_shape(shapes: _Shapes, node: Node) -> list[Sizes]:
    return [shapes.content(node.inputs[0])]


def _expand(shapes: _Shapes, node: Node) -> list[Sizes]:
    return [np.broadcast_shapes(shapes.of(node.inputs[0]), shapes.content(node.inputs[1]))]


def _axis(node: Node, shape: Sizes) -> int:
    axis = int(node.attributes.get("axis", 0))
    return range(len(shape))[axis]  # counts from the end if it is negative


Rule = Callable[[_Shapes, Node], Sequence[Sizes]]

# What an exported graph is written with: see dql_core/export/onnx_*.py. Of each operator the
# attributes, the possible numbers of inputs, and the shapes of what comes out.
_OPERATORS: dict[str, tuple[set[str], range, Rule]] = {
    **dict.fromkeys(("Add", "Div", "Mul", "Sub"), (set(), range(2, 3), _broadcast)),
    **dict.fromkeys(("Max", "Min"), (set(), range(1, 65), _broadcast)),
    **dict.fromkeys(("Exp", "Sqrt", "Tanh"), (set(), range(1, 2), _same)),
    "ArgMax": ({"axis", "keepdims"}, range(1, 2), _arg_max),
    "Clip": (set(), range(3, 4), _same),
    "ConstantOfShape": (set(), range(1, 2), _of_shape),
    "Expand": (set(), range(2, 3), _expand),
    "Gather": ({"axis"}, range(2, 3), _gather),
    "Gemm": ({"beta", "transB"}, range(3, 4), _gemm),
    "LayerNormalization": ({"axis"}, range(2, 3), _same),
    "ReduceMean": (set(), range(1, 2), _mean),
    "Reshape": (set(), range(2, 3), _reshape),
    "Shape": ({"start"}, range(1, 2), _shape_of),
    "Split": ({"axis", "num_outputs"}, range(1, 2), _split),
}


def _fixed(shape: Shape, num_candidates: int) -> Sizes:
    return tuple(num_candidates if isinstance(length, str) else length for length in shape)


def _listed(shapes: Mapping[str, Shape]) -> str:
    texts = (f"{name:.40} ({', '.join(map(str, shape))})" for name, shape in shapes.items())
    return ", ".join(texts) or "none"
