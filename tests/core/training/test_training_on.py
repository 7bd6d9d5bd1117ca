"""A run that begins with another run's weights has them, says so, and resumes without that run."""

import dataclasses
import hashlib
import logging
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dql_core.config import TrainConfig
from dql_core.data.dataset import write_dataset
from dql_core.errors import CheckpointError, ConfigError, SpecMismatchError
from dql_core.export.bundle import export_bundle
from dql_core.spec import PolicySpec
from dql_core.training.checkpoint import Checkpoint, load_checkpoint
from dql_core.training.loop import train
from dql_core.training.run_files import find_checkpoint, read_best, read_run_info
from tests.core.conftest import TINY_SPEC, tiny_episode
from tests.core.training.test_resume import require_equal_runs

pytestmark = pytest.mark.slow

STEPS = 30


def write(folder: Path, seed: int, spec: PolicySpec = TINY_SPEC, shift: float = 0.0) -> Path:
    rng = np.random.default_rng(seed)
    episodes = []
    for length in (14, 11):
        drawn = tiny_episode(rng, length, terminated=length == 11)
        flags = {"intervention": np.arange(length) >= length - 3}
        rows = (drawn.observations + np.float32(shift)).astype(np.float32)
        episodes.append(dataclasses.replace(drawn, observations=rows, infos=flags))
    write_dataset(folder, episodes, spec)
    return folder


def make_config(*datasets: Path, **changes: Any) -> TrainConfig:
    run = {"steps": STEPS, "batch_size": 8, "log_every": 5, "checkpoint_every": 10}
    return TrainConfig.model_validate(
        {
            "policy": {"width": 8},
            "critic": {"width": 8},
            **changes,
            "data": {"dataset": [str(each) for each in datasets], **changes.get("data", {})},
            "run": run | {"num_threads": 1} | changes.get("run", {}),
        }
    )


@pytest.fixture
def new(tmp_path: Path) -> Path:
    return write(tmp_path / "new", seed=1)


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("trained") / "old", seed=0)


@pytest.fixture(scope="module")
def trained(old: Path) -> Path:
    """Return a run of Diffusion-QL, on the dataset beside it."""
    run = old.parent / "run"
    train(make_config(old), run)
    return run


def weights(run: Checkpoint) -> dict[str, torch.Tensor]:
    return {
        f"{name}.{key}": parameter
        for name, module in run.agent.modules.items()
        for key, parameter in module.named_parameters()
    }


def begun(run: Path) -> Checkpoint:
    """Return a run as it began."""
    return load_checkpoint(run / "checkpoints" / "step-00000000")


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"agent": "td3_bc"},
        {"agent": "diffusion_bc", "policy": {"width": 8, "kind": "mean_flow"}},
        {"critic": {"width": 8, "kind": "expectile", "dueling": True, "num_critics": 3}},
        {"selection": {"critics": "untrained"}},
    ],
    ids=str,
)
def test_a_run_begins_with_every_weight_of_the_other_one(
    tmp_path: Path, old: Path, new: Path, changes: dict[str, Any]
) -> None:
    train(make_config(old, **changes), tmp_path / "first")
    config = make_config(new, init={"run": str(tmp_path / "first")}, **changes)
    train(config, tmp_path / "second")
    last, first = load_checkpoint(tmp_path / "first"), begun(tmp_path / "second")
    expected, found = weights(last), weights(first)
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert torch.equal(found[name], tensor), name
    assert (first.step, last.step) == (0, STEPS)
    for name, optimizer in first.agent.optimizers.items():
        for key, state in optimizer.state_dict().items():
            assert not state.any(), f"{name}.{key}"
    # They are trained on, and what is at the end can be exported.
    trained_on = weights(load_checkpoint(tmp_path / "second"))
    moved = {key for key in expected if not torch.equal(trained_on[key], expected[key])}
    assert moved == {key for key in expected if not key.startswith("untrained_critic")}
    export_bundle(tmp_path / "second", tmp_path / "bundle")


def test_the_record_says_what_a_run_came_from(
    tmp_path: Path, trained: Path, old: Path, new: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        train(make_config(new, init={"run": str(trained)}), tmp_path / "run")
    folder = find_checkpoint(trained)
    assert read_run_info(tmp_path / "run")["initialised_from"] == {
        "run": str(trained),
        "checkpoint": folder.name,
        "step": STEPS,
        "state_sha256": hashlib.sha256((folder / "state.safetensors").read_bytes()).hexdigest(),
        "config_hash": make_config(old).hash(),
        "dataset_sha256": read_run_info(trained)["dataset"]["sha256"],
        "normalizer": "kept",
    }
    (line,) = (text for text in caplog.messages if text.startswith("begins with"))
    assert line == (
        f"begins with the weights of {folder} (policy and its average, critics and their "
        f"targets, step {STEPS}); the normaliser is kept; optimisers are new"
    )
    assert "initialised_from" not in read_run_info(trained)
    assert set(read_best(tmp_path / "run")) >= {"last", "best_offline"}


def test_a_checkpoint_can_be_named_in_place_of_its_run(
    tmp_path: Path, trained: Path, new: Path
) -> None:
    earlier = trained / "checkpoints" / "step-00000010"
    train(make_config(new, init={"run": str(earlier)}), tmp_path / "run")
    expected, found = weights(load_checkpoint(earlier)), weights(begun(tmp_path / "run"))
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())
    assert read_run_info(tmp_path / "run")["initialised_from"]["step"] == 10


def test_the_normaliser_is_kept_or_fitted_to_the_new_data(
    tmp_path: Path, trained: Path, caplog: pytest.LogCaptureFixture
) -> None:
    far = write(tmp_path / "far", seed=2, shift=50.0)
    init = {"run": str(trained)}
    train(make_config(far, init=init), tmp_path / "kept")
    assert "the new data's 'elbow' is 50 +- " in caplog.text
    caplog.clear()
    train(make_config(far, init=init | {"normalizer": "refitted"}), tmp_path / "refitted")
    assert "new data's 'elbow'" not in caplog.text
    train(make_config(far), tmp_path / "alone")
    there, kept, refitted, alone = (
        load_checkpoint(run).normalizer
        for run in (trained, *(tmp_path / name for name in ("kept", "refitted", "alone")))
    )
    for name in ("observation_mean", "observation_std"):
        np.testing.assert_array_equal(getattr(kept, name), getattr(there, name))
        np.testing.assert_array_equal(getattr(refitted, name), getattr(alone, name))
    # What both have seen is within what the policy knows.
    assert kept.observation_min is not None
    assert there.observation_min is not None
    assert kept.observation_max is not None
    assert alone.observation_max is not None
    np.testing.assert_array_equal(kept.observation_min, there.observation_min)
    np.testing.assert_array_equal(kept.observation_max, alone.observation_max)


def test_a_twin_that_the_other_run_has_not_begins_as_the_policy(
    tmp_path: Path, old: Path, new: Path
) -> None:
    train(make_config(old, policy={"width": 8, "max_imitation_ratio": None}), tmp_path / "without")
    train(make_config(new, init={"run": str(tmp_path / "without")}), tmp_path / "with")
    first = begun(tmp_path / "with").agent.modules
    policy = first["policy"].get_submodule("online").state_dict()
    twin = first["guidance"].get_submodule("imitator").state_dict()
    assert policy.keys() == twin.keys()
    assert all(torch.equal(twin[name], tensor) for name, tensor in policy.items())


def test_a_run_resumes_to_the_same_bits_without_the_run_that_it_came_from(
    tmp_path: Path, trained: Path, old: Path, new: Path
) -> None:
    shutil.copytree(trained, tmp_path / "source")
    config = make_config(
        old,
        new,
        init={"run": str(tmp_path / "source")},
        data={"ratio": [1, 3], "weights": {"intervention": 4}},
    )
    train(config, tmp_path / "whole")
    for name, kept in (("early", 0), ("late", 20)):
        shutil.copytree(tmp_path / "whole", tmp_path / name)
        for folder in (tmp_path / name / "checkpoints").iterdir():
            if int(folder.name[5:]) > kept:
                shutil.rmtree(folder)
    shutil.rmtree(tmp_path / "source")
    for name in ("early", "late"):
        result = train(config, tmp_path / name, resume=True)
        assert (result.step, result.finished) == (STEPS, True)
        require_equal_runs(tmp_path / "whole", tmp_path / name, STEPS)


def test_a_run_whose_first_weights_are_gone_does_not_begin_at_random(
    tmp_path: Path, trained: Path, new: Path
) -> None:
    config = make_config(new, init={"run": str(trained)})
    train(config, tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "checkpoints")
    with pytest.raises(CheckpointError, match="weights that it began with is missing: restore"):
        train(config, tmp_path / "run", resume=True)


@pytest.mark.parametrize(
    ("changes", "key", "there"),
    [
        ({"agent": "td3_bc"}, "agent", "diffusion_ql"),
        ({"policy": {"width": 16}}, "policy.width", "8"),
        ({"policy": {"width": 8, "depth": 2}}, "policy.depth", "3"),
        ({"policy": {"width": 8, "kind": "mean_flow"}}, "policy.kind", "diffusion"),
        ({"diffusion": {"prediction": "epsilon"}}, "diffusion.prediction", "x0"),
        ({"diffusion": {"schedule": "vp"}}, "diffusion.schedule", "cosine"),
        ({"critic": {"width": 16}}, "critic.width", "8"),
        ({"critic": {"width": 8, "num_critics": 3}}, "critic.num_critics", "2"),
        ({"critic": {"width": 8, "layer_norm": False}}, "critic.layer_norm", "True"),
        ({"critic": {"width": 8, "kind": "expectile"}}, "critic.kind", "policy"),
    ],
    ids=str,
)
def test_other_networks_are_refused_by_their_key_and_the_remedy_works(
    tmp_path: Path, trained: Path, new: Path, changes: dict[str, Any], key: str, there: str
) -> None:
    config = make_config(new, init={"run": str(trained)}, **changes)
    with pytest.raises(ConfigError) as refused:
        train(config, tmp_path / "run")
    text = str(refused.value)
    assert f"was trained with {key}={there} and this run has " in text
    assert f"set {key}={there}, or train without --init-from" in text
    assert "\n" not in text
    assert not (tmp_path / "run").exists()


def test_another_robot_is_refused(tmp_path: Path, trained: Path) -> None:
    first, *others = TINY_SPEC.observation
    for field, key in (
        (dataclasses.replace(first, unit="deg"), "unit is 'rad' in the former and 'deg'"),
        (dataclasses.replace(first, name="knee"), "name is 'elbow' in the former and 'knee'"),
    ):
        spec = dataclasses.replace(TINY_SPEC, observation=(field, *others))
        other = write(tmp_path / key[:4], seed=3, spec=spec)
        with pytest.raises(SpecMismatchError, match=f"{key}.*or train without --init-from"):
            train(make_config(other, init={"run": str(trained)}), tmp_path / "run")
        assert not (tmp_path / "run").exists()


def test_other_limits_of_an_action_are_refused_where_the_normaliser_is_kept(
    tmp_path: Path,
) -> None:
    known = [
        dataclasses.replace(
            TINY_SPEC,
            observation=tuple(
                dataclasses.replace(each, source={"topic": "/s"}) for each in TINY_SPEC.observation
            ),
            action=tuple(
                dataclasses.replace(each, source={"topic": "/a"}, low=low)
                for each in TINY_SPEC.action
            ),
        )
        for low in (-2.0, -3.0)
    ]
    narrow = write(tmp_path / "narrow", seed=0, spec=known[0])
    wide = write(tmp_path / "wide", seed=0, spec=known[1])
    train(make_config(narrow), tmp_path / "first")
    init = {"run": str(tmp_path / "first")}
    with pytest.raises(
        ConfigError, match="'elbow_torque' are from -2 to 1 and those of the data from -3 to 1"
    ):
        train(make_config(wide, init=init), tmp_path / "second")
    train(make_config(wide, init=init | {"normalizer": "refitted"}), tmp_path / "second")


def test_a_normaliser_that_is_none_is_not_kept(tmp_path: Path, trained: Path, new: Path) -> None:
    raw = make_config(new, init={"run": str(trained)}, data={"normalize_observations": False})
    with pytest.raises(ConfigError, match=r"trained with data\.normalize_observations=True"):
        train(raw, tmp_path / "run")


def test_what_makes_weights_worth_less_is_said(
    tmp_path: Path, trained: Path, old: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = make_config(
        old,
        init={"run": str(trained)},
        data={"reward_scale": 10.0},
        validation={"held_out": 0.4},
    )
    train(config, tmp_path / "run")
    folder = find_checkpoint(trained)
    assert f"the values of {folder} are learned anew: data.reward_scale=10.0 (was 1.0)" in (
        caplog.text
    )
    assert f"held-out episodes of {old} may be among those that {folder} learned from" in (
        caplog.text
    )


def test_a_run_that_is_not_there_or_damaged_is_refused(
    tmp_path: Path, trained: Path, new: Path
) -> None:
    with pytest.raises(CheckpointError, match="no such run folder or checkpoint"):
        train(make_config(new, init={"run": str(tmp_path / "gone")}), tmp_path / "run")
    shutil.copytree(trained, tmp_path / "damaged")
    state = find_checkpoint(tmp_path / "damaged") / "state.safetensors"
    content = state.read_bytes()
    state.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(CheckpointError, match=r"SHA-256.*previous checkpoint is intact: use"):
        train(make_config(new, init={"run": str(tmp_path / "damaged")}), tmp_path / "run")
    assert not (tmp_path / "run").exists()
