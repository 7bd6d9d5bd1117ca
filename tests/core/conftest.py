"""A tiny robot, its dataset, an untrained checkpoint and the bundle made from it."""

# ruff: noqa: PLC0415 - what needs none of this is tested where torch is not installed, too.

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from dql_core.config import AgentName, TrainConfig
from dql_core.normalize import Normalizer
from dql_core.spec import FieldSpec, PolicySpec

if TYPE_CHECKING:
    from dql_core.data.dataset import Episode

TINY_SPEC = PolicySpec(
    robot="tiny",
    rate_hz=20.0,
    observation=(
        FieldSpec("elbow", "rad", -3.0, 3.0),
        FieldSpec("elbow_speed", "rad/s"),
        FieldSpec("target", "m"),
    ),
    action=(FieldSpec("elbow_torque", "N m", -2.0, 1.0), FieldSpec("grip", "", 0.0, 0.1)),
    contract_hash="c0ffee" * 10,
)


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    """Networks of the tests are too small to share among threads."""
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)


@pytest.fixture(autouse=True)
def _same_draws() -> None:
    """A test draws the same numbers whichever tests ran before it in its process."""
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(0)


@pytest.fixture(scope="session")
def tiny_spec() -> PolicySpec:
    return TINY_SPEC


@pytest.fixture(scope="session")
def tiny_dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a dataset with three episodes."""
    from dql_core.data.dataset import write_dataset

    folder = tmp_path_factory.mktemp("tiny") / "dataset"
    rng = np.random.default_rng(0)
    episodes = [tiny_episode(rng, length, terminated=length == 8) for length in (5, 8, 6)]
    write_dataset(folder, episodes, TINY_SPEC, description="Random draws.")
    return folder


def tiny_episode(rng: np.random.Generator, length: int, terminated: bool) -> Episode:
    """Draw an episode of random numbers."""
    from dql_core.data.dataset import Episode

    return Episode(
        observations=rng.normal([0.5, 0.0, 3.0], [0.1, 2.0, 1.0], (length + 1, 3)).astype("f4"),
        actions=rng.uniform(TINY_SPEC.action_low, TINY_SPEC.action_high, (length, 2)).astype("f4"),
        rewards=rng.normal(size=length),
        terminated=terminated,
        truncated=not terminated,
    )


def save_untrained(
    parent: Path, dataset: Path, agent: AgentName, horizon: int = 1, weights: str = "online"
) -> Path:
    """Save a checkpoint with random weights, equal at each call, and return the run's folder."""
    import torch

    from dql_core.algo.registry import make_agent
    from dql_core.training.checkpoint import Checkpoint, save_checkpoint

    network: dict[str, Any] = {"width": 16, "depth": 2}
    config = TrainConfig.model_validate(
        {
            "agent": agent,
            "data": {"dataset": str(dataset)},
            "policy": network | {"horizon": horizon},
            "critic": network | {"layer_norm": True},
            "selection": {
                "rule": "softmax",
                "num_candidates": 8,
                "temperature": 0.5,
                "weights": weights,
            },
        }
    )
    rng = np.random.default_rng(0)
    observations = tiny_episode(rng, 50, terminated=False).observations
    torch.manual_seed(0)
    checkpoint = Checkpoint(
        spec=TINY_SPEC,
        config=config,
        normalizer=Normalizer.fit(observations, TINY_SPEC),
        agent=make_agent(config, TINY_SPEC, torch.Generator()),
        batches=torch.Generator(),
    )
    save_checkpoint(parent / "run", checkpoint)
    return parent / "run"


@pytest.fixture
def config_file(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """Return a file of the training configuration ``CONFIG`` of the test's module."""
    path = tmp_path / "tiny.yaml"
    path.write_text(request.module.CONFIG)
    return path


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory: pytest.TempPathFactory, tiny_dataset: Path) -> Path:
    """Return the folder of a run with one checkpoint of an untrained Diffusion-QL."""
    return save_untrained(tmp_path_factory.mktemp("tiny"), tiny_dataset, "diffusion_ql")


@pytest.fixture(scope="session")
def tiny_bc_run(tmp_path_factory: pytest.TempPathFactory, tiny_dataset: Path) -> Path:
    """Return the folder of a run with one checkpoint of an untrained Diffusion-BC."""
    return save_untrained(tmp_path_factory.mktemp("tiny"), tiny_dataset, "diffusion_bc")


@pytest.fixture
def tiny_run_without_data(tmp_path: Path) -> Path:
    """Return a run like `tiny_run` whose dataset is gone."""
    return save_untrained(tmp_path, tmp_path / "gone", "diffusion_ql")


@pytest.fixture(scope="session")
def tiny_bundle(tmp_path_factory: pytest.TempPathFactory, tiny_run: Path) -> Path:
    """Return the folder of the bundle exported from `tiny_run`."""
    from dql_core.export.bundle import export_bundle

    folder = tmp_path_factory.mktemp("tiny") / "bundle"
    export_bundle(tiny_run, folder)
    return folder
