r"""Layers in the form that is fastest, eager or compiled: Mish, and matrix products with a bias.

With :math:`e = e^x` and :math:`n = e (e + 2)`, :math:`\tanh(\ln(1 + e^x)) = n / (n + 2)`; with
:math:`s = \sigma(x)` and :math:`q = s (2 - s)` it is :math:`q / (2 - q)`. Neither cancels; each
takes one exponential. Torch's own Mish takes three transcendental functions an element and costs
more than the matrix product before it on a CPU.

Torch's kernels add a bias within the product; compiled code adds it for nothing where it applies
the activation, while a product with a bias would first copy the bias to every row.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

# Beyond it tanh(ln(1 + e^x)) is 1 in float32, and e^(2x) overflows later.
SATURATION = 20.0


def mish(x: Tensor) -> Tensor:
    r"""Compute :math:`x \tanh(\ln(1 + e^x))` (arXiv 1908.08681); it can be differentiated once."""
    if torch.compiler.is_dynamo_compiling():
        return _fusible(x.float())
    if torch.is_grad_enabled() and x.requires_grad:
        activated: Tensor = _Mish.apply(x)  # type: ignore[no-untyped-call]
        return activated
    return _gate(torch.sigmoid(x)).mul_(x)


def mish_slope(x: Tensor) -> Tensor:
    r"""Return the derivative of `mish`: :math:`w + x s (1 - w^2)`, w and s as in `_Mish`."""
    sigmoid = torch.sigmoid(x)
    product = sigmoid * (2.0 - sigmoid)
    gate = product / (2.0 - product)
    return gate + x * sigmoid * (1.0 - gate * gate)


def _fusible(x: Tensor) -> Tensor:
    """Compute it with the fewest operations, for a compiler that makes one loop of them."""
    # A power of two takes fewer instructions than one of e.
    exponential = torch.exp2(x.clamp(max=SATURATION) * math.log2(math.e))
    product = exponential * (exponential + 2.0)
    return x * (product / (product + 2.0))


def _gate(sigmoid: Tensor) -> Tensor:
    """Return tanh(softplus(x)) from sigmoid(x)."""
    product = torch.add(sigmoid, sigmoid).addcmul_(sigmoid, sigmoid, value=-1.0)
    # Torch's own "2.0 - product" takes twice as long as these two.
    return product.div_(torch.neg(product).add_(2.0))


class _Mish(torch.autograd.Function):
    """Computes the slope beside the value: memory traffic is what bounds it, not arithmetic."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        sigmoid = torch.sigmoid(x)
        gate = _gate(sigmoid)
        # d/dx (x w) = w + x s (1 - w^2) for w = tanh(softplus(x)), whose slope is s (1 - w^2).
        slope = sigmoid.mul_(x)
        slope.addcmul_(slope, gate.square(), value=-1.0).add_(gate)
        ctx.save_for_backward(slope)
        return gate.mul_(x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (slope,) = ctx.saved_tensors
        return torch.mul(gradient, slope)


def affine(features: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Return ``features @ weight.T + bias``: (B, in), (out, in), ([B,] out) -> (B, out)."""
    if torch.compiler.is_dynamo_compiling():
        return torch.mm(features, weight.t()) + bias
    return torch.addmm(bias, features, weight.t())


def hidden_layers(features: Tensor, layers: nn.ModuleList) -> Tensor:
    """Return what linear layers with a Mish after each make of ``features``, (B, in)."""
    for layer in cast("Iterable[nn.Linear]", layers):
        features = mish(affine(features, layer.weight, layer.bias))
    return features


def batched_affine(features: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Return E products side by side: (E, B, in), (E, in, out), (E, 1, out) -> (E, B, out)."""
    if torch.compiler.is_dynamo_compiling():
        return torch.bmm(features, weight) + bias
    return torch.baddbmm(bias, features, weight)
