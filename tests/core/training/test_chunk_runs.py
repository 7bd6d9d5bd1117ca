"""Runs of policies that emit chunks: they learn, go on to the same bits, and are exported."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box
from numpy.typing import NDArray

from dql_core.algo.agent import measured
from dql_core.algo.backends import named_backend
from dql_core.algo.diffusion_ql import DiffusionQL
from dql_core.algo.execution import compiler_missing
from dql_core.config import TrainConfig
from dql_core.data.dataset import Episode, load_dataset, write_dataset
from dql_core.data.spaces import spec_from_spaces
from dql_core.errors import BundleError, ConfigError, SpecMismatchError
from dql_core.evaluation.offline.fitted_q import FittingSettings
from dql_core.evaluation.offline.judging import judge
from dql_core.evaluation.rollout import ParallelRollouts, evaluate
from dql_core.export.bundle import export_bundle
from dql_core.export.c.export import export_policy
from dql_core.export.candidates import Policies
from dql_core.runtime.bundle_policy import load_policy
from dql_core.runtime.manifest import MANIFEST_FILE, read_manifest
from dql_core.runtime.policy import Committed, Decision
from dql_core.training.checkpoint import load_checkpoint
from dql_core.training.loop import train
from tests.core.algo.naive import make_batch, make_config
from tests.core.conftest import TINY_SPEC, tiny_episode

Array = NDArray[np.float32]
H, STEPS = 3, 30


class Line(gym.Env[Array, Array]):
    """A point that is pushed along a line for 15 steps and had best be at 0."""

    observation_space = Box(-np.inf, np.inf, (1,), np.float32)
    action_space = Box(-1.0, 1.0, (1,), np.float32)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Array, dict[str, Any]]:
        super().reset(seed=seed)
        self.place, self.left = self.np_random.uniform(-1.0, 1.0), 15
        return np.array([self.place], np.float32), {}

    def step(self, action: Array) -> tuple[Array, float, bool, bool, dict[str, Any]]:
        self.place += 0.25 * float(action[0])
        self.left -= 1
        return (
            np.array([self.place], np.float32),
            -abs(self.place),
            False,
            self.left == 0,
            {},
        )


LINE = spec_from_spaces(Line.observation_space, Line.action_space, "line", "the test")


@pytest.fixture(autouse=True)
def _registered() -> Iterator[None]:
    gym.register("Line-v0", lambda **_: Line(), disable_env_checker=True)
    yield
    del gym.registry["Line-v0"]


def wandering(rng: np.random.Generator) -> Episode:
    """Record an episode of pushes that keep to one way for some steps."""
    env, rows, rewards = Line(), [], []
    rows.append(env.reset(seed=int(rng.integers(1 << 30)))[0])
    pushes = np.repeat(rng.uniform(-1.0, 1.0, 8), 2)[:15, None].astype("f4")
    for push in pushes:
        row, reward, *_ = env.step(push)
        rows.append(row)
        rewards.append(reward)
    return Episode(np.stack(rows), pushes, np.array(rewards), False, True)


@pytest.fixture(scope="module", name="line")
def _line(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("line") / "data"
    rng = np.random.default_rng(0)
    write_dataset(folder, [wandering(rng) for _ in range(150)], LINE)
    return folder


def tiny(dataset: Path, horizon: int = H, **changes: Any) -> TrainConfig:
    run = {"steps": STEPS, "batch_size": 8, "log_every": 7, "checkpoint_every": 10}
    return TrainConfig.model_validate(
        {
            "data": {"dataset": str(dataset)},
            "policy": {"width": 8, "horizon": horizon},
            "critic": {"width": 8},
            "selection": {"num_candidates": 6},
            "validation": {"held_out": 0.34},
            **changes,
            "run": run | {"num_threads": 1} | changes.get("run", {}),
        }
    )


@pytest.fixture(scope="module", name="dataset")
def _dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a dataset of which one episode is shorter than a chunk."""
    folder = tmp_path_factory.mktemp("tiny") / "data"
    rng = np.random.default_rng(0)
    lengths = (12, 18, 16, 2, 14, 15)
    episodes = [tiny_episode(rng, length, terminated=length > 14) for length in lengths]
    write_dataset(folder, episodes, TINY_SPEC)
    return folder


@pytest.fixture(scope="module", name="run")
def _run(tmp_path_factory: pytest.TempPathFactory, dataset: Path) -> Path:
    folder = tmp_path_factory.mktemp("run") / "run"
    train(tiny(dataset), folder)
    return folder


@pytest.fixture(scope="module", name="bundle")
def _bundle(tmp_path_factory: pytest.TempPathFactory, run: Path) -> Path:
    folder = tmp_path_factory.mktemp("bundle") / "bundle"
    export_bundle(run, folder)
    return folder


def test_the_bundle_says_how_long_its_chunks_are(bundle: Path) -> None:
    manifest = read_manifest(bundle)
    assert manifest.horizon == H
    assert len(manifest.policy_spec.action) == 2
    assert manifest.config["policy"]["horizon"] == H
    assert manifest.parity.observations == 64
    assert 0 < manifest.parity.candidate_error < 1e-4


def test_a_manifest_of_other_chunks_is_refused(bundle: Path, tmp_path: Path) -> None:
    manifest = read_manifest(bundle)
    for name in manifest.files:
        (tmp_path / name).write_bytes((bundle / name).read_bytes())
    for horizon, needed in ((1, r"noise \(5, K, 2\)"), (2, r"committed \(2, 2\)")):
        other = manifest.model_copy(update={"horizon": horizon})
        (tmp_path / MANIFEST_FILE).write_text(other.to_text())
        with pytest.raises(BundleError, match=f"needs .*{needed}"):
            load_policy(tmp_path)
        with pytest.raises(BundleError, match=r"policy.horizon of its config is 3: export"):
            load_policy(tmp_path, backend=named_backend("torch"))


def test_both_back_ends_act_as_the_run_does(run: Path, bundle: Path) -> None:
    rng = np.random.default_rng(0)
    observation = np.array([0.5, 0.0, 3.0], np.float32)
    sent = rng.uniform(TINY_SPEC.action_low, TINY_SPEC.action_high, (H, 2)).astype("f4")
    held = Committed(sent, np.array([1.0, 0.5, 0.0], "f4"))
    original = load_checkpoint(run).policy()
    for name in ("onnx", "torch"):
        policy = load_policy(bundle, backend=named_backend(name))
        assert policy.horizon == original.horizon == H
        for committed in (None, held):
            made = policy.act(observation, np.random.default_rng(1), committed)
            expected = original.act(observation, np.random.default_rng(1), committed)
            np.testing.assert_allclose(made.chunk, expected.chunk, atol=1e-5)
            np.testing.assert_allclose(made.candidates, expected.candidates, atol=1e-5)
        np.testing.assert_allclose(made.chunk[0], sent[0], atol=1e-6)


def test_what_is_committed_must_have_the_shape_of_a_chunk(bundle: Path) -> None:
    policy, rng = load_policy(bundle), np.random.default_rng(0)
    observation = np.array([0.5, 0.0, 3.0], np.float32)
    short = Committed(np.zeros((1, 2), np.float32), np.zeros(1, np.float32))
    with pytest.raises(SpecMismatchError, match=r"shapes \(1, 2\) and \(1,\), .* \(3, 2\) and"):
        policy.act(observation, rng, short)


def test_a_chunk_resembles_the_one_before_with_a_warm_start(bundle: Path) -> None:
    policy = load_policy(bundle, warm_start=1.0, selection="greedy")
    rng, observation = np.random.default_rng(0), np.array([0.5, 0.0, 3.0], np.float32)
    first, second = (policy.act(observation, rng).chunk for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_no_c_is_written_of_chunks(run: Path, bundle: Path, tmp_path: Path) -> None:
    for source in (run, bundle):
        with pytest.raises(ConfigError, match=r"policy.horizon is 3, and no C is written"):
            export_policy(source, c=tmp_path / "c")
    assert not (tmp_path / "c").exists()


def test_the_judge_says_that_first_actions_are_judged(run: Path, dataset: Path) -> None:
    quick = FittingSettings(members=2, width=8, warm_up=10, updates=50)
    episodes = load_dataset(dataset)
    judged = judge(Policies([run]).for_episodes(episodes), episodes, 0.9, settings=quick)
    for each in judged.judged:
        assert "of each of its chunks of 3 actions the first is judged" in str(each.objections)
        assert each.agreement.candidates == 6


def test_a_run_goes_on_to_the_same_bits(dataset: Path, run: Path, tmp_path: Path) -> None:
    config = tiny(dataset)

    class StoppedError(Exception):
        pass

    def stop(step: int, _metrics: object) -> None:
        if step > 14:
            raise StoppedError

    with pytest.raises(StoppedError):
        train(config, tmp_path / "run", stop)
    result = train(config, tmp_path / "run", resume=True)
    assert result.finished
    for name in ("state.safetensors", "checkpoint.json"):
        whole = run / "checkpoints" / result.checkpoint.name / name
        assert (result.checkpoint / name).read_bytes() == whole.read_bytes()


def test_weights_of_other_chunks_are_not_trained_on(
    dataset: Path, run: Path, tmp_path: Path
) -> None:
    config = tiny(dataset, horizon=2, init={"run": str(run)})
    with pytest.raises(ConfigError, match=r"with policy.horizon=3 and this run has 2"):
        train(config, tmp_path / "run")
    train(tiny(dataset, init={"run": str(run)}), tmp_path / "run")


class Counts:
    """A policy of chunks that tells when it was asked."""

    spec, horizon = LINE, 4

    def __init__(self) -> None:
        self.asked = 0

    def reset(self) -> None:
        """Nothing to forget."""

    def act(self, observation: Array, rng: np.random.Generator, committed: Any = None) -> Any:
        self.asked += 1
        chunk = np.linspace(0.1, 0.4, 4, dtype=np.float32)[:, None]
        return Decision.of_chunk(chunk, np.zeros(1, np.float32), chunk[None])

    def act_for_each(self, observations: Array, rngs: Any) -> Array:
        self.asked += 1
        chunk = np.linspace(0.1, 0.4, 4, dtype=np.float32)[:, None]
        return np.tile(chunk, (len(observations), 1, 1))


def test_rollouts_carry_each_chunk_out() -> None:
    policy = Counts()
    result = evaluate(policy, "Line-v0", 2, seed=5)
    assert policy.asked == 2 * 4  # 15 steps take four chunks of four
    place = np.random.Generator(np.random.PCG64(np.random.SeedSequence(5))).uniform(-1.0, 1.0)
    pushes = np.tile(np.linspace(0.1, 0.4, 4), 4)[:15]
    expected = -np.abs(place + 0.25 * np.cumsum(pushes)).sum()
    assert result.returns[0] == pytest.approx(expected, abs=1e-4)
    policy = Counts()
    rollouts = ParallelRollouts("Line-v0", LINE, 2, seed=5)
    side_by_side = rollouts.run(policy)
    rollouts.close()
    assert policy.asked == 4
    assert side_by_side is not None
    np.testing.assert_allclose(side_by_side.returns, result.returns, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("agent", "policy"),
    [("diffusion_ql", {}), ("diffusion_ql", {"kind": "mean_flow"}), ("td3_bc", {})],
    ids=str,
)
def test_it_learns_to_push_to_the_middle(
    agent: str, policy: dict[str, Any], line: Path, tmp_path: Path
) -> None:
    config = TrainConfig.model_validate(
        {
            "agent": agent,
            "data": {"dataset": str(line)},
            "policy": {"width": 32, "horizon": H, "learning_rate": 1e-3, **policy}
            | ({} if agent == "td3_bc" else {"eta": 30.0, "max_imitation_ratio": None}),
            "critic": {"width": 32, "discount": 0.9},
            "selection": {"num_candidates": 20},
            "run": {"steps": 1500, "batch_size": 128, "execution": "eager", "device": "cpu"},
        }
    )
    torch.set_num_threads(1)
    train(config, tmp_path / "run")
    episodes = load_dataset(line).episodes
    recorded = np.mean([episode.rewards.sum() for episode in episodes])
    found = evaluate(load_checkpoint(tmp_path / "run").policy(), "Line-v0", 20, seed=0)
    # What is best earns -1.6 on average: half a unit is left behind in four steps.
    assert recorded < -9.0
    assert found.mean_return.mean > -3.0


@pytest.mark.slow
@pytest.mark.skipif(compiler_missing() is not None, reason="nothing can be compiled")
# Torch's compiler imports what torch itself deprecates.
@pytest.mark.filterwarnings("ignore:.*torch.jit.script_method.*:DeprecationWarning")
def test_a_compiled_update_of_chunks_is_the_plain_one() -> None:
    agents = []
    for execution in ("compiled", "eager"):
        config = make_config(
            run={"execution": execution},
            diffusion={"num_diffusion_steps": 2},
            policy={"depth": 1, "horizon": 2},
            critic={"depth": 1},
        )
        torch.manual_seed(0)
        agents.append(DiffusionQL(config, 3, 4, torch.Generator().manual_seed(1)))
    for seed in range(4):
        batch = make_batch(seed)
        chunks = type(batch)(**vars(batch) | {"action": torch.cat([batch.action] * 2, dim=1)})
        ours, plain = (measured(agent.update(chunks)) for agent in agents)
        torch.testing.assert_close(ours, plain, atol=1e-5, rtol=1e-4)
