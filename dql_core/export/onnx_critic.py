"""The critics as ONNX nodes."""

from __future__ import annotations

import numpy as np

from dql_core.export.onnx_builder import OnnxBuilder
from dql_core.export.onnx_networks import (
    Linear,
    Observation,
    array_of,
    hidden_layer,
    negated_mish,
    output_layer,
)
from dql_core.networks.critic import TwinCritic


def critic_values(
    builder: OnnxBuilder, critic: TwinCritic, observation: Observation, actions: str
) -> list[str]:
    """Return the value of ``actions``, (K, A) in [-1, 1], by each critic, shape (1, K).

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


def _layers_of(critic: TwinCritic, index: int) -> list[Linear]:
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
    actions: str,
) -> list[str]:
    """Return the negated activations of each critic's first layer, (K, width)."""
    sign = 1.0 if layer_norm else -1.0
    weight = sign * np.concatenate([layer.weight for layer in layers], axis=1)
    bias = sign * np.concatenate([layer.bias for layer in layers])
    size = len(observation.std)
    context = observation.linear(builder, Linear(weight[:size], bias))  # (1, E * width)
    entering = builder.linear(actions, weight[size:], context)  # (K, E * width)
    if not layer_norm:
        return builder.split(negated_mish(builder, entering), len(layers), axis=1)
    parts = builder.split(entering, len(layers), axis=1)
    return [_normalized_mish(builder, *pair) for pair in zip(parts, layers, strict=True)]


def _normalized_mish(builder: OnnxBuilder, entering: str, layer: Linear) -> str:
    """Return -mish(layer_norm(x)) from what leaves ``layer``; the scale turns the sign round."""
    scale = builder.constant(np.full(layer.weight.shape[1], -1.0))
    return negated_mish(builder, builder.add("LayerNormalization", entering, scale, axis=-1))
