"""A policy's graph as an ONNX model, written node by node.

Tracing the torch module gives the same numbers from nearly twice as many nodes; see
docs/decisions/0008-onnx-written-by-hand.md. That the two are one function is measured at each
export.
"""

from __future__ import annotations

import numpy as np

from dql_core.algo.policy_graph import MIN_SPREAD, PolicyGraph
from dql_core.export.onnx_builder import OnnxBuilder
from dql_core.export.onnx_chain import sample_actions
from dql_core.export.onnx_layers import Observation, actor, array_of, critic_values
from dql_core.models.actors import DeterministicActor, DiffusionSampler

DESCRIPTION = "Chooses an action for a raw observation among K candidates."


def to_onnx(graph: PolicyGraph) -> bytes:
    """Return ``graph`` as an ONNX model whose number of candidates K is free."""
    builder = OnnxBuilder()
    mean = builder.constant(array_of(graph.observation_mean)[None])
    observation = Observation(
        builder.add("Sub", "observation", mean), array_of(graph.observation_std)
    )
    sampled = _sampled(builder, graph, observation)
    scores = _scores(builder, graph, _q_values(builder, graph, observation, sampled))
    candidates = _restored(builder, graph, sampled)
    best = builder.add("ArgMax", scores, axis=0, keepdims=0)
    builder.add("Gather", candidates, best, output="action", axis=0)
    num_noises, _, width = graph.noise_shape(1)
    return builder.model(
        inputs={
            "observation": [len(observation.std)],
            "noise": [num_noises, "K", width],
            "selection_noise": ["K"],
        },
        outputs={"action": [width], "q_values": ["K"], "candidates": ["K", width]},
        description=DESCRIPTION,
    )


def _sampled(builder: OnnxBuilder, graph: PolicyGraph, observation: Observation) -> str:
    """Return the candidates in [-1, 1], shape (K, A)."""
    sampler = graph.sampler
    if isinstance(sampler, DiffusionSampler):
        return sample_actions(builder, sampler.denoiser, sampler.process, observation)
    if isinstance(sampler, DeterministicActor):
        action = actor(builder, sampler, observation)
        return builder.add("Expand", action, builder.add("Shape", "noise", start=1))
    raise TypeError(f"{type(sampler).__name__} cannot be written as ONNX nodes")


def _q_values(
    builder: OnnxBuilder, graph: PolicyGraph, observation: Observation, sampled: str
) -> str:
    """Return the smallest value of each candidate by any critic, shape (K,)."""
    if graph.critic is None:
        count = builder.add("Shape", "selection_noise")
        return builder.add("ConstantOfShape", count, output="q_values")
    values = critic_values(builder, graph.critic, observation, sampled)
    smallest = builder.add("Min", *values)
    return builder.add("Reshape", smallest, builder.constant([-1], np.int64), output="q_values")


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
    """Return candidates in the action's own units and within its bounds, shape (K, A)."""
    low, high = array_of(graph.action_low), array_of(graph.action_high)
    centre = ((low + high) / 2).astype(np.float32)
    # Rounded down, so that rounding later, which keeps the order, cannot step over a bound.
    exact = np.minimum(high - centre, centre - low)
    nearest = exact.astype(np.float32)
    half_range = np.where(nearest > exact, np.nextafter(nearest, np.float32(0.0)), nearest)
    weight = builder.constant(np.diag(half_range))
    return builder.add("Gemm", sampled, weight, builder.constant(centre), output="candidates")
