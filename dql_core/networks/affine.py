"""Matrix products with a bias, in the form that the executing side is fastest at.

Torch's kernels add the bias within the product; compiled code adds it for nothing where it
applies the activation, while a product with a bias would first copy the bias to every row.
"""

from __future__ import annotations

import torch
from torch import Tensor


def affine(features: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Return ``features @ weight.T + bias``: (B, in), (out, in), ([B,] out) -> (B, out)."""
    if torch.compiler.is_dynamo_compiling():
        return torch.mm(features, weight.t()) + bias
    return torch.addmm(bias, features, weight.t())


def batched_affine(features: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Return E products side by side: (E, B, in), (E, in, out), (E, 1, out) -> (E, B, out)."""
    if torch.compiler.is_dynamo_compiling():
        return torch.bmm(features, weight) + bias
    return torch.baddbmm(bias, features, weight)
