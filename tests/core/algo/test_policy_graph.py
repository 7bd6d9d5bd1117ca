from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor, nn

from dql_core.algo.policy_graph import PolicyGraph, policy_graph
from dql_core.normalize import Normalizer
from dql_core.runtime.onnx_backend import OnnxGraph
from dql_core.runtime.policy import Noise, draw_noise
from dql_core.spec import PolicySpec
from dql_core.training.checkpoint import load_checkpoint

LOW, HIGH = np.array([-0.3, -2.0], np.float32), np.array([0.7, 2.0], np.float32)


@pytest.fixture(scope="module")
def graph(tiny_run: Path) -> PolicyGraph:
    checkpoint = load_checkpoint(tiny_run)
    return policy_graph(checkpoint.agent, checkpoint.config, checkpoint.normalizer)


@pytest.fixture(scope="module")
def exported(tiny_bundle: Path) -> OnnxGraph:
    return OnnxGraph((tiny_bundle / "policy.onnx").read_bytes())


def inputs(num_candidates: int, scale: float = 1.0) -> tuple[NDArray[np.float32], Noise]:
    rng = np.random.default_rng(num_candidates)
    observation = (scale * rng.normal(size=3)).astype(np.float32)
    return observation, draw_noise(rng, (5, num_candidates, 2), "softmax")


@pytest.mark.parametrize("num_candidates", [1, 2, 3, 50])
def test_onnx_runtime_computes_what_torch_computes(
    graph: PolicyGraph, exported: OnnxGraph, num_candidates: int
) -> None:
    observation, noise = inputs(num_candidates)
    original = graph.decide(observation, noise)
    decision = exported(observation, noise)
    for name in ("action", "q_values", "candidates"):
        found, expected = (getattr(each, name) for each in (decision, original))
        np.testing.assert_allclose(found, expected, atol=2e-6)


@pytest.mark.parametrize("scale", [1e-4, 1e2, 1e4])
def test_activations_far_out_agree_and_stay_finite(
    graph: PolicyGraph, exported: OnnxGraph, scale: float
) -> None:
    observation, noise = inputs(8, scale)
    original = graph.decide(observation, noise)
    decision = exported(observation, noise)
    assert np.isfinite(decision.q_values).all()
    np.testing.assert_allclose(decision.candidates, original.candidates, atol=1e-4)


def test_graph_is_the_sampler_and_the_smaller_critic_in_the_actions_units(
    graph: PolicyGraph,
) -> None:
    observation, noise = inputs(6)
    decision = graph.decide(observation, noise)
    normalized = (torch.tensor(observation) - graph.observation_mean) / graph.observation_std
    batch = normalized.expand(6, -1)
    steps = torch.tensor(noise.steps)
    actions = graph.sampler(batch, steps)
    assert graph.critic is not None
    low, high = graph.action_low, graph.action_high
    expected = low + (actions + 1) / 2 * (high - low)
    np.testing.assert_allclose(decision.candidates, expected.detach(), atol=1e-6)
    values = graph.critic(batch, actions).min(dim=0).values
    np.testing.assert_allclose(decision.q_values, values.detach(), atol=1e-6)


def test_candidates_lie_within_the_bounds(exported: OnnxGraph, tiny_spec: PolicySpec) -> None:
    decision = exported(*inputs(500))
    assert (decision.candidates >= tiny_spec.action_low).all()
    assert (decision.candidates <= tiny_spec.action_high).all()


def test_the_action_is_one_of_the_candidates(exported: OnnxGraph) -> None:
    decision = exported(*inputs(20))
    assert any((decision.action == candidate).all() for candidate in decision.candidates)


def test_without_selection_noise_the_best_candidate_is_taken(exported: OnnxGraph) -> None:
    observation, noise = inputs(20)
    decision = exported(observation, Noise(noise.steps, np.zeros_like(noise.selection)))
    best = decision.candidates[decision.q_values.argmax()]
    np.testing.assert_array_equal(decision.action, best)


def test_selection_noise_draws_from_the_softmax_of_the_scores(graph: PolicyGraph) -> None:
    q_values = torch.tensor([1.0, 2.0, 4.0])
    scores = graph.scores(q_values)
    expected = torch.softmax(q_values / (graph.temperature * q_values.std(correction=0)), dim=0)
    torch.testing.assert_close(torch.softmax(scores, dim=0), expected)
    rng = np.random.default_rng(0)
    gumbel = np.stack([draw_noise(rng, (1, 3, 1), "softmax").selection for _ in range(20_000)])
    drawn = np.bincount((scores.numpy() + gumbel).argmax(axis=1), minlength=3) / len(gumbel)
    np.testing.assert_allclose(drawn, expected, atol=0.01)


@pytest.mark.parametrize(("scale", "shift"), [(1e-3, 0.0), (300.0, 0.0), (1.0, -50.0)])
def test_scores_do_not_depend_on_the_scale_or_origin_of_rewards(
    graph: PolicyGraph, scale: float, shift: float
) -> None:
    q_values = torch.tensor([0.3, -1.2, 0.9, 2.0])
    rescaled = graph.scores(scale * q_values + shift)
    torch.testing.assert_close(rescaled, graph.scores(q_values), atol=1e-3, rtol=1e-4)


def test_equal_values_give_equal_scores(graph: PolicyGraph) -> None:
    torch.testing.assert_close(graph.scores(torch.full((5,), 7.0)), torch.zeros(5))


def test_policy_without_critic_gives_zero_values_and_the_first_candidate(
    tiny_bc_run: Path,
) -> None:
    imitation = load_checkpoint(tiny_bc_run)
    graph = policy_graph(imitation.agent, imitation.config, imitation.normalizer)
    observation, noise = inputs(3)
    still = Noise(noise.steps, np.zeros_like(noise.selection))
    decision = graph.decide(observation, still)
    np.testing.assert_array_equal(decision.q_values, np.zeros(3))
    np.testing.assert_array_equal(decision.action, decision.candidates[0])


class Echo(nn.Module):
    """Samples what it is given as noise."""

    num_noises = 1

    def forward(self, observation: Tensor, noise: Tensor) -> Tensor:
        return noise[0]


def restored(normalized: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return normalised actions, shape (K, 2), in units between `LOW` and `HIGH`."""
    normalizer = Normalizer.for_actions_only(1, LOW.tolist(), HIGH.tolist())
    graph = PolicyGraph(Echo(), None, normalizer, temperature=1.0)
    noise = Noise(normalized[None], np.zeros(len(normalized), np.float32))
    return graph.decide(np.zeros(1, np.float32), noise).candidates


def test_the_normalised_bounds_become_the_actions_bounds() -> None:
    ends = restored(np.array([[-1.0, -1.0], [1.0, 1.0]], np.float32))
    np.testing.assert_array_equal(ends, [LOW, HIGH])


def test_restoring_undoes_the_normaliser() -> None:
    actions = np.random.default_rng(2).uniform(LOW, HIGH, size=(20, 2)).astype(np.float32)
    normalized = Normalizer.for_actions_only(1, LOW.tolist(), HIGH.tolist()).action(actions)
    np.testing.assert_allclose(restored(normalized), actions, atol=1e-6)


@given(st.floats(-1.0, 1.0, width=32), st.floats(-1.0, 1.0, width=32))
def test_no_normalised_action_restores_to_one_outside_the_bounds(x: float, y: float) -> None:
    action = restored(np.array([[x, y]], np.float32))
    assert np.all((action >= LOW) & (action <= HIGH))


def test_many_observations_at_once_are_decided_as_one_by_one(graph: PolicyGraph) -> None:
    each = [inputs(7, scale) for scale in (0.1, 1.0, 3.0)]
    noise = Noise(
        np.stack([steps for _, (steps, _) in each], axis=1),
        np.stack([selection for _, (_, selection) in each]),
    )
    together = graph.decide(np.stack([observation for observation, _ in each]), noise)
    for index, (observation, own) in enumerate(each):
        alone = graph.decide(observation, own)
        for name in ("action", "q_values", "candidates"):
            found, expected = (getattr(each, name) for each in (together, alone))
            np.testing.assert_allclose(found[index], expected, atol=1e-5)
