"""Chunks of actions: how they are learned, one function in all forms, what is committed stays."""

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from dql_core.algo.agent import Agent
from dql_core.algo.policy_graph import PolicyGraph, TorchPolicy, policy_graph
from dql_core.algo.registry import make_agent
from dql_core.algo.torch_backend import TorchGraph
from dql_core.config import TrainConfig
from dql_core.data.dataset import Episode, LoadedDataset
from dql_core.data.transitions import ChunkBatch
from dql_core.export.onnx_model import to_onnx
from dql_core.normalize import Normalizer
from dql_core.runtime.mode import ModeSeeker
from dql_core.runtime.onnx_backend import OnnxGraph
from dql_core.runtime.policy import Choice, Committed, Decision, Noise, Selection, draw_noise
from dql_core.spec import FieldSpec, PolicySpec
from dql_core.training.preparation import make_batches, new_run

SPEC = PolicySpec(
    robot="tiny",
    rate_hz=20.0,
    observation=tuple(FieldSpec(f"observation[{index}]") for index in range(3)),
    action=(FieldSpec("torque", "N m", -2.0, 1.0), FieldSpec("grip", "", 0.0, 0.1)),
)
H, A, K = 4, 2, 7
ROWS = np.random.default_rng(0).normal([0.5, 0.0, 30.0], [0.1, 2.0, 1.0], (50, 3)).astype("f4")
ARRAYS = ("action", "chunk", "q_values", "candidates")
POLICIES: tuple[dict[str, Any], ...] = (
    {},
    {"diffusion": {"prediction": "x0"}},
    {"diffusion": {"prediction": "v"}},
    {"diffusion": {"variance": "beta", "schedule": "vp", "clip_denoised": False}},
    {"diffusion": {"sampler": "ddim", "num_sampling_steps": 3}},
    {"diffusion": {"num_diffusion_steps": 1, "clip_denoised": False}},
    {"policy": {"kind": "mean_flow"}},
    {"agent": "diffusion_bc"},
    {"agent": "td3_bc"},
)


def untrained(**sections: Any) -> PolicyGraph:
    """Return the acting function of an agent with random weights."""
    network: dict[str, Any] = {"width": 16, "depth": 2}
    policy = network | {"horizon": H} | sections.pop("policy", {})
    config = TrainConfig.model_validate({"policy": policy, "critic": network, **sections})
    torch.manual_seed(0)
    agent = make_agent(config, SPEC, torch.Generator())
    return policy_graph(agent, config, Normalizer.fit(ROWS, SPEC))


def draws(graph: PolicyGraph, seed: int = 0, selection: Selection = "softmax") -> Noise:
    return draw_noise(np.random.default_rng(seed), graph.noise_shape(K), selection)


def committed(weights: list[float], seed: int = 0) -> Committed:
    """Draw actions that a chunk goes on from."""
    rng = np.random.default_rng(seed)
    actions = rng.uniform(SPEC.action_low, SPEC.action_high, (len(weights), A))
    return Committed(actions.astype("f4"), np.array(weights, "f4"))


def require_equal(one: Decision, other: Decision, atol: float = 0.0) -> None:
    for name in ARRAYS:
        found, expected = getattr(one, name), getattr(other, name)
        assert found.shape == expected.shape
        np.testing.assert_allclose(found, expected, atol=atol, rtol=0)


def learner(agent: str, horizon: int, weight: float, **policy: Any) -> Agent:
    """Return an agent of chunks of H actions, or of actions as wide as these."""
    network: dict[str, Any] = {"width": 16, "depth": 2}
    config = TrainConfig.model_validate(
        {
            "agent": agent,
            "policy": network | {"horizon": horizon, "eta": weight} | policy,
            "critic": network,
            "td3": {"alpha": weight, "policy_every": 1},
            "run": {"device": "cpu", "execution": "eager"},
        }
    )
    torch.manual_seed(0)
    actions = tuple(FieldSpec(f"a{index}", "", -1.0, 1.0) for index in range(A))
    wide = tuple(FieldSpec(f"a{index}", "", -1.0, 1.0) for index in range(H * A))
    spec = dataclasses.replace(SPEC, action=actions if horizon > 1 else wide)
    return make_agent(config, spec, torch.Generator().manual_seed(1))


def chunk_batch() -> ChunkBatch:
    """Return chunks of which half have two recorded actions."""
    generator = torch.Generator().manual_seed(0)
    recorded = torch.ones(32, H * A)
    recorded[::2, 2 * A :] = 0.0
    return ChunkBatch(
        observation=torch.randn(32, 3, generator=generator),
        action=torch.rand(32, H * A, generator=generator) * 2 - 1,
        reward=torch.randn(32, generator=generator),
        next_observation=torch.randn(32, 3, generator=generator),
        bootstrap=torch.zeros(32),
        recorded=recorded,
    )


@pytest.mark.parametrize("agent", ["diffusion_ql", "td3_bc"])
def test_values_weigh_against_one_action_however_long_a_chunk_is(agent: str) -> None:
    chunks, actions = learner(agent, H, 2.0), learner(agent, 1, 2.0 / H)
    batch = chunk_batch()
    for _ in range(3):
        for each in (chunks, actions):
            each.update(batch)
    for name, module in chunks.modules.items():
        other = actions.modules[name].state_dict()
        for key, value in module.state_dict().items():
            assert torch.equal(value, other[key]), (name, key)


@pytest.mark.parametrize(
    ("agent", "policy"),
    [
        ("diffusion_bc", {}),
        ("diffusion_bc", {"kind": "mean_flow"}),
        ("diffusion_ql", {"policy_gradient": "one_step"}),
        ("td3_bc", {}),
    ],
)
def test_what_was_not_recorded_is_not_imitated(agent: str, policy: dict[str, Any]) -> None:
    """What the network puts out for it has no part in the loss, and draws no gradient."""
    made = learner(agent, H, 1.0, **policy)
    network, *_ = made.modules.values()
    layers = (each for each in network.modules() if isinstance(each, nn.Linear))
    *_, last = (each for each in layers if each.bias.requires_grad)
    batch, noise = chunk_batch(), made.noise.draw(32)
    first_alone = torch.zeros(32, H * A)
    first_alone[:, :A] = 1.0
    for recorded, end in ((batch.recorded, H * A), (first_alone, A)):
        loss = made.imitation_loss(dataclasses.replace(batch, recorded=recorded), noise)
        (gradient,) = torch.autograd.grad(loss, last.bias)
        assert (gradient[:end] != 0).all()
        assert (gradient[end:] == 0).all()


@pytest.mark.parametrize("sections", POLICIES, ids=str)
def test_all_forms_of_a_policy_choose_the_same_chunk(sections: dict[str, Any]) -> None:
    graph = untrained(**sections)
    onnx, torch_graph = OnnxGraph(to_onnx(graph)), TorchGraph(graph, torch.device("cpu"))
    for seed, weights in enumerate((None, [0.0] * H, [1.0, 1.0, 0.6, 0.0], [0.3] * H, [1.0] * H)):
        held = None if weights is None else committed(weights, seed)
        noise, observation = draws(graph, seed), ROWS[seed]
        original = graph.decide(observation, noise, held)
        assert original.action.shape == (A,)
        assert original.chunk.shape == (H, A)
        assert original.candidates.shape == (K, H, A)
        assert original.first_actions.shape == (K, A)
        np.testing.assert_array_equal(original.chunk[0], original.action)
        assert any((original.chunk == each).all() for each in original.candidates)
        assert (original.candidates >= SPEC.action_low).all()
        assert (original.candidates <= SPEC.action_high).all()
        require_equal(onnx(observation, noise, held), original, atol=2e-5)
        require_equal(torch_graph(observation, noise, held), original, atol=1e-6)


@pytest.mark.parametrize("sections", POLICIES, ids=str)
def test_where_nothing_is_held_not_a_bit_is_changed(sections: dict[str, Any]) -> None:
    graph = untrained(**sections)
    for decide in (graph.decide, OnnxGraph(to_onnx(graph))):
        free = decide(ROWS[0], draws(graph))
        require_equal(decide(ROWS[0], draws(graph), committed([0.0] * H)), free)


@pytest.mark.parametrize("sections", POLICIES, ids=str)
def test_what_is_fixed_comes_out_of_every_candidate(sections: dict[str, Any]) -> None:
    graph = untrained(**sections)
    held = committed([1.0, 1.0, 0.5, 0.0])
    for decide in (graph.decide, OnnxGraph(to_onnx(graph))):
        made = decide(ROWS[0], draws(graph), held)
        np.testing.assert_allclose(
            made.candidates[:, :2], held.actions[None, :2].repeat(K, 0), 1e-5
        )
        free = decide(ROWS[0], draws(graph))
        # What is held by half is nearer than it would have been, on the whole.
        nearer, far = (np.abs(each.candidates[:, 2] - held.actions[2]) for each in (made, free))
        assert nearer.sum() < 0.75 * far.sum()


def test_a_field_that_can_be_one_number_only_is_that_number() -> None:
    graph = untrained()
    graph.action_low[1] = graph.action_high[1]
    for weights in ([0.0] * H, [0.5] * H, [1.0] * H):
        for decide in (graph.decide, OnnxGraph(to_onnx(graph))):
            made = decide(ROWS[0], draws(graph), committed(weights))
            np.testing.assert_array_equal(made.candidates[..., 1], np.float32(0.1))


def test_what_is_committed_is_brought_within_the_bounds() -> None:
    graph = untrained()
    beyond = Committed(np.full((H, A), 50.0, "f4"), np.ones(H, "f4"))
    made = OnnxGraph(to_onnx(graph))(ROWS[0], draws(graph), beyond)
    np.testing.assert_array_equal(made.chunk, np.tile(SPEC.action_high, (H, 1)))


@settings(deadline=None, max_examples=25)
@given(weights=st.lists(st.floats(0.0, 1.0, width=32), min_size=H, max_size=H))
def test_one_noise_and_one_commitment_make_one_chunk(weights: list[float]) -> None:
    graph, held = untrained(), committed(weights)
    require_equal(
        graph.decide(ROWS[0], draws(graph), held), graph.decide(ROWS[0], draws(graph), held)
    )


def test_many_observations_at_once_are_decided_as_one_by_one() -> None:
    graph = untrained()
    normalizer = Normalizer.fit(ROWS, SPEC)
    for selection in ("softmax", "mode"):
        policy = TorchPolicy(graph, SPEC, Choice(K, selection), normalizer)
        generators = [np.random.default_rng(seed) for seed in range(3)]
        together = policy.decide_for_each(ROWS[:3], generators)
        assert together.chunk.shape == (3, H, A)
        assert together.candidates.shape == (3, K, H, A)
        chunks = policy.act_for_each(ROWS[:3], [np.random.default_rng(seed) for seed in range(3)])
        np.testing.assert_array_equal(chunks, together.chunk)
        for index in range(3):
            alone = policy.act(ROWS[index], np.random.default_rng(index))
            np.testing.assert_allclose(chunks[index], alone.chunk, atol=1e-5)


def test_the_mode_of_chunks_is_that_of_all_their_numbers() -> None:
    graph = untrained()
    made = graph.decide(ROWS[0], draws(graph))
    seek = ModeSeeker.of(Choice(K, "mode"), SPEC, 1.0, raw_temperature=False)
    assert seek is not None
    found = seek(made)
    flat = PolicySpec("flat", 1.0, SPEC.observation, SPEC.action * H)
    flattened = ModeSeeker.of(Choice(K, "mode"), flat, 1.0, raw_temperature=False)
    assert flattened is not None
    expected = flattened(
        Decision(made.chunk.ravel(), made.q_values, made.candidates.reshape(K, -1))
    )
    np.testing.assert_allclose(found.chunk.ravel(), expected.action, atol=1e-6)


def two_ways(rng: np.random.Generator) -> Episode:
    """Thirty steps along one of two mirrored ways, of which the observation tells nothing."""
    size, steps = rng.choice([-1.0, 1.0]) * rng.uniform(0.3, 0.9), np.arange(31)
    actions = size * way(steps[:-1]) + rng.normal(0.0, 0.02, 30)
    rows = (steps[:, None] / 10).astype("f4")
    return Episode(rows, actions[:, None].astype("f4"), np.ones(30), False, True)


def way(steps: Any) -> Any:
    return 0.6 + 0.4 * np.cos(2 * np.pi * steps / 30)


@pytest.mark.slow
def test_a_chunk_goes_on_smoothly_from_what_is_committed() -> None:
    """Without it, half of the chunks would jump to the other way."""
    spec = PolicySpec("two", 10.0, (FieldSpec("phase"),), (FieldSpec("u", "", -1.0, 1.0),))
    rng = np.random.default_rng(0)
    dataset = LoadedDataset(spec, tuple(two_ways(rng) for _ in range(200)), "two ways")
    config = TrainConfig.model_validate(
        {
            "agent": "diffusion_bc",
            "policy": {"horizon": 8, "width": 64},
            "diffusion": {"num_diffusion_steps": 10},
            "run": {"steps": 2000, "batch_size": 128, "device": "cpu", "execution": "eager"},
        }
    )
    run = new_run(config, dataset)
    batches = make_batches(run, dataset)
    for _ in range(config.run.steps):
        run.agent.update(batches.draw())
    graph = policy_graph(run.agent, config, run.normalizer)
    noise = draw_noise(rng, graph.noise_shape(300), "first")
    steps = 2 + np.arange(8)
    sent = (0.6 * way(steps))[:, None].astype("f4")
    observation = np.array([0.2], "f4")
    weights = np.array([1.0, 1.0, 1.0, 0.66, 0.44, 0.22, 0.1, 0.0], "f4")
    jumps, same_way = {}, {}
    for name, held in (("free", None), ("held", Committed(sent, weights))):
        made = graph.decide(observation, noise, held).candidates[..., 0]
        jumps[name] = np.abs(made[:, 3] - sent[2, 0]).mean()
        same_way[name] = (made[:, 5:].mean(axis=1) > 0).mean()
    assert 0.4 < same_way["free"] < 0.6
    assert same_way["held"] > 0.85
    assert jumps["held"] < 0.25 * jumps["free"]
