"""The decision of a policy as C: calls of a few kernels and loops, and arrays of weights."""

from __future__ import annotations

import textwrap
from importlib import resources
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dql_core.errors import BundleError
from dql_core.export.c.maps import Loop, build_loop, literal
from dql_core.export.c.memory import Arena
from dql_core.export.c.program import (
    ELEMENTWISE,
    Dims,
    Length,
    Program,
    Stage,
    numeric_inputs,
    size,
)
from dql_core.runtime.onnx_file import Node

# Each after what it uses.
KERNELS = ("exponential", "linear", "dots", "normalized", "part", "mean", "largest")
NUMBERS_A_LINE = 8
LINE_LENGTH = 100
# Four bytes each in the robot's memory, and some dozen in the file.
MAX_WEIGHTS = 1 << 22
MAX_CALLS = 20_000
_OUTPUTS = ("q_values", "candidates")
_ARENAS = {Stage.SHARED: "shared", Stage.CANDIDATE: "tile", Stage.CHOICE: "choice"}


class Source:
    """The parts of a C file that compute one program.

    Args:
        program: The graph in order.
        num_candidates: K.
        draws_selection: Whether noise decides among candidates.

    Attributes:
        uses_noise: Whether the candidates depend on noise.
        arenas: Memory of each stage; that of `Stage.CANDIDATE` is for one candidate.
        num_weights: Numbers in its arrays of constants.
        chosen: Name of the value that C keeps in the variable ``chosen``; empty before it does.

    Raises:
        BundleError: If the program is too large, or computes what the kernels cannot.
    """

    def __init__(self, program: Program, num_candidates: int, draws_selection: bool) -> None:
        self.uses_noise = any("noise" in numeric_inputs(node) for node in program.nodes)
        self.arenas = {stage: Arena() for stage in Stage}
        self._program = program
        self._count = num_candidates
        self._draws_selection = draws_selection
        self._weights: dict[str, str] = {}
        self._arrays: list[str] = []
        self.num_weights, self.chosen = 0, ""
        self._functions: dict[tuple[object, ...], str] = {}
        self._kernels: set[str] = set()
        self._calls: dict[Stage, list[str]] = {stage: [] for stage in Stage}
        self._write()

    def calls(self, stage: Stage) -> str:
        """Return the statements of a stage."""
        return "\n".join(self._calls[stage])

    def weights(self) -> str:
        """Return the arrays of weights."""
        return "\n".join(self._arrays)

    def functions(self) -> str:
        """Return the kernels and loops that are called, each once."""
        kernels = [template(f"{name}.c") for name in KERNELS if name in self._kernels]
        loops = [_loop_function(name, *key) for key, name in self._functions.items()]  # type: ignore[arg-type]
        return "\n".join([*kernels, *loops])

    def pointer(self, name: str, stage: Stage) -> str:
        """Return where a value begins, as an expression of C for a call in ``stage``."""
        place = self._program.place(name)
        if place.root in self._program.constants or place.root == "selection_noise":
            start = self._array(place.root)
        elif place.root in _OUTPUTS:
            width = size(self._program.dims[place.root]).count
            start = f"decision->{place.root}"
            if stage is Stage.CANDIDATE:
                start += " + first" + (f" * {width}" if width > 1 else "")
        else:
            own = self._program.stages[place.root]
            start = f"scratch->{_ARENAS[own]}"
            if offset := self.arenas[own].offsets[place.root]:
                start += f" + {offset}" + (" * TILE" if own is Stage.CANDIDATE else "")
        return f"{start} + {_text(place.offset)}" if place.offset.count else start

    def _write(self) -> None:
        program = self._program
        nodes = [
            node
            for node in program.nodes
            if node.outputs[0] not in program.inlined and node.outputs[0] not in program.views
        ]
        if len(nodes) > MAX_CALLS:
            raise BundleError(
                f"the policy takes {len(nodes):,} steps of computation, of which C is written of "
                f"{MAX_CALLS:,} at most: train it with fewer diffusion steps"
            )
        loops = {
            node.outputs[0]: build_loop(program, node.outputs[0], self._dims)
            for node in nodes
            if node.operator in ELEMENTWISE
        }
        reads = [self._reads(node, loops.get(node.outputs[0])) for node in nodes]
        last = {name: index for index, names in enumerate(reads) for name in names}
        for name in ("observation", "noise") if self.uses_noise else ("observation",):
            self.arenas[program.stages[name]].add(name, size(program.dims[name]).count)
        for index, node in enumerate(nodes):
            stage, loop = program.stages[node.outputs[0]], loops.get(node.outputs[0])
            # What is shared is there for all candidates.
            ending = {
                name
                for name in reads[index]
                if last[name] == index and program.stages[name] is stage is not Stage.SHARED
            }
            for name in node.outputs:
                self._reserve(name, stage, loop, ending)
            self._add_call(node, stage, loop)
            for name in ending:
                self.arenas[stage].free(name)

    def _dims(self, name: str, stage: Stage) -> Dims:
        """Return a value's lengths as they are known in a stage: at the end, K is."""
        dims = self._program.dims[name]
        if stage is not Stage.CHOICE:
            return dims
        return tuple(Length(each.count * self._count) if each.grows else each for each in dims)

    def _reads(self, node: Node, loop: Loop | None) -> set[str]:
        """Return the arrays in memory that a node reads."""
        names = loop.operands if loop else numeric_inputs(node)
        roots = {self._program.place(name).root for name in names}
        return roots - self._program.constants.keys() - {"selection_noise"}

    def _reserve(self, name: str, stage: Stage, loop: Loop | None, ending: set[str]) -> None:
        if name not in _OUTPUTS:
            length = size(self._dims(name, stage)).count
            self.arenas[stage].add(name, length, self._overwritten(loop, ending) if loop else ())

    def _overwritten(self, loop: Loop, ending: set[str]) -> list[str]:
        """Return the arrays that a loop reads number by number, and nobody after it."""
        roots = [self._program.place(name).root for name in loop.operands]
        return [
            name
            for name in loop.operands
            if name in loop.in_place & ending and roots.count(name) == 1
        ]

    def _array(self, name: str) -> str:
        """Return the name in C of a constant, which is written where it is used first."""
        if name == "selection_noise" and self._draws_selection:
            return "noise->selection"
        if name not in self._weights:
            values = self._program.constants.get(name, np.zeros(self._count, np.float32))
            self.num_weights += values.size
            if self.num_weights > MAX_WEIGHTS:
                raise BundleError(
                    f"the policy has more than {MAX_WEIGHTS:,} weights, and C is written of no "
                    f"more: train it with a smaller policy.width or critic.width"
                )
            self._weights[name] = f"weights_{len(self._weights)}"
            self._arrays.append(
                constant_array(f"static const float {self._weights[name]}", values)
            )
        return self._weights[name]

    def _add_call(self, node: Node, stage: Stage, loop: Loop | None) -> None:
        if loop is not None:
            self._add_loop(loop, stage, node.outputs[0])
        elif node.operator in _CALLS:
            _CALLS[node.operator](self, node, stage)
        else:
            raise cannot_hold(node)

    def add(self, kernel: str, stage: Stage, *arguments: object) -> None:
        """Add a call of a kernel."""
        if kernel in KERNELS:
            self._kernels.add(kernel)
        self._add_line(f"{kernel}({', '.join(map(str, arguments))});", stage)

    def add_result(self, target: str, kernel: str, stage: Stage, *arguments: object) -> None:
        """Add a call of a kernel that returns a number."""
        self._kernels.add(kernel)
        self._add_line(f"{target} = {kernel}({', '.join(map(str, arguments))});", stage)

    def lengths(self, name: str, stage: Stage) -> list[str]:
        """Return a value's lengths as expressions of C."""
        return [_text(each) for each in self._dims(name, stage)]

    def count(self, name: str, stage: Stage) -> str:
        """Return how many numbers a value has, as an expression of C."""
        return _text(size(self._dims(name, stage)))

    def _add_line(self, text: str, stage: Stage) -> None:
        self._calls[stage].append(_wrapped(text, " " * (8 if stage is Stage.CANDIDATE else 4)))

    def _add_loop(self, loop: Loop, stage: Stage, output: str) -> None:
        key = len(loop.lengths), len(loop.operands), loop.body
        name = self._functions.setdefault(key, f"loop_{len(self._functions)}")
        if any("exponential(" in line for line in loop.body):
            self._kernels.add("exponential")
        pointers = [self.pointer(each, stage) for each in (*loop.operands, output)]
        self.add(name, stage, *map(_text, loop.lengths), *pointers)


def cannot_hold(node: Node) -> BundleError:
    """Return the error of a node that no kernel computes."""
    return BundleError(
        f"the graph uses '{node.operator}' as no C is written of it; use the bundle itself"
    )


def _gemm(source: Source, node: Node, stage: Stage) -> None:
    first, second, added = node.inputs
    output = node.outputs[0]
    factor = float(node.attributes.get("beta", 1.0))
    if not np.isfinite(factor):
        raise cannot_hold(node)
    scale = literal(factor)
    (rows, inner), added_lengths = source.lengths(first, stage), source.lengths(added, stage)
    pointers = [source.pointer(name, stage) for name in (first, second, added, output)]
    if node.attributes.get("transB"):
        if rows != "1" or source.count(added, stage) != "1":
            raise cannot_hold(node)
        count = source.lengths(second, stage)[0]
        source.add("dots", stage, count, inner, *pointers[:2], scale, *pointers[2:])
        return
    columns = source.lengths(output, stage)[1]
    added_rows = added_lengths[0] if len(added_lengths) == 2 else "1"
    if added_lengths[-1] != columns or added_rows not in ("1", rows):
        raise cannot_hold(node)
    a, b, c, y = pointers
    source.add("linear", stage, rows, inner, columns, a, b, scale, c, added_rows, y)


def _layer_normalization(source: Source, node: Node, stage: Stage) -> None:
    values, scale = node.inputs
    lengths = source.lengths(values, stage)
    if node.attributes.get("axis", -1) not in (-1, len(lengths) - 1) or len(lengths) != 2:
        raise cannot_hold(node)
    if source.lengths(scale, stage) != lengths[1:]:
        raise cannot_hold(node)
    pointers = [source.pointer(name, stage) for name in (values, scale, node.outputs[0])]
    source.add("normalized", stage, *lengths, *pointers)


def _split(source: Source, node: Node, stage: Stage) -> None:
    """Copy parts that do not lie one after the other, or that the caller wants."""
    lengths = source.lengths(node.inputs[0], stage)
    axis = range(len(lengths))[int(node.attributes.get("axis", 0))]
    if len(lengths) != 2 or axis != 1:
        raise cannot_hold(node)
    whole = source.pointer(node.inputs[0], stage)
    width = int(source.lengths(node.outputs[0], stage)[1])
    for index, name in enumerate(node.outputs):
        target = source.pointer(name, stage)
        source.add("part", stage, *lengths, index * width, width, whole, target)


def _copy(source: Source, node: Node, stage: Stage) -> None:
    target, values = (source.pointer(name, stage) for name in (node.outputs[0], node.inputs[0]))
    numbers = source.count(node.outputs[0], stage)
    source.add("memcpy", stage, target, values, f"(size_t)({numbers}) * sizeof(float)")


def _zeros(source: Source, node: Node, stage: Stage) -> None:
    numbers = source.count(node.outputs[0], stage)
    target = source.pointer(node.outputs[0], stage)
    source.add("memset", stage, target, 0, f"(size_t)({numbers}) * sizeof(float)")


def _mean(source: Source, node: Node, stage: Stage) -> None:
    values = node.inputs[0]
    target = f"({source.pointer(node.outputs[0], stage)})[0]"
    arguments = source.count(values, stage), source.pointer(values, stage)
    source.add_result(target, "mean", stage, *arguments)


def _arg_max(source: Source, node: Node, stage: Stage) -> None:
    if len(source.lengths(node.inputs[0], stage)) != 1 or source.chosen:
        raise cannot_hold(node)
    source.chosen = node.outputs[0]
    arguments = source.count(node.inputs[0], stage), source.pointer(node.inputs[0], stage)
    source.add_result("chosen", "largest", stage, *arguments)


def _gather(source: Source, node: Node, stage: Stage) -> None:
    values, index = node.inputs
    if index != source.chosen or source.lengths(index, stage) or node.attributes.get("axis", 0):
        raise cannot_hold(node)
    numbers = source.count(node.outputs[0], stage)
    chosen = f"{source.pointer(values, stage)} + chosen * {numbers}"
    target = source.pointer(node.outputs[0], stage)
    source.add("memcpy", stage, target, chosen, f"(size_t)({numbers}) * sizeof(float)")


_CALLS = {
    "ArgMax": _arg_max,
    "ConstantOfShape": _zeros,
    "Gather": _gather,
    "Gemm": _gemm,
    "LayerNormalization": _layer_normalization,
    "ReduceMean": _mean,
    "Reshape": _copy,
    "Split": _split,
}


def template(name: str) -> str:
    """Return the text of a file that C is made from."""
    return (resources.files(__package__) / "templates" / name).read_text(encoding="utf-8")


def constant_array(declaration: str, values: NDArray[Any]) -> str:
    """Return an array of C, which reads back as the float32 numbers given."""
    texts = [literal(value) for value in values.astype(np.float32).ravel().tolist()]
    lines = [
        f"    {', '.join(texts[begin : begin + NUMBERS_A_LINE])},\n"
        for begin in range(0, len(texts), NUMBERS_A_LINE)
    ]
    return f"{declaration}[{len(texts)}] = {{\n{''.join(lines)}}};\n"


def _wrapped(text: str, indent: str = "") -> str:
    """Break a line between arguments."""
    # Blanks that are not behind a comma must not be broken at.
    whole = text.replace(" ", "\0").replace(",\0", ", ")
    lines = textwrap.wrap(
        whole,
        LINE_LENGTH,
        initial_indent=indent,
        subsequent_indent=indent + "    ",
        break_long_words=False,
        break_on_hyphens=False,
    )
    return "\n".join(lines).replace("\0", " ")


def _text(length: Length) -> str:
    if not length.grows:
        return str(length.count)
    return f"rows * {length.count}" if length.count > 1 else "rows"


def _loop_function(name: str, depth: int, num_operands: int, body: tuple[str, ...]) -> str:
    arguments = [f"int n{index}" for index in range(depth)]
    arguments += [f"const float *x{index}" for index in range(num_operands)]
    head = _wrapped(f"static void {name}({', '.join([*arguments, 'float *y'])})")
    counters = ", ".join(f"i{index}" for index in range(depth))
    lines = [head, "{", f"    int {counters};"]
    for index in range(depth):
        pad = "    " * (index + 1)
        lines.append(f"{pad}for (i{index} = 0; i{index} < n{index}; i{index}++) {{")
    lines += ["    " * (depth + 1) + statement for statement in body]
    lines += ["    " * (index + 1) + "}" for index in reversed(range(depth))]
    return "\n".join([*lines, "}", ""])
