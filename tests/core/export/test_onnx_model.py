from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch

from dql_core.algo.policy_graph import PolicyGraph, policy_graph
from dql_core.algo.registry import AGENTS, make_agent
from dql_core.config import TrainConfig
from dql_core.export.onnx_layers import OnnxBuilder, negated_mish
from dql_core.export.onnx_model import to_onnx
from dql_core.normalize import Normalizer
from dql_core.runtime.onnx_backend import OnnxGraph
from dql_core.runtime.policy import draw_noise
from dql_core.spec import FieldSpec, PolicySpec

SPEC = PolicySpec(
    robot="tiny",
    rate_hz=20.0,
    observation=tuple(FieldSpec(f"observation[{index}]") for index in range(3)),
    action=(FieldSpec("torque", "N m", -2.0, 1.0), FieldSpec("grip", "", 0.0, 0.1)),
)
SAMPLERS: tuple[dict[str, Any], ...] = (
    {"sampler": "ddpm"},
    {"sampler": "ddpm", "variance": "beta", "schedule": "cosine", "clip_denoised": False},
    {"sampler": "ddpm", "num_diffusion_steps": 1},
    {"sampler": "ddim"},
    {"sampler": "ddim", "num_sampling_steps": 3, "clip_denoised": False},
    # Of the signal's variance a billionth is left where this chain begins.
    {"sampler": "ddim", "num_diffusion_steps": 1000, "num_sampling_steps": 10},
)


def untrained(**sections: Any) -> PolicyGraph:
    """Return the acting function of an agent with random weights."""
    network = {"width": 16, "depth": 2}
    critic = network | sections.pop("critic", {})
    config = TrainConfig.model_validate({"policy": network, "critic": critic, **sections})
    torch.manual_seed(0)
    agent = make_agent(config, SPEC, torch.Generator())
    rows = np.random.default_rng(0).normal([0.5, 0.0, 30.0], [0.1, 2.0, 1.0], (50, 3))
    normalizer = Normalizer.fit(rows.astype("f4"), SPEC)
    return policy_graph(agent, config, normalizer)


def require_equal(graph: PolicyGraph, *, scale: float = 1.0, atol: float = 1e-5) -> None:
    """Compare the ONNX model of ``graph`` with itself on equal noise."""
    exported = OnnxGraph(to_onnx(graph))
    rng = np.random.default_rng(0)
    mean, std = graph.observation_mean.numpy(), graph.observation_std.numpy()
    for num_candidates in (1, 2, 9):
        observation = (mean + scale * std * rng.normal(size=3)).astype(np.float32)
        shape = graph.noise_shape(num_candidates)
        noise = draw_noise(rng, shape, "greedy")
        decision = exported(observation, noise)
        original = graph.decide(observation, noise)
        for name in ("chunk", "q_values", "candidates"):
            values, found = getattr(original, name), getattr(decision, name)
            assert found.shape == values.shape
            np.testing.assert_allclose(found, values, atol=atol, rtol=1e-5)


@pytest.mark.parametrize("diffusion", SAMPLERS, ids=str)
@pytest.mark.parametrize("prediction", ["epsilon", "x0", "v"])
@pytest.mark.parametrize("agent", AGENTS)
def test_every_agent_samples_the_same_actions_in_either_form(
    agent: str, prediction: str, diffusion: dict[str, Any]
) -> None:
    require_equal(untrained(agent=agent, diffusion={"prediction": prediction, **diffusion}))


@pytest.mark.parametrize("temperature", [1.0, 0.3])
@pytest.mark.parametrize("scale", ["relative", "raw"])
@pytest.mark.parametrize("layer_norm", [False, True])
def test_every_way_to_rank_gives_the_same_choice_in_either_form(
    layer_norm: bool, scale: str, temperature: float
) -> None:
    graph = untrained(
        critic={"layer_norm": layer_norm, "width": 24, "depth": 3},
        selection={"temperature_scale": scale, "temperature": temperature},
    )
    exported = OnnxGraph(to_onnx(graph))
    rng = np.random.default_rng(0)
    for _ in range(20):
        observation = rng.normal(size=3).astype(np.float32)
        noise = draw_noise(rng, (5, 12, 2), "softmax")
        original, decision = graph.decide(observation, noise), exported(observation, noise)
        np.testing.assert_allclose(decision.q_values, original.q_values, atol=1e-5)
        np.testing.assert_allclose(decision.action, original.action, atol=1e-5)


@pytest.mark.parametrize("critics", ["target", "online", "untrained"])
def test_the_critics_of_the_configuration_are_exported(critics: str) -> None:
    require_equal(untrained(selection={"critics": critics}))


@pytest.mark.parametrize(
    "critic",
    [
        {"num_critics": 1},
        {"num_critics": 5, "layer_norm": True},
        {"lower_bound": 1.0},
        {"dueling": True},
        {"dueling": True, "layer_norm": False, "num_critics": 3, "lower_bound": 1.0},
        {"num_critics": 7, "lower_bound": 0.3},
        {"num_critics": 64, "lower_bound": 4.0},
    ],
    ids=str,
)
def test_any_number_of_critics_ranks_the_same_in_either_form(critic: dict[str, Any]) -> None:
    graph = untrained(critic=critic)
    require_equal(graph)
    observation = np.zeros(3, np.float32)
    noise = draw_noise(np.random.default_rng(0), graph.noise_shape(6), "greedy")
    decision = OnnxGraph(to_onnx(graph))(observation, noise)
    actions = torch.tensor(decision.candidates)
    half_range, centre = (
        (graph.action_high - graph.action_low) / 2,
        (graph.action_high + graph.action_low) / 2,
    )
    rows = ((torch.zeros(3) - graph.observation_mean) / graph.observation_std).expand(6, -1)
    assert graph.critic is not None
    values = graph.critic(rows, (actions - centre) / half_range).detach().numpy()
    assert len(values) == critic.get("num_critics", 2)
    expected = values.min(axis=0)
    if "lower_bound" in critic:
        expected = values.mean(axis=0) - critic["lower_bound"] * values.std(axis=0)
    np.testing.assert_allclose(decision.q_values, expected, atol=1e-4)


@pytest.mark.parametrize("depth", [1, 3])
@pytest.mark.parametrize("agent", ["diffusion_bc", "diffusion_ql"])
def test_a_mean_flow_is_exported(agent: str, depth: int) -> None:
    graph = untrained(agent=agent, policy={"kind": "mean_flow", "width": 16, "depth": depth})
    assert graph.noise_shape(9) == (1, 9, 2)
    require_equal(graph)
    require_equal(graph, scale=1e3, atol=1e-4)


@pytest.mark.parametrize("depth", [1, 4])
def test_networks_of_any_depth_are_exported(depth: int) -> None:
    network = {"width": 8, "depth": depth}
    require_equal(untrained(policy=network, critic=network))


def test_fifty_diffusion_steps_agree() -> None:
    require_equal(untrained(diffusion={"num_diffusion_steps": 50}), atol=5e-5)


@pytest.mark.parametrize("scale", [1e2, 1e4])
def test_observations_far_out_agree(scale: float) -> None:
    require_equal(untrained(), scale=scale, atol=1e-4)


def test_a_deterministic_policy_gives_equal_candidates_whatever_the_noise() -> None:
    exported = OnnxGraph(to_onnx(untrained(agent="td3_bc")))
    noise = draw_noise(np.random.default_rng(0), (1, 4, 2), "first")
    decision = exported(np.zeros(3, np.float32), noise)
    np.testing.assert_array_equal(decision.candidates, np.tile(decision.action, (4, 1)))
    np.testing.assert_array_equal(decision.q_values, np.zeros(4))


@pytest.mark.parametrize(
    ("low", "high"), [(0.1, 0.3), (-0.7, 0.1), (1000.0, 1000.001), (-1000.0, 1.6e-5), (2.0, 2.0)]
)
def test_no_rounding_leads_out_of_the_bounds(low: float, high: float) -> None:
    graph = untrained(agent="td3_bc")
    graph.action_low, graph.action_high = torch.full((2,), low), torch.full((2,), high)
    for sign in (-1.0, 1.0):  # the squashed output is -1 or 1 exactly
        graph.get_parameter("sampler.last.bias").data.fill_(sign * 100.0)
        exported = OnnxGraph(to_onnx(graph))
        noise = draw_noise(np.random.default_rng(0), (1, 1, 2), "first")
        action = exported(np.zeros(3, np.float32), noise).action
        assert (action >= np.float32(low)).all()
        assert (action <= np.float32(high)).all()
        np.testing.assert_allclose(action, low if sign < 0 else high, rtol=1e-6, atol=1e-4)


def test_equal_models_are_equal_to_the_byte() -> None:
    assert to_onnx(untrained()) == to_onnx(untrained())


def test_weights_are_stored_once_though_every_step_uses_them() -> None:
    network = {"width": 64, "depth": 3}
    graph = untrained(agent="diffusion_bc", policy=network)
    steps = untrained(agent="diffusion_bc", policy=network, diffusion={"num_diffusion_steps": 6})
    hidden = 64 * 64 * 4
    assert len(to_onnx(steps)) - len(to_onnx(graph)) < hidden


def test_mish_is_exact_and_finite_everywhere() -> None:
    builder = OnnxBuilder()
    negated = builder.add("Neg", "x")
    builder.add("Neg", negated_mish(builder, negated), output="y")
    model = builder.model({"x": [1, "N"]}, {"y": [1, "N"]}, "")
    x = np.concatenate([np.linspace(-30, 30, 2001), [-1e30, -300.0, -88.0, 88.0, 300.0, 1e30]])
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    (y,) = session.run(None, {"x": x[None].astype(np.float32)})
    expected = x * np.tanh(np.logaddexp(0.0, x))
    np.testing.assert_allclose(y[0], expected, rtol=1e-5, atol=1e-30)


def test_an_unknown_kind_of_policy_is_refused() -> None:
    graph = untrained()
    graph.sampler = torch.nn.Identity()  # type: ignore[assignment]
    graph.sampler.num_noises = 1
    with pytest.raises(TypeError, match="Identity cannot be written as ONNX nodes"):
        to_onnx(graph)
