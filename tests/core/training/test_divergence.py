"""A run that goes wrong is stopped or told of, and its good checkpoints stay."""

import dataclasses
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dql_core.algo.bc import BCLosses, DiffusionBC
from dql_core.algo.diffusion_ql import DiffusionQL, QLLosses
from dql_core.config import TrainConfig
from dql_core.data.dataset import Episode, LoadedDataset, write_dataset
from dql_core.data.transitions import Batch
from dql_core.errors import DqlError
from dql_core.spec import FieldSpec, PolicySpec
from dql_core.training.loop import train
from dql_core.training.monitor import value_limit

pytestmark = pytest.mark.slow

SPEC = PolicySpec("cart", 10.0, (FieldSpec("x"),), (FieldSpec("push", "N", -4.0, 4.0),))


def episode(rewards: list[float], *, terminated: bool) -> Episode:
    rng = np.random.default_rng(len(rewards))
    return Episode(
        observations=rng.normal(size=(len(rewards) + 1, 1)).astype(np.float32),
        actions=rng.uniform(-4.0, 4.0, size=(len(rewards), 1)).astype(np.float32),
        rewards=np.array(rewards),
        terminated=terminated,
        truncated=not terminated,
    )


@pytest.fixture
def config(tmp_path: Path) -> TrainConfig:
    episodes = [episode([1.0, -2.0, 0.5] * 4, terminated=True) for _ in range(3)]
    write_dataset(tmp_path / "dataset", episodes, SPEC)
    return TrainConfig.model_validate(
        {
            "run": {"steps": 60, "batch_size": 8, "log_every": 7, "checkpoint_every": 20},
            "data": {"dataset": str(tmp_path / "dataset")},
            "policy": {"width": 8},
            "critic": {"width": 8},
        }
    )


Change = Callable[[DiffusionQL, QLLosses], QLLosses]


@pytest.fixture
def after_update(monkeypatch: pytest.MonkeyPatch) -> Callable[[Change], None]:
    """Let something happen after each update, as a defect of the mathematics would."""

    def install(change: Change) -> None:
        update = DiffusionQL.update
        monkeypatch.setattr(
            DiffusionQL, "update", lambda self, batch: change(self, update(self, batch))
        )

    return install


def facts(run: Path) -> Any:
    return json.loads((run / "run.json").read_text())


def test_a_loss_that_is_no_number_stops_the_run_at_its_very_step(
    tmp_path: Path, config: TrainConfig, after_update: Callable[[Change], None]
) -> None:
    def break_at_46(agent: DiffusionQL, losses: QLLosses) -> QLLosses:
        broken = torch.tensor(torch.inf) if agent.step >= 46 else losses.critic
        return dataclasses.replace(losses, critic=broken)

    after_update(break_at_46)
    with pytest.raises(
        DqlError,
        match=r"diverged at step 46: critic = inf, while imitation = "
        r".*; one step before, .*critic = \d.*; its batch has rewards -2 to 1 "
        r"\(mean .*\|action\| up to .*step-00000040; lower the learning",
    ) as caught:
        train(config, tmp_path / "run")
    assert "\n" not in str(caught.value)
    assert "diverged at step 46" in facts(tmp_path / "run")["failure"]
    checkpoints = sorted(path.name for path in (tmp_path / "run" / "checkpoints").iterdir())
    assert checkpoints == ["step-00000020", "step-00000040"]


def test_the_batch_that_is_told_is_the_one_that_was_learned_from(
    tmp_path: Path, config: TrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    rewards: list[float] = []
    update = DiffusionQL.update

    def break_at_24(self: DiffusionQL, batch: Batch) -> QLLosses:
        rewards.append(batch.reward.mean().item())
        losses = update(self, batch)
        return dataclasses.replace(losses, critic=losses.critic * (torch.nan ** (self.step == 24)))

    monkeypatch.setattr(DiffusionQL, "update", break_at_24)
    with pytest.raises(DqlError, match="diverged at step 24: critic = nan") as caught:
        train(config, tmp_path / "run")
    assert len(rewards) == 28  # losses are read every seventh step only
    assert f"(mean {rewards[23]:.3g})" in str(caught.value)


def test_weights_that_are_no_numbers_are_not_saved(
    tmp_path: Path, config: TrainConfig, after_update: Callable[[Change], None]
) -> None:
    def break_at_40(agent: DiffusionQL, losses: QLLosses) -> QLLosses:
        if agent.step == 40:
            agent.critics.target.state_dict()["layers.0.weight"].fill_(torch.nan)
        return losses

    after_update(break_at_40)
    with pytest.raises(
        DqlError,
        match=r"diverged at step 40: the weights "
        r"'target_critic\.layers\.0\.weight' are broken; last good checkpoint: "
        r".*step-00000020",
    ):
        train(config, tmp_path / "run")
    assert len(list((tmp_path / "run" / "checkpoints").iterdir())) == 1


def test_a_run_that_diverges_before_its_first_checkpoint_says_so(
    tmp_path: Path, config: TrainConfig
) -> None:
    huge = config.data.model_copy(update={"reward_scale": 1e30})
    with pytest.raises(DqlError, match=r"diverged at step 1: critic = inf, .*checkpoint: none"):
        train(config.model_copy(update={"data": huge}), tmp_path / "run")


def test_the_remedy_is_one_that_the_agent_has(
    tmp_path: Path, config: TrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def break_at_once(self: DiffusionBC, _: Batch) -> BCLosses:
        self.step += 1
        return BCLosses(torch.tensor(torch.nan))

    monkeypatch.setattr(DiffusionBC, "update", break_at_once)
    imitating = config.model_copy(update={"agent": "diffusion_bc"})
    with pytest.raises(DqlError, match=r"checkpoint: none; lower the learning rate$"):
        train(imitating, tmp_path / "run")


def limit_of(*episodes: Episode, **changes: Any) -> float:
    config = TrainConfig.model_validate({"critic": {"discount": 0.5}, **changes})
    return value_limit(config, LoadedDataset(SPEC, episodes, "test")).largest_return


def test_values_are_limited_by_the_largest_discounted_return_from_any_step() -> None:
    assert limit_of(episode([1.0, 2.0, 4.0], terminated=True)) == 4.0  # 3, 4, 4
    assert limit_of(episode([-3.0, -2.0, 1.0], terminated=True)) == 3.75
    both = episode([1.0], terminated=True), episode([-8.0, 0.0], terminated=True)
    assert limit_of(*both) == 8.0


def test_a_truncated_episode_is_taken_to_go_on_as_it_went() -> None:
    # A mean reward of 2 goes on for ever: 2 / (1 - 0.5).
    assert limit_of(episode([2.0], terminated=False)) == pytest.approx(4.0)
    assert limit_of(episode([1.0, 3.0], terminated=False)) == pytest.approx(3 + 0.5 * 4)


def test_values_are_limited_in_the_units_of_the_critics() -> None:
    data = {"reward_transform": "cql_antmaze", "reward_scale": 0.1}
    assert limit_of(episode([5.0], terminated=True), data=data) == pytest.approx(1.8)


def test_values_beyond_their_limit_are_told_once_until_they_are_back(
    tmp_path: Path,
    config: TrainConfig,
    after_update: Callable[[Change], None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    def inflate(agent: DiffusionQL, losses: QLLosses) -> QLLosses:
        huge = 7 < agent.step <= 21 or agent.step > 49
        magnitude = torch.tensor(1e6 if huge else 1.0)
        return dataclasses.replace(losses, q_magnitude=magnitude)

    after_update(inflate)
    caplog.set_level(logging.INFO, "dql_core")
    train(config, tmp_path / "run")
    said = [record for record in caplog.records if "|Q|" in record.getMessage()]
    assert [record.levelname for record in said] == ["ERROR", "INFO", "ERROR"]
    assert said[0].getMessage().startswith("step 14: mean |Q| is 1e+06, the data allows returns ")
    assert "critic.layer_norm=true" in said[0].getMessage()
    assert said[1].getMessage() == "step 28: mean |Q| is back within its limit: 1"
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["q_alarm"] for line in lines] == [0, 1, 1, 0, 0, 0, 0, 1, 1]
    alarms = facts(tmp_path / "run")["q_alarms"]
    assert [alarm["step"] for alarm in alarms] == [14, 56]
    assert alarms[0]["q_magnitude"] == 1e6


def test_imitation_has_no_values_that_could_diverge(tmp_path: Path, config: TrainConfig) -> None:
    train(config.model_copy(update={"agent": "diffusion_bc"}), tmp_path / "run")
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    assert not any("q_alarm" in json.loads(line) for line in lines)
