"""A policy that lies at bounds which its data keeps away from is reported."""

import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dql_core.config import TrainConfig
from dql_core.data.dataset import Episode, load_dataset, write_dataset
from dql_core.spec import FieldSpec, PolicySpec
from dql_core.training.action_bounds import ActionBounds, at_bounds
from dql_core.training.checkpoint import Checkpoint
from dql_core.training.loop import train
from dql_core.training.preparation import load_training_data, new_run

SPEC = PolicySpec(
    "cart",
    10.0,
    (FieldSpec("x"),),
    (FieldSpec("push", "N", -4.0, 4.0), FieldSpec("grip", "", 0.0, 1.0)),
)


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """Pushes within a quarter of their range; the gripper is always open or closed."""
    rng = np.random.default_rng(0)
    episodes = [
        Episode(
            observations=rng.normal(size=(31, 1)).astype(np.float32),
            actions=np.stack([rng.uniform(-1.0, 1.0, 30), rng.integers(0, 2, 30)], axis=1).astype(
                np.float32
            ),
            rewards=rng.normal(size=30),
            terminated=False,
            truncated=True,
        )
        for _ in range(4)
    ]
    write_dataset(tmp_path / "set", episodes, SPEC)
    return tmp_path / "set"


def make_config(dataset: Path, **changes: Any) -> TrainConfig:
    return TrainConfig.model_validate(
        {
            "run": {"steps": 8, "batch_size": 8, "log_every": 4, "checkpoint_every": 4},
            "data": {"dataset": str(dataset)},
            "policy": {"width": 8},
            "critic": {"width": 8},
            "selection": {"num_candidates": 3},
            **changes,
        }
    )


def driven_to_its_bounds(config: TrainConfig) -> tuple[Checkpoint, ActionBounds]:
    """A run at its end, of a TD3+BC that always asks for the upper bounds."""
    data = load_training_data(config)
    run = new_run(config, data.learned)
    run.agent.step = config.run.steps
    sampler = run.agent.acting_sampler
    assert isinstance(sampler, torch.nn.Module)
    layers = [each for each in sampler.modules() if isinstance(each, torch.nn.Linear)]
    layers[-1].bias.data.fill_(30.0)
    return run, ActionBounds(run, data)


def test_a_bound_is_reached_within_a_thousandth_of_the_range() -> None:
    actions = np.array([[4.0, 0.0], [-3.993, 0.0009], [3.99, 0.002]], np.float32)
    assert at_bounds(actions, SPEC).tolist() == [[True, True], [True, True], [False, False]]


@pytest.mark.parametrize(
    ("held_out", "source", "number"), [(0.5, "held-out episodes", 60), (0.0, "training ep", 120)]
)
def test_a_policy_at_its_bounds_is_warned_of_beside_the_datas_share(
    dataset: Path, caplog: pytest.LogCaptureFixture, held_out: float, source: str, number: int
) -> None:
    config = make_config(dataset, agent="td3_bc", validation={"held_out": held_out})
    run, bounds = driven_to_its_bounds(config)
    caplog.clear()
    measured = bounds.measure(run)
    assert measured["at_bounds"]["policy"] == {"push": 1.0, "grip": 1.0}
    assert measured["at_bounds"]["data"] == {"push": 0.0, "grip": 1.0}
    assert measured["at_bounds"]["observations"] == number
    assert (measured["actions_at_bounds"], measured["actions_at_bounds_in_data"]) == (1.0, 0.5)
    (line,) = caplog.messages
    assert line.startswith(
        "step 8: in 100 % of the policy's actions 'push' is at a bound, and in 0 % of those of "
        f"the {source}"
    )
    assert "(all 2 fields together: 100 % and 50 %): it does not act like the data" in line
    assert line.endswith("lower td3.alpha, or imitate: agent=diffusion_bc")


def test_of_a_single_action_field_no_sum_is_said(
    dataset: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    loaded = load_dataset(dataset)
    narrow = [replace(each, actions=each.actions[:, :1]) for each in loaded.episodes]
    write_dataset(tmp_path / "narrow", narrow, replace(SPEC, action=SPEC.action[:1]))
    run, bounds = driven_to_its_bounds(make_config(tmp_path / "narrow", agent="td3_bc"))
    caplog.clear()
    bounds.measure(run)
    (line,) = caplog.messages
    assert "in 0 % of those of the training episodes: it does not act like the data" in line


@pytest.mark.parametrize(
    ("schedule", "remedy"),
    [("vp", "train longer, or set diffusion.schedule=cosine"), ("cosine", "train longer")],
)
def test_the_remedy_of_an_imitator_is_another_schedule_where_there_is_one(
    dataset: Path, caplog: pytest.LogCaptureFixture, schedule: str, remedy: str
) -> None:
    config = make_config(dataset, agent="diffusion_bc", diffusion={"schedule": schedule})
    run, bounds = driven_to_its_bounds(config)
    caplog.clear()
    bounds.measure(run)
    (line,) = caplog.messages
    assert line.endswith(f"it does not act like the data; {remedy}")


def test_an_early_checkpoint_is_not_warned_of(
    dataset: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run, bounds = driven_to_its_bounds(make_config(dataset, agent="td3_bc"))
    run.agent.step = 3
    caplog.clear()
    assert bounds.measure(run)["actions_at_bounds"] == 1.0
    assert caplog.messages == []


@pytest.mark.parametrize("agent", ["diffusion_ql", "diffusion_bc"])
def test_each_checkpoint_of_a_run_reports_it_and_learns_the_same(
    dataset: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, agent: str
) -> None:
    caplog.set_level(logging.INFO)
    train(make_config(dataset, agent=agent), tmp_path / "run")
    lines = (tmp_path / "run" / "validation.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in lines]
    assert [record["step"] for record in records] == [4, 8]
    for record in records:
        shares = record["at_bounds"]["policy"].values()
        assert record["actions_at_bounds"] == pytest.approx(np.mean(list(shares)))
        words = f"step {record['step']}: actions at bounds {record['actions_at_bounds']:.4g}, "
        assert any(line.startswith(words) for line in caplog.messages)


def test_measuring_leaves_the_run_as_it_is_and_says_the_same_again(dataset: Path) -> None:
    config = make_config(dataset)
    data = load_training_data(config)
    run = new_run(config, data.learned)
    bounds = ActionBounds(run, data)
    generator, torchs = run.agent.noise.generator.get_state(), torch.get_rng_state()
    first = bounds.measure(run)
    assert bounds.measure(run) == first
    assert torch.equal(run.agent.noise.generator.get_state(), generator)
    assert torch.equal(torch.get_rng_state(), torchs)
