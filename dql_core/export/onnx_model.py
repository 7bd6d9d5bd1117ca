r"""A policy's graph as an ONNX model, written node by node.

Tracing the torch module gives the same numbers from nearly twice as many nodes; see
docs/decisions/0008-onnx-written-by-hand.md. That the two are one function is measured at each
export.

With the noisy action :math:`a_j` before step j of the reverse process, a step is

.. math:: a_{j+1} = w^a_j a_j + w^c_j \, \mathrm{clip}(\hat a_j) + w^z_j z_j

(`dql_core.models.sampler`). The nodes carry :math:`c_j = (a_j - s_j) / p_j` instead, with
:math:`p_j = \prod_{i<j} w^a_i` and, for ``epsilon``, :math:`s_j = \sqrt{1 - \bar\alpha_j}\, b`,
where b is the bias of the network's last layer. What each step would multiply and add is then
part of the weights and of the noise: a step is the network, a clip and two additions, with
``v`` three.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce

import numpy as np
from numpy.typing import NDArray

from dql_core.algo.losses import MIN_VARIANCE
from dql_core.algo.policy_graph import PolicyGraph
from dql_core.export.onnx_layers import (
    Array,
    Linear,
    Observation,
    OnnxBuilder,
    Shape,
    actor,
    array_of,
    critic_values,
    hidden_layer,
    negated_mish,
)
from dql_core.models.actors import DeterministicActor, DiffusionSampler
from dql_core.models.denoiser import EMBEDDING_SIZE, Denoiser
from dql_core.models.mean_flow import TIME_SIZE, AverageVelocity
from dql_core.models.sampler import ReverseProcess
from dql_core.runtime.policy import MIN_SPREAD

DESCRIPTION = "Chooses an action for a raw observation among K candidates."


def to_onnx(graph: PolicyGraph) -> bytes:
    """Return ``graph`` as an ONNX model whose number of candidates K is free."""
    builder = OnnxBuilder()
    mean = builder.constant(array_of(graph.observation_mean)[None])
    observation = Observation(
        builder.add("Sub", "observation", mean), array_of(graph.observation_std)
    )
    held = _held(builder, graph) if graph.horizon > 1 else None
    sampled = _sampled(builder, graph, observation, held)
    if held is not None:
        sampled = _clip(builder, held.applied(builder, sampled), 1.0)
    scores = _scores(builder, graph, _q_values(builder, graph, observation, sampled))
    candidates = _restored(builder, graph, sampled)
    best = builder.add("ArgMax", scores, axis=0, keepdims=0)
    builder.add("Gather", candidates, best, output="action", axis=0)
    num_noises, _, width = graph.noise_shape(1)
    inputs: dict[str, Shape] = {
        "observation": [len(observation.std)],
        "noise": [num_noises, "K", width],
        "selection_noise": ["K"],
    }
    action = [width]
    if held is not None:
        action = [graph.horizon, len(graph.action_low)]
        inputs |= {"committed": action, "committed_weight": action[:1]}
    return builder.model(
        inputs=inputs,
        outputs={"action": action, "q_values": ["K"], "candidates": ["K", *action]},
        description=DESCRIPTION,
    )


@dataclass(frozen=True)
class _Held:
    """Names of `dql_core.models.sampler.Held`, both of shape (1, H * A)."""

    pull: str
    freedom: str

    def applied(self, builder: OnnxBuilder, value: str, gain: float = 1.0) -> str:
        """Return an action times ``gain``, as far as it is free, with what is held, (K, H * A)."""
        pull = self.pull
        if gain != 1.0:
            pull = builder.add("Mul", pull, builder.constant([[gain]]))
        return builder.add("Add", builder.add("Mul", value, self.freedom), pull)


def _held(builder: OnnxBuilder, graph: PolicyGraph) -> _Held:
    """Bring what is committed to the units of the networks, with its weights."""
    centre, half_range = _centre_and_half_range(graph)
    moved = builder.add("Sub", "committed", builder.constant(centre[None]))
    divisor = np.maximum(half_range, np.finfo(np.float32).tiny)
    scaled = builder.add("Div", moved, builder.constant(divisor[None]))
    actions = _clip(builder, scaled, 1.0)
    column = builder.constant([graph.horizon, 1], np.int64)
    weights = builder.add("Reshape", "committed_weight", column)
    freedom = builder.add("Sub", builder.constant(np.ones((1, len(centre)))), weights)  # (H, A)
    row = builder.constant([1, -1], np.int64)
    pull = builder.add("Mul", actions, weights)
    return _Held(builder.add("Reshape", pull, row), builder.add("Reshape", freedom, row))


def _sampled(
    builder: OnnxBuilder, graph: PolicyGraph, observation: Observation, held: _Held | None
) -> str:
    """Return the candidates in [-1, 1], shape (K, H * A)."""
    sampler = graph.sampler
    if isinstance(sampler, DiffusionSampler):
        return _diffused_actions(builder, sampler, observation, held)
    if isinstance(sampler, DeterministicActor):
        action = actor(builder, sampler, observation)
        return builder.add("Expand", action, builder.add("Shape", "noise", start=1))
    if isinstance(sampler, AverageVelocity):
        return one_step_actions(builder, sampler, observation)
    raise TypeError(f"{type(sampler).__name__} cannot be written as ONNX nodes")


def _q_values(
    builder: OnnxBuilder, graph: PolicyGraph, observation: Observation, sampled: str
) -> str:
    """Return what the critics say together of each candidate, shape (K,)."""
    if graph.critic is None:
        count = builder.add("Shape", "selection_noise")
        return builder.add("ConstantOfShape", count, output="q_values")
    values = critic_values(builder, graph.critic, observation, sampled)
    if graph.lower_bound is None:
        together = builder.add("Min", *values)
    else:
        together = _lower_bound(builder, values, graph.lower_bound)
    return builder.add("Reshape", together, builder.constant([-1], np.int64), output="q_values")


def _lower_bound(builder: OnnxBuilder, values: Sequence[str], factor: float) -> str:
    """Return the mean of values of equal shape minus a factor times their spread."""
    mean = _mean(builder, values)
    distances = [builder.add("Sub", value, mean) for value in values]
    variance = _mean(builder, [builder.add("Mul", each, each) for each in distances])
    spread = builder.add("Sqrt", builder.add("Max", variance, builder.constant([[MIN_VARIANCE]])))
    return builder.add("Sub", mean, builder.add("Mul", spread, builder.constant([[factor]])))


def _mean(builder: OnnxBuilder, values: Sequence[str]) -> str:
    total = reduce(lambda one, other: builder.add("Add", one, other), values)
    return builder.add("Mul", total, builder.constant([[1.0 / len(values)]]))


def _scores(builder: OnnxBuilder, graph: PolicyGraph, q_values: str) -> str:
    """Return `PolicyGraph.scores`, but for what is equal for all, plus the noise on them, (K,)."""
    if graph.critic is None:
        return "selection_noise"
    scaled = builder.add("Sub", q_values, builder.add("ReduceMean", q_values))
    if not graph.raw_temperature:
        variance = builder.add("ReduceMean", builder.add("Mul", scaled, scaled))
        spread = builder.add("Sqrt", variance)
        scaled = builder.add(
            "Div", scaled, builder.add("Max", spread, builder.constant([MIN_SPREAD]))
        )
    if graph.temperature != 1.0:
        scaled = builder.add("Div", scaled, builder.constant(graph.temperature))
    return builder.add("Add", scaled, "selection_noise")


def _restored(builder: OnnxBuilder, graph: PolicyGraph, sampled: str) -> str:
    """Return candidates in the action's own units and within its bounds, shape (K, [H,] A)."""
    centre, half_range = _centre_and_half_range(graph)
    weight, addend = builder.constant(np.diag(half_range)), builder.constant(centre)
    if graph.horizon == 1:
        return builder.add("Gemm", sampled, weight, addend, output="candidates")
    one_by_one = builder.constant([-1, len(centre)], np.int64)
    actions = builder.add("Gemm", builder.add("Reshape", sampled, one_by_one), weight, addend)
    chunks = builder.constant([-1, graph.horizon, len(centre)], np.int64)
    return builder.add("Reshape", actions, chunks, output="candidates")


def _centre_and_half_range(graph: PolicyGraph) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return what brings [-1, 1] to an action's own units and within its bounds, both (A,)."""
    low, high = array_of(graph.action_low), array_of(graph.action_high)
    centre = ((low + high) / 2).astype(np.float32)
    # Rounded down, so that rounding later, which keeps the order, cannot step over a bound.
    exact = np.minimum(high - centre, centre - low)
    nearest = exact.astype(np.float32)
    return centre, np.where(nearest > exact, np.nextafter(nearest, np.float32(0.0)), nearest)


class _Chain:
    """A chain in the making; its steps are turned into steps of what is carried.

    Attributes:
        scales: p_j above, shape (N,).
        shifts: s_j above, shape (N, A).
        clean_gains: What multiplies the clean action that a step predicts, shape (N,).
        noise_gains: What multiplies each noise, the chain's start being the first, shape (Z,).
        drifts: What is added together with that noise, or without any, shape (N, A).
    """

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

        steps = process.steps
        noisy_weights = np.array([step.noisy_weight for step in steps[:-1]])
        self.scales: Array = np.cumprod([1.0, *noisy_weights])
        next_scales = np.append(self.scales[1:], 1.0)  # the last step leaves the action itself
        levels = np.array([(1.0 - step.alpha_bar) ** 0.5 for step in steps])
        is_epsilon = process.prediction == "epsilon"
        self.shifts: Array = np.outer(levels * is_epsilon, self.last.bias)
        noise_weights = np.array([step.noise_weight for step in steps])
        self.clean_gains = np.array([step.clean_weight for step in steps]) / next_scales
        self.noise_gains = np.append(1.0, (noise_weights / next_scales)[noise_weights > 0.0])
        moves = noisy_weights[:, None] * self.shifts[:-1] - self.shifts[1:]
        self.drifts: Array = np.concatenate([-self.shifts[:1], moves / self.scales[1:, None]])

    def contexts(self, observation: Observation) -> list[str]:
        """Return what enters the network at each step beside the action, negated, (1, width)."""
        indices = [step.index for step in self.process.steps]
        rows = self.step_rows[indices] + self.shifts @ self.action_weight
        zeros = np.zeros(rows.shape[1])
        shared = observation.linear(self.builder, Linear(-self.observation_weight, zeros))
        every = self.builder.add("Add", shared, self.builder.constant(-rows))
        return self.builder.split(every, len(rows), axis=0)

    def start_and_additions(self) -> tuple[str, list[str]]:
        """Return where the chain starts, and what each step but the last adds to it.

        All of shape (K, A), or (1, A) where a step adds no noise.
        """
        builder, gains, drifts = self.builder, self.noise_gains, self.drifts
        count = len(gains)
        noise = builder.add("Mul", "noise", builder.constant(gains[:, None, None]))
        if drifts.any():
            noise = builder.add("Add", noise, builder.constant(drifts[:count, None]))
        flat = builder.add("Reshape", noise, builder.constant([-1, drifts.shape[1]], np.int64))
        start, *noises = builder.split(flat, count, axis=0)
        return start, noises + [builder.constant(row[None]) for row in drifts[count:]]

    def clean_action(self, index: int, carried: str, context: str) -> str:
        """Return the clean action that step ``index`` predicts, times its gain, (K, A)."""
        builder, scale = self.builder, self.scales[index]
        features = negated_mish(
            builder, builder.linear(carried, -scale * self.action_weight, context)
        )
        for layer in self.hidden:
            features = hidden_layer(builder, features, layer)
        gain, alpha_bar = self.clean_gains[index], self.process.steps[index].alpha_bar
        if self.process.prediction == "x0":
            bias = builder.constant(gain * self.last.bias)
            return builder.linear(features, -gain * self.last.weight, bias)
        if self.process.prediction == "v":
            level, beta = (1.0 - alpha_bar) ** 0.5, scale * alpha_bar**0.5
            # Carried on, this shift would leave float32 no digits for the action, since it has no
            # bound where little is left of the signal.
            shift = builder.constant(level / beta * self.last.bias[None])
            shifted = builder.add("Sub", carried, shift)
            return builder.linear(features, gain * level * self.last.weight, shifted, gain * beta)
        weight = gain * ((1.0 - alpha_bar) / alpha_bar) ** 0.5 * self.last.weight
        return builder.linear(features, weight, carried, scale * gain / alpha_bar**0.5)


def one_step_actions(
    builder: OnnxBuilder, network: AverageVelocity, observation: Observation
) -> str:
    """Return the actions of a mean flow, noise minus average velocity, in [-1, 1], (K, A)."""
    first, *hidden, last = (
        Linear.of(layer) for layer in (network.first, *network.hidden, network.last)
    )
    action, time = network.action_size, network.action_size + TIME_SIZE
    weight, time_weight, observation_weight = np.split(first.weight, [action, time])
    bias = first.bias + time_weight.sum(axis=0)  # t = 1 and t - r = 1
    context = observation.linear(builder, Linear(-observation_weight, -bias))
    shape = builder.constant([-1, action], np.int64)
    start = builder.add("Reshape", "noise", shape)
    features = negated_mish(builder, builder.linear(start, -weight, context))
    for layer in hidden:
        features = hidden_layer(builder, features, layer)
    shifted = builder.add("Sub", start, builder.constant(last.bias[None]))
    moved = builder.linear(features, last.weight, shifted)
    return _clip(builder, moved, 1.0)


def _clip(builder: OnnxBuilder, value: str, bound: float) -> str:
    """Return ``value`` clipped to plus and minus ``bound``."""
    return builder.add("Clip", value, builder.constant(-bound), builder.constant(bound))


def _diffused_actions(
    builder: OnnxBuilder, sampler: DiffusionSampler, observation: Observation, held: _Held | None
) -> str:
    """Return actions sampled with the graph's noise, in [-1, 1], shape (K, H * A)."""
    chain = _Chain(builder, sampler.denoiser, sampler.process)
    contexts = chain.contexts(observation)
    carried, additions = chain.start_and_additions()
    for index, addition in enumerate(additions):
        clean = chain.clean_action(index, carried, contexts[index])
        if sampler.process.clip_denoised:
            clean = _clip(builder, clean, chain.clean_gains[index])
        if held is not None:
            clean = held.applied(builder, clean, chain.clean_gains[index])
        carried = builder.add("Add", builder.add("Add", carried, addition), clean)
    return _clip(builder, chain.clean_action(len(additions), carried, contexts[-1]), 1.0)
