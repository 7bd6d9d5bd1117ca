"""Every policy that can be exported decides in C as in ONNX Runtime, compiled with sanitizers."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from dql_core.algo.registry import AGENTS
from dql_core.export.bundle import measure_parity
from dql_core.export.c.folder import TOLERANCE
from dql_core.runtime.bundle_policy import BundlePolicy
from dql_core.runtime.onnx_backend import OnnxBackend
from dql_core.runtime.policy import Noise, draw_noise
from tests.core.export.compiled_policy import (
    NOISE,
    OBSERVATION,
    OK,
    RESULT,
    CompiledPolicy,
    compiled,
)
from tests.core.export.random_policies import SPEC, Made, make, noises

LAST = np.float32(np.finfo(np.float32).max)
POLICIES: tuple[dict[str, Any], ...] = (
    *({"agent": agent} for agent in AGENTS),
    {"diffusion": {"prediction": "x0"}},
    {"diffusion": {"prediction": "v"}},
    {
        "diffusion": {
            "prediction": "v",
            "sampler": "ddim",
            "num_diffusion_steps": 1000,
            "num_sampling_steps": 10,
        }
    },
    {"diffusion": {"prediction": "x0", "sampler": "ddim", "num_sampling_steps": 3}},
    {"diffusion": {"sampler": "ddim", "clip_denoised": False}},
    {"diffusion": {"variance": "beta", "schedule": "cosine", "clip_denoised": False}},
    {"diffusion": {"num_diffusion_steps": 1}},
    {"diffusion": {"num_diffusion_steps": 20, "schedule": "linear"}},
    {"policy": {"kind": "mean_flow", "width": 16, "depth": 3}},
    {"agent": "diffusion_bc", "policy": {"kind": "mean_flow", "width": 7, "depth": 1}},
    {"policy": {"width": 9, "depth": 1}, "critic": {"width": 5, "depth": 4}},
    {"critic": {"layer_norm": False}},
    {"critic": {"num_critics": 1}},
    {"critic": {"dueling": True, "num_critics": 3, "lower_bound": 0.3}},
    {"critic": {"dueling": True, "layer_norm": False}},
    {"critic": {"num_critics": 64, "lower_bound": 4.0}},
    {"selection": {"temperature_scale": "raw", "temperature": 0.3}},
    {"selection": {"rule": "greedy", "num_candidates": 3}},
    {"selection": {"rule": "softmax", "num_candidates": 1}},
    {"selection": {"rule": None, "num_candidates": 50}},
    {"selection": {"rule": "mode", "num_candidates": 12}},
    {"selection": {"rule": "mode", "num_candidates": 21, "temperature_scale": "raw"}},
    {"agent": "diffusion_bc", "selection": {"rule": "mode", "num_candidates": 5}},
)


def observations(made: Made, rng: np.random.Generator) -> list[NDArray[np.float32]]:
    """Return usual ones, and such as are at and beyond the edge of what there can be."""
    statistics = made.manifest.data_statistics
    mean, std = statistics.observation_mean, statistics.observation_std
    usual = [mean + std * rng.standard_normal(3, dtype=np.float32) for _ in range(20)]
    return [*usual, mean, mean * 0, *(mean + std * np.float32(far) for far in (-3.0, 4.0, 10.0))]


@pytest.mark.slow
@pytest.mark.parametrize("sections", POLICIES, ids=str)
def test_c_decides_as_onnx_runtime_and_torch_do(sections: dict[str, Any], tmp_path: Path) -> None:
    made, rng = make(tmp_path, **sections), np.random.default_rng(0)
    with compiled(made.c, 2, tmp_path / "c") as policy:
        rows = observations(made, rng)
        differ = sum(not agree(made, policy, row, noises(made, rng)) for row in rows)
        # Where two candidates are worth the same, rounding decides; it must be seldom.
        assert differ <= 1
        if made.choice.selection != "mode":
            bounded = made.manifest.observation_normalizer.bounded(np.stack(rows))
            parity = measure_parity(made.graph, policy, bounded, "draws", made.choice)
            assert parity.action_error <= TOLERANCE
            assert parity.candidate_error <= TOLERANCE
            assert parity.q_error <= TOLERANCE


def agree(
    made: Made,
    policy: CompiledPolicy,
    observation: NDArray[np.float32],
    noise: Noise,
    tolerance: float = TOLERANCE,
) -> bool:
    """Compare what C and ONNX Runtime decide; return whether they choose the same action."""
    expected, found = made.in_onnx_runtime(observation, noise), policy(observation, noise)
    span = SPEC.action_high - SPEC.action_low
    size = max(1.0, float(np.abs(expected.q_values).max()))
    assert np.abs((found.candidates - expected.candidates) / span).max() <= tolerance
    assert np.abs(found.q_values - expected.q_values).max() <= tolerance * size
    assert (found.action >= SPEC.action_low).all()
    assert (found.action <= SPEC.action_high).all()
    if made.choice.selection != "mode":
        assert (found.candidates == found.action).all(axis=1).any()
    return bool(np.abs((found.action - expected.action) / span).max() <= tolerance)


@pytest.fixture(scope="module")
def usual(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Made, CompiledPolicy]]:
    """A Diffusion-QL that draws one of six by their values, compiled with sanitizers."""
    folder = tmp_path_factory.mktemp("usual")
    made = make(folder)
    with compiled(made.c, 2, folder / "c") as policy:
        yield made, policy


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Made, CompiledPolicy]]:
    """Likewise, on observations as they are."""
    folder = tmp_path_factory.mktemp("raw")
    made = make(folder, standardised=False)
    with compiled(made.c, 2, folder / "c") as policy:
        yield made, policy


@pytest.mark.parametrize("value", [1e3, -1e6, 1e30, float(LAST), -float(LAST), 1e-40, -0.0])
def test_far_beyond_the_data_c_and_onnx_runtime_agree(
    usual: tuple[Made, CompiledPolicy], value: float
) -> None:
    made, policy = usual
    row = np.full(3, value, np.float32)
    assert agree(made, policy, row, noises(made, np.random.default_rng(1)))


@pytest.mark.parametrize("scale", [1.0, 30.0, 1e3])
def test_without_a_range_of_the_data_large_observations_agree_as_far_as_float32_goes(
    raw: tuple[Made, CompiledPolicy], scale: float
) -> None:
    (made, policy), rng = raw, np.random.default_rng(1)
    assert made.manifest.observation_normalizer.observation_max is None
    for _ in range(20):
        row = np.float32(scale) * rng.standard_normal(3, dtype=np.float32)
        assert agree(made, policy, row, noises(made, rng), TOLERANCE * max(1.0, scale / 100))


@pytest.mark.parametrize("factor", [0.0, 10.0, 1e4, -1e4])
def test_extreme_noise_agrees(usual: tuple[Made, CompiledPolicy], factor: float) -> None:
    (made, policy), rng = usual, np.random.default_rng(2)
    for row in observations(made, rng)[:5]:
        noise = noises(made, rng)
        agree(made, policy, row, noise._replace(steps=noise.steps * np.float32(factor)), 1e-4)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_refused_and_leaves_the_action_as_it_was(
    usual: tuple[Made, CompiledPolicy], bad: float
) -> None:
    made, policy = usual
    row = made.manifest.observation_normalizer.observation_mean
    noise = noises(made, np.random.default_rng(0))
    before = policy(row, noise).action
    for index in range(3):
        status, after = policy.decide(replaced(row, index, bad), noise)
        assert status == OBSERVATION
        np.testing.assert_array_equal(after.action, before)
    for field, size in (("steps", noise.steps.size), ("selection", noise.selection.size)):
        for index in (0, size - 1):
            wrong = noise._replace(**{field: replaced(getattr(noise, field), index, bad)})
            status, after = policy.decide(row, wrong)
            assert status == NOISE
            np.testing.assert_array_equal(after.action, before)
    assert policy.decide(row, noise)[0] == OK


def replaced(array: NDArray[np.float32], index: int, value: float) -> NDArray[np.float32]:
    copy = array.copy()
    copy.flat[index] = value
    return copy


def test_a_result_that_overflows_is_refused(raw: tuple[Made, CompiledPolicy]) -> None:
    made, policy = raw
    noise = noises(made, np.random.default_rng(0))
    before = policy(np.zeros(3, np.float32), noise).action
    status, after = policy.decide(np.array([LAST, -LAST, LAST]), noise)
    assert status == RESULT
    np.testing.assert_array_equal(after.action, before)


@pytest.mark.parametrize("tile", [1, 3, 8])
def test_memory_for_more_or_fewer_candidates_gives_the_same_numbers(
    usual: tuple[Made, CompiledPolicy], tmp_path: Path, tile: int
) -> None:
    made, policy = usual
    row = made.manifest.observation_normalizer.observation_mean
    noise = noises(made, np.random.default_rng(0))
    expected = policy(row, noise)
    flags = (
        "-std=c99",
        "-O1",
        "-fsanitize=address,undefined",
        f"-D{made.c.prefix.upper()}_TILE={tile}",
    )
    with compiled(made.c, 2, tmp_path / "tiled", *flags) as policy:
        found = policy(row, noise)
    for name in ("action", "q_values", "candidates"):
        values = getattr(expected, name)
        np.testing.assert_allclose(getattr(found, name), values, rtol=1e-6, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("rule", "flags"),
    [
        ("softmax", "-std=c11 -pedantic -O2"),
        ("mode", "-std=gnu99 -O3 -march=native"),
        ("mode", "-x c++ -std=c++98 -pedantic -O1"),
        ("softmax", "-x c++ -std=c++17 -pedantic -O1 -fsanitize=address,undefined"),
    ],
)
def test_other_compilers_and_cpp_give_the_same(tmp_path: Path, rule: str, flags: str) -> None:
    made, rng = make(tmp_path, selection={"rule": rule}), np.random.default_rng(0)
    with compiled(made.c, 2, tmp_path / "c", *flags.split()) as policy:
        for row in observations(made, rng)[:5]:
            assert agree(made, policy, row, noises(made, rng))


def test_the_bundle_decides_so_with_its_own_generator(
    usual: tuple[Made, CompiledPolicy],
) -> None:
    made, policy = usual
    shape = made.graph.noise_shape(6)
    bundle = BundlePolicy(made.manifest, OnnxBackend()(made.manifest, made.contents), made.choice)
    row = made.manifest.observation_normalizer.observation_mean
    for seed in range(5):
        noise = draw_noise(np.random.default_rng(seed), shape, "softmax")
        expected = bundle.act(row, np.random.default_rng(seed))
        np.testing.assert_allclose(policy(row, noise).action, expected.action, atol=1e-5)
