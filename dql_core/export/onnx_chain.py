r"""The reverse process as ONNX nodes.

With the noisy action :math:`a_j` before step j, a step is

.. math:: a_{j+1} = w^a_j a_j + w^c_j \, \mathrm{clip}(\hat a_j) + w^z_j z_j

(`dql_core.models.sampler`). The nodes carry :math:`c_j = (a_j - s_j) / p_j` instead, with
:math:`p_j = \prod_{i<j} w^a_i` and, for ``epsilon``, :math:`s_j = \sqrt{1 - \bar\alpha_j}\, b`,
where b is the bias of the network's last layer. What each step would multiply and add is then
part of the weights and of the noise: a step is the network, a clip and two additions.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dql_core.export.onnx_builder import OnnxBuilder
from dql_core.export.onnx_layers import (
    Array,
    Linear,
    Observation,
    array_of,
    hidden_layer,
    negated_mish,
)
from dql_core.models.denoiser import EMBEDDING_SIZE, Denoiser
from dql_core.models.sampler import ReverseProcess


@dataclass(frozen=True)
class _Units:
    """What turns the N steps of a chain into steps of what is carried.

    Attributes:
        scales: p_j above, shape (N,).
        shifts: s_j above, shape (N, A).
        clean_gains: What multiplies the clean action that a step predicts, shape (N,).
        noise_gains: What multiplies each noise, the chain's start being the first, shape (Z,).
        drifts: What is added together with that noise, or without any, shape (N, A).
    """

    scales: Array
    shifts: Array
    clean_gains: Array
    noise_gains: Array
    drifts: Array

    @classmethod
    def of(cls, process: ReverseProcess, bias: Array) -> _Units:
        """Derive them; ``bias`` is that of the network's last layer, shape (A,)."""
        steps = process.steps
        noisy_weights = np.array([step.noisy_weight for step in steps[:-1]])
        scales = np.cumprod([1.0, *noisy_weights])
        next_scales = np.append(scales[1:], 1.0)  # the last step leaves the action itself
        levels = np.array([(1.0 - step.alpha_bar) ** 0.5 for step in steps])
        shifts = np.outer(levels if process.prediction == "epsilon" else 0.0 * levels, bias)
        moves = (noisy_weights[:, None] * shifts[:-1] - shifts[1:]) / scales[1:, None]
        noise_weights = np.array([step.noise_weight for step in steps])
        return cls(
            scales=scales,
            shifts=shifts,
            clean_gains=np.array([step.clean_weight for step in steps]) / next_scales,
            noise_gains=np.append(1.0, (noise_weights / next_scales)[noise_weights > 0.0]),
            drifts=np.concatenate([-shifts[:1], moves]),
        )


class _Chain:
    """A chain in the making."""

    def __init__(self, builder: OnnxBuilder, denoiser: Denoiser, process: ReverseProcess) -> None:
        layers = [denoiser.first, *denoiser.hidden, denoiser.last]
        first, *self.hidden, self.last = (Linear.of(layer) for layer in layers)
        action, step = denoiser.action_size, denoiser.action_size + EMBEDDING_SIZE
        self.action_weight, step_weight, self.observation_weight = np.split(
            first.weight, [action, step]
        )
        embeddings = array_of(denoiser.step_embedding(denoiser.sinusoids))
        self.step_rows = embeddings @ step_weight + first.bias  # (N of training, width)
        self.builder = builder
        self.process = process
        self.units = _Units.of(process, self.last.bias)

    def contexts(self, observation: Observation) -> list[str]:
        """Return what enters the network at each step beside the action, negated, (1, width)."""
        indices = [step.index for step in self.process.steps]
        rows = self.step_rows[indices] + self.units.shifts @ self.action_weight
        zeros = np.zeros(rows.shape[1])
        shared = observation.linear(self.builder, Linear(-self.observation_weight, zeros))
        every = self.builder.add("Add", shared, self.builder.constant(-rows))
        return self.builder.split(every, len(rows), axis=0)

    def start_and_additions(self) -> tuple[str, list[str]]:
        """Return where the chain starts, and what each step but the last adds to it.

        All of shape (K, A), or (1, A) where a step adds no noise.
        """
        builder, gains, drifts = self.builder, self.units.noise_gains, self.units.drifts
        count = len(gains)
        noise = builder.add("Mul", "noise", builder.constant(gains[:, None, None]))
        if drifts.any():
            noise = builder.add("Add", noise, builder.constant(drifts[:count, None]))
        flat = builder.add("Reshape", noise, builder.constant([-1, drifts.shape[1]], np.int64))
        start, *noises = builder.split(flat, count, axis=0)
        return start, noises + [builder.constant(row[None]) for row in drifts[count:]]

    def clean_action(self, index: int, carried: str, context: str) -> str:
        """Return the clean action that step ``index`` predicts, times its gain, (K, A)."""
        builder, scale = self.builder, self.units.scales[index]
        features = negated_mish(
            builder, builder.linear(carried, -scale * self.action_weight, context)
        )
        for layer in self.hidden:
            features = hidden_layer(builder, features, layer)
        gain, alpha_bar = self.units.clean_gains[index], self.process.steps[index].alpha_bar
        if self.process.prediction == "x0":
            bias = builder.constant(gain * self.last.bias)
            return builder.linear(features, -gain * self.last.weight, bias)
        weight = gain * ((1.0 - alpha_bar) / alpha_bar) ** 0.5 * self.last.weight
        return builder.linear(features, weight, carried, scale * gain / alpha_bar**0.5)

    def clip(self, value: str, bound: float) -> str:
        """Return ``value`` clipped to plus and minus ``bound``."""
        bounds = self.builder.constant(-bound), self.builder.constant(bound)
        return self.builder.add("Clip", value, *bounds)


def sample_actions(
    builder: OnnxBuilder, denoiser: Denoiser, process: ReverseProcess, observation: Observation
) -> str:
    """Return actions sampled with the graph's noise, in [-1, 1], shape (K, A)."""
    chain = _Chain(builder, denoiser, process)
    contexts = chain.contexts(observation)
    carried, additions = chain.start_and_additions()
    for index, addition in enumerate(additions):
        clean = chain.clean_action(index, carried, contexts[index])
        if process.clip_denoised:
            clean = chain.clip(clean, chain.units.clean_gains[index])
        carried = builder.add("Add", builder.add("Add", carried, addition), clean)
    return chain.clip(chain.clean_action(len(additions), carried, contexts[-1]), 1.0)
