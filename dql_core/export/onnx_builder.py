"""Writes an ONNX graph node by node, so that it holds no node more than the policy needs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import ArrayLike, NDArray
from onnx import helper, numpy_helper

from dql_core import __version__
from dql_core.runtime.onnx_file import IR_VERSION, OPSET

Shape = Sequence[int | str]


class OnnxBuilder:
    """Collects nodes and constants; a value is known by its name."""

    def __init__(self) -> None:
        self._nodes: list[onnx.NodeProto] = []
        self._constants: dict[tuple[object, ...], onnx.TensorProto] = {}

    def constant(self, values: ArrayLike, dtype: type = np.float32) -> str:
        """Store an array, equal ones once, and return its name."""
        array: NDArray[Any] = np.array(values, dtype, order="C")
        key = array.dtype, array.shape, array.tobytes()
        if key not in self._constants:
            name = f"constant_{len(self._constants)}"
            self._constants[key] = numpy_helper.from_array(array, name)
        stored: str = self._constants[key].name
        return stored

    def add(self, operator: str, *inputs: str, output: str = "", **attributes: Any) -> str:
        """Add a node with one output and return the output's name."""
        name = output or f"{operator.lower()}_{len(self._nodes)}"
        self._nodes.append(helper.make_node(operator, inputs, [name], **attributes))
        return name

    def split(self, value: str, parts: int, axis: int) -> list[str]:
        """Cut a value into equal parts and return their names."""
        if parts == 1:
            return [value]
        names = [f"split_{len(self._nodes)}_{part}" for part in range(parts)]
        node = helper.make_node("Split", [value], names, axis=axis, num_outputs=parts)
        self._nodes.append(node)
        return names

    def linear(
        self, value: str, weight: NDArray[np.float64], addend: str, addend_scale: float = 1.0
    ) -> str:
        """Return ``value @ weight + addend_scale * addend``.

        Args:
            value: Shape (B, in).
            weight: Shape (in, out).
            addend: Anything that can be broadcast to (B, out).
            addend_scale: A factor that costs nothing.
        """
        return self.add("Gemm", value, self.constant(weight), addend, beta=addend_scale)

    def model(
        self, inputs: Mapping[str, Shape], outputs: Mapping[str, Shape], description: str
    ) -> bytes:
        """Return the whole model; all inputs and outputs are float32.

        Args:
            inputs: Shape of each input; a word names a size that is free.
            outputs: Likewise.
            description: For who opens the file.
        """
        graph = helper.make_graph(
            self._nodes,
            "policy",
            _infos(inputs),
            _infos(outputs),
            list(self._constants.values()),
        )
        model = helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid("", OPSET)],
            ir_version=IR_VERSION,
            producer_name="dql_ros",
            producer_version=__version__,
            doc_string=description,
        )
        onnx.checker.check_model(model, full_check=True)
        content: bytes = model.SerializeToString(deterministic=True)
        return content


def _infos(shapes: Mapping[str, Shape]) -> list[onnx.ValueInfoProto]:
    return [
        helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)
        for name, shape in shapes.items()
    ]
