r"""The networks as ONNX nodes: MLPs with Mish, all with the sign of what they hold turned round.

On a CPU a decision takes as long as its matrix products, the nodes of its activations, and how
many nodes there are. With :math:`a = \frac12 + e^{-x}`,

.. math:: \tanh(\ln(1 + e^x)) = \frac{1}{a + 1 / (4 a)},

which takes five nodes, overflows nowhere and cancels nowhere. Since it starts from :math:`-x`,
a hidden layer is held as :math:`z = -x` and its activation as :math:`-\mathrm{mish}(x)`; the
signs are part of the weights.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from dql_core.export.onnx_builder import OnnxBuilder
from dql_core.networks.actor import DeterministicActor

Array = NDArray[np.float64]


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
