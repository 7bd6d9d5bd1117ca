r"""The networks as ONNX nodes: MLPs with Mish, all with the sign of what they hold turned round.

On a CPU a decision takes as long as its matrix products, the nodes of its activations, and how
many nodes there are. With :math:`a = \frac12 + e^{-x}`,

.. math:: \tanh(\ln(1 + e^x)) = \frac{1}{a + 1 / (4 a)},

which takes five nodes, overflows nowhere and cancels nowhere. Since it starts from :math:`-x`,
a hidden layer is held as :math:`z = -x` and its activation as :math:`-\mathrm{mish}(x)`; the
signs are part of the weights.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import ArrayLike, NDArray
from onnx import helper, numpy_helper
from torch import Tensor, nn

from dql_core import __version__
from dql_core.models.actors import DeterministicActor
from dql_core.models.critic import CriticEnsemble
from dql_core.runtime.onnx_file import IR_VERSION, OPSET

Array = NDArray[np.float64]
Shape = Sequence[int | str]


class OnnxBuilder:
    """Writes a graph node by node, with no node more than is needed; a value has a name."""

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
        """Return ``value @ weight + addend_scale * addend``; the last factor costs nothing.

        Shapes are (B, in), (in, out) and whatever can be broadcast to (B, out).
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


def array_of(tensor: Tensor) -> Array:
    """Return a tensor's values in double precision, in which constants are prepared."""
    values: Array = tensor.detach().cpu().double().numpy()
    return values


@dataclass(frozen=True)
class Linear:
    """A layer :math:`x W + b`.

    Attributes:
        weight: Shape (in, out).
        bias: Shape (out,).
    """

    weight: Array
    bias: Array

    @classmethod
    def of(cls, layer: nn.Module) -> Linear:
        """Read a layer of torch's, whose weight is transposed."""
        weight, bias = (layer.get_parameter(name) for name in ("weight", "bias"))
        return cls(array_of(weight).T, array_of(bias))


@dataclass(frozen=True)
class Observation:
    """The observation as networks see it.

    Attributes:
        centred: Name of the raw observation minus its mean, shape (1, O).
        std: What it is still to be divided by, shape (O,); layers on it divide their weights.
    """

    centred: str
    std: Array

    def linear(self, builder: OnnxBuilder, layer: Linear) -> str:
        """Apply a layer to the normalised observation: (1, out)."""
        weight = layer.weight / self.std[:, None]
        return builder.linear(self.centred, weight, builder.constant(layer.bias))


def negated_mish(builder: OnnxBuilder, negated: str) -> str:
    """Return -mish(x) from -x."""
    # A matrix with a matrix of one number takes less time than with the number.
    shifted = builder.add("Add", builder.add("Exp", negated), builder.constant([[0.5]]))
    inverse = builder.add("Div", builder.constant([[0.25]]), shifted)
    return builder.add("Div", negated, builder.add("Add", shifted, inverse))


def hidden_layer(builder: OnnxBuilder, negated: str, layer: Linear) -> str:
    """Return the layer's negated activations from those of the layer before, (B, out)."""
    entering = builder.linear(negated, layer.weight, builder.constant(-layer.bias))
    return negated_mish(builder, entering)


def output_layer(builder: OnnxBuilder, negated: str, layer: Linear) -> str:
    """Return a layer's output from the negated activations before it, (B, out)."""
    return builder.linear(negated, -layer.weight, builder.constant(layer.bias))


def actor(builder: OnnxBuilder, network: DeterministicActor, observation: Observation) -> str:
    """Return the action of TD3+BC, in [-1, 1], shape (1, A)."""
    first, *hidden = (Linear.of(layer) for layer in network.hidden)
    entering = observation.linear(builder, Linear(-first.weight, -first.bias))
    features = negated_mish(builder, entering)
    for layer in hidden:
        features = hidden_layer(builder, features, layer)
    return builder.add("Tanh", output_layer(builder, features, Linear.of(network.last)))


def critic_values(
    builder: OnnxBuilder, critic: CriticEnsemble, observation: Observation, actions: str
) -> list[str]:
    """Return the value of ``actions``, (K, A) in [-1, 1], by each critic, shape (1, K).

    What the state's value adds is computed once for all actions.
    """
    values = _values(builder, critic, observation, actions)
    if critic.state_value is None:
        return values
    (state_value,) = _values(builder, critic.state_value.network, observation, None)
    return [builder.add("Add", value, state_value) for value in values]


def _values(
    builder: OnnxBuilder, critic: CriticEnsemble, observation: Observation, actions: str | None
) -> list[str]:
    """Return what each network says of K actions, or of the state alone, shape (1, K) or (1, 1).

    The first layers of all critics are one matrix, whose part on the observation is applied once.
    The later ones are matrices of their own, since a batched product is not prepared in advance.
    """
    networks = [_layers_of(critic, index) for index in range(critic.num_critics)]
    firsts = [first for first, *_ in networks]
    all_features = _first_layers(builder, critic.layer_norm, firsts, observation, actions)
    values = []
    for (_, *hidden, last), first_features in zip(networks, all_features, strict=True):
        features = first_features
        for layer in hidden:
            if critic.layer_norm:
                features = _normalized_mish(builder, output_layer(builder, features, layer), layer)
            else:
                features = hidden_layer(builder, features, layer)
        # The one weight vector on the left: ONNX Runtime pads a single column to sixteen.
        weight, bias = builder.constant(-last.weight.T), builder.constant(last.bias)
        values.append(builder.add("Gemm", weight, features, bias, transB=1))
    return values


def _layers_of(critic: CriticEnsemble, index: int) -> list[Linear]:
    """Return the layers of one critic."""
    return [
        Linear(
            array_of(critic.get_parameter(f"layers.{depth}.weight")[index]),
            array_of(critic.get_parameter(f"layers.{depth}.bias")[index, 0]),
        )
        for depth in range(len(critic.layers))
    ]


def _first_layers(
    builder: OnnxBuilder,
    layer_norm: bool,
    layers: list[Linear],
    observation: Observation,
    actions: str | None,
) -> list[str]:
    """Return the negated activations of each critic's first layer, (K, width) or (1, width)."""
    sign = 1.0 if layer_norm else -1.0
    weight = sign * np.concatenate([layer.weight for layer in layers], axis=1)
    bias = sign * np.concatenate([layer.bias for layer in layers])
    size = len(observation.std)
    entering = observation.linear(builder, Linear(weight[:size], bias))  # (1, E * width)
    if actions is not None:
        entering = builder.linear(actions, weight[size:], entering)  # (K, E * width)
    if not layer_norm:
        return builder.split(negated_mish(builder, entering), len(layers), axis=1)
    parts = builder.split(entering, len(layers), axis=1)
    return [_normalized_mish(builder, *pair) for pair in zip(parts, layers, strict=True)]


def _normalized_mish(builder: OnnxBuilder, entering: str, layer: Linear) -> str:
    """Return -mish(layer_norm(x)) from what leaves ``layer``; the scale turns the sign round."""
    scale = builder.constant(np.full(layer.weight.shape[1], -1.0))
    return negated_mish(builder, builder.add("LayerNormalization", entering, scale, axis=-1))
