"""A run that goes wrong is stopped or told of, and its good checkpoints stay."""

import dataclasses
import json
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dql_core.algo.bc import BCLosses, DiffusionBC
from dql_core.algo.diffusion_ql import DiffusionQL, QLLosses
from dql_core.cli.training_bars import metrics_text
from dql_core.config import TrainConfig
from dql_core.data.dataset import Episode, load_dataset, write_dataset
from dql_core.data.return_range import ReturnRange
from dql_core.data.transitions import Batch
from dql_core.errors import CheckpointError, DqlError
from dql_core.export.bundle import export_bundle
from dql_core.spec import FieldSpec, PolicySpec
from dql_core.training.checkpoint import Progress, load_checkpoint
from dql_core.training.divergence import ValueLimits, divergence_remedy
from dql_core.training.loop import train
from dql_core.training.run_files import checkpoint_folder, find_checkpoint

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
            "data": {"dataset": str(tmp_path / "dataset"), "n_step": 1},
            "policy": {"width": 8},
            "critic": {"width": 8, "layer_norm": False},
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


def test_values_beyond_their_limits_are_reported_once_until_they_are_back(
    tmp_path: Path,
    config: TrainConfig,
    after_update: Callable[[Change], None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    def inflate(agent: DiffusionQL, losses: QLLosses) -> QLLosses:
        huge = 7 < agent.step <= 28 or agent.step > 49
        return dataclasses.replace(losses, q_data=torch.tensor(30.0 if huge else 1.0))

    after_update(inflate)
    caplog.set_level(logging.INFO, "dql_core")
    train(config, tmp_path / "run")
    said = [record for record in caplog.records if "the critics" in record.getMessage()]
    assert [record.levelname for record in said] == ["ERROR", "INFO", "ERROR"]
    first = said[0].getMessage()
    assert first.startswith("step 14: the critics diverge: mean Q is 30, and the discounted ")
    assert "the checkpoint last_healthy is that of step 7;" in first  # kept in memory until then
    assert "set critic.layer_norm=true, lower policy.eta" in first
    assert said[1].getMessage() == "step 35: the critics are back within their limits"
    assert "the checkpoint last_healthy is that of step 40" in said[2].getMessage()
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["q_alarm"] for line in lines] == [0, 1, 1, 1, 0, 0, 0, 1, 1]
    alarms = facts(tmp_path / "run")["q_alarms"]
    assert [(alarm["step"], alarm["until"]) for alarm in alarms] == [(14, 35), (56, None)]
    assert alarms[0]["q_data"] == 30.0
    assert find_checkpoint(tmp_path / "run", "last_healthy").name == "step-00000040"
    loaded = [load_checkpoint(checkpoint_folder(tmp_path / "run", step)) for step in (20, 40, 60)]
    assert [each.progress.alarming for each in loaded] == [True, False, True]


def test_a_checkpoint_between_two_readings_is_not_healthy_if_the_second_is_an_alarm(
    tmp_path: Path,
    config: TrainConfig,
    after_update: Callable[[Change], None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    def inflate(agent: DiffusionQL, losses: QLLosses) -> QLLosses:
        return dataclasses.replace(losses, q_data=torch.tensor(30.0 if agent.step > 49 else 1.0))

    after_update(inflate)
    often = config.run.model_copy(update={"checkpoint_every": 10})
    train(config.model_copy(update={"run": often}), tmp_path / "run")
    (alarm,) = facts(tmp_path / "run")["q_alarms"]
    assert (alarm["since"], alarm["step"]) == (49, 56)
    assert find_checkpoint(tmp_path / "run", "last_healthy").name == "step-00000040"
    for step, warns in ((40, False), (50, True)):
        caplog.clear()
        folder = checkpoint_folder(tmp_path / "run", step)
        export_bundle(folder, tmp_path / f"bundle_{step}")
        assert (f"diverge at this checkpoint (step {step})" in caplog.text) == warns


LIMITS = ValueLimits(ReturnRange(-2.0, 8.0))  # and a tenth of the range on either side


def reasons(
    *readings: tuple[float, float], limits: ValueLimits = LIMITS, untrained: float = 0.0
) -> list[str]:
    """Return the first words of the reason at each reading, of mean Q and the error."""
    known, found = Progress(), []
    limits.allow_untrained(known, untrained, abs(untrained))
    for mean, error in readings:
        metrics = {"q_data": mean, "q_magnitude": abs(mean), "critic_rms": error}
        reason = limits.reason(known, metrics)
        known.alarming = bool(reason)
        found.append(" ".join(reason.split()[:2]))
    return found


def test_a_mean_value_is_an_alarm_as_soon_as_no_return_is_so_large_or_so_small() -> None:
    assert reasons((0, 0), (8.9, 0), (9.1, 0), (8.9, 0)) == ["", "", "mean Q", ""]
    assert reasons((0, 0), (-2.9, 0), (-3.1, 0)) == ["", "", "mean Q"]
    wide = ValueLimits(LIMITS.returns, factor=3.0)
    assert reasons((0, 0), (26.9, 0), (27.1, 0), limits=wide) == ["", "", "mean Q"]


def test_what_an_untrained_network_may_say_is_no_alarm_however_small_the_rewards_are() -> None:
    tiny = ValueLimits(ReturnRange(-0.01, 0.03))
    assert reasons((0, 0), (0.22, 0), (-0.2, 0), (0.24, 0), limits=tiny) == ["", "", "", "mean Q"]
    growing = [(0.0, error) for error in (0.01, 0.02, 0.04, 0.08, 0.12, 0.18, 0.21)]
    assert reasons(*growing, limits=tiny)[-2:] == ["", "the critics'"]


def test_values_of_both_signs_do_not_hide_each_other() -> None:
    known = Progress()
    metrics = {"q_data": 0.0, "q_magnitude": 9.1, "critic_rms": 0.0}
    assert LIMITS.reason(known, metrics).startswith("mean |Q| is 9.1")


def test_what_untrained_critics_say_is_no_alarm_until_it_grows() -> None:
    assert reasons((40, 0), (30, 0), (39, 0), untrained=40) == ["", "", ""]
    assert reasons((70, 0), (72, 0), untrained=40) == ["", "mean Q"]  # beyond 9 + 2 * 31
    assert reasons((40, 0), (8, 0), (9.1, 0), untrained=40) == ["", "", "mean Q"]
    assert reasons((-20, 0), (-60, 0), untrained=-20) == ["", "mean Q"]


def test_the_remedy_names_only_what_is_not_set_yet() -> None:
    config = TrainConfig(preset="paper")
    assert divergence_remedy(config) == (
        "set critic.layer_norm=true, set critic.bound_targets=true, lower policy.eta, lower "
        "data.reward_scale"
    )
    set_already = {"critic": {"layer_norm": True, "max_q_samples": 2}, "agent": "td3_bc"}
    assert divergence_remedy(TrainConfig.model_validate(set_already)) == (
        "set critic.max_q_samples=1, lower td3.alpha, lower data.reward_scale"
    )


def test_untrained_critics_of_raw_observations_alone_raise_no_alarm(
    tmp_path: Path, sparse: Path
) -> None:
    dataset = load_dataset(sparse)
    far = [
        dataclasses.replace(each, observations=each.observations + np.float32(500.0))
        for each in dataset.episodes
    ]
    write_dataset(tmp_path / "far", far, dataset.spec)
    run = {"steps": 20, "log_every": 1, "batch_size": 16, "checkpoint_every": 20}
    data = {"dataset": str(tmp_path / "far")}
    critic = {"width": 32, "learning_rate": 1e-5}
    readings: list[Mapping[str, float]] = []
    train(
        settings(sparse, data=data, run=run, critic=critic),
        tmp_path / "run",
        lambda _, metrics: readings.append(metrics),
    )
    recorded = facts(tmp_path / "run")["returns"]["recorded"]
    assert max(reading["q_magnitude"] for reading in readings) > 2 * recorded["high"]
    assert facts(tmp_path / "run")["q_alarms"] == []


def test_an_error_that_grows_in_five_readings_in_a_row_is_an_alarm_until_it_is_small() -> None:
    growing = [(0.0, error) for error in (0.9, 1.1, 1.4, 1.6, 1.7, 2.0)]
    assert reasons(*growing) == ["", "", "", "", "", "the critics'"]
    after = reasons(*growing, (0.0, 1.5), (0.0, 0.9))
    assert after[-2:] == ["the critics'", ""]


@pytest.mark.parametrize(
    "errors",
    [
        (0.1, 0.2, 0.3, 0.4, 0.5, 0.9, 0.95),  # small beside the returns
        (1.0, 1.1, 1.2, 1.3, 1.4, 1.5),  # hardly more
        (0.9, 1.1, 1.4, 1.3, 1.7, 2.0, 2.4, 3.0),  # once it fell
        (5.0, 4.0, 3.0, 2.0, 1.5, 1.2),
    ],
)
def test_other_errors_are_learning_or_noise(errors: tuple[float, ...]) -> None:
    assert not any(reasons(*((0.0, error) for error in errors)))


@pytest.fixture(scope="module")
def sparse(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a dataset of three short episodes with few rewards of 1."""
    rng = np.random.default_rng(0)
    observations = tuple(FieldSpec(f"x{index}") for index in range(4))
    actions = tuple(FieldSpec(f"u{index}", "", -1.0, 1.0) for index in range(2))
    spec = PolicySpec("arm", 10.0, observations, actions)
    episodes = [
        Episode(
            observations=rng.normal(size=(41, 4)).cumsum(axis=0).astype(np.float32),
            actions=rng.uniform(-0.3, 0.3, (40, 2)).astype(np.float32),
            rewards=(rng.random(40) < 0.05).astype(np.float64),
            terminated=True,
            truncated=False,
        )
        for _ in range(3)
    ]
    folder = tmp_path_factory.mktemp("sparse") / "dataset"
    write_dataset(folder, episodes, spec)
    return folder


def settings(sparse: Path, **changes: Any) -> TrainConfig:
    """Return the paper's preset with its max-Q backup, made to run away soon, or ``changes``."""
    document: dict[str, Any] = {
        "preset": "paper",
        "run": {"steps": 300, "batch_size": 64, "log_every": 25, "checkpoint_every": 50},
        "data": {"dataset": str(sparse)},
        "policy": {"width": 32, "learning_rate": 1e-3},
        "critic": {"width": 32, "learning_rate": 3e-3, "tau": 0.2, "max_q_samples": 10},
        "selection": {"num_candidates": 4},
    }
    return TrainConfig.model_validate(document | changes)


def test_the_papers_preset_that_runs_away_is_found_out_early_and_stopped_if_asked(
    tmp_path: Path, sparse: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shown = []
    train(settings(sparse), tmp_path / "run", lambda _, metrics: shown.append(metrics))
    (alarm,) = facts(tmp_path / "run")["q_alarms"]
    recorded = facts(tmp_path / "run")["returns"]["recorded"]["high"]
    assert 0.0 < alarm["q_data"] < 3 * recorded  # and not at ten times
    assert shown[-1]["q_data"] > 10 * recorded  # where it ends without an alarm
    assert metrics_text(shown[-1]).startswith("DIVERGES ")
    assert not metrics_text(shown[0]).startswith("DIVERGES ")
    healthy = find_checkpoint(tmp_path / "run", "last_healthy")
    assert alarm["step"] - 50 <= int(healthy.name.removeprefix("step-")) < alarm["step"]

    export_bundle(tmp_path / "run", tmp_path / "diverged")
    assert "the critics diverge at this checkpoint (step 300)" in caplog.text
    caplog.clear()
    export_bundle(tmp_path / "run", tmp_path / "healthy", which="last_healthy")
    assert "diverge" not in caplog.text

    asked = {"validation": {"on_divergence": "stop"}}
    words = rf"the critics diverge at step {alarm['step']}: .*checkpoint: .*{healthy.name}; set cr"
    for resume in (False, True):
        with pytest.raises(DqlError, match=words):
            train(settings(sparse, **asked), tmp_path / "stopped", resume=resume)
    assert facts(tmp_path / "stopped")["failure"].startswith("the critics diverge at step ")
    assert json.loads((tmp_path / "stopped" / "best.json").read_text())["last_healthy"]
    found = find_checkpoint(tmp_path / "stopped", "last_healthy")
    assert (found.name, found) == (healthy.name, find_checkpoint(tmp_path / "stopped"))


def test_the_last_sound_state_is_kept_where_no_checkpoint_was_due(
    tmp_path: Path, sparse: Path
) -> None:
    run = {"steps": 300, "batch_size": 64, "log_every": 25, "checkpoint_every": 1000}
    asked = {"validation": {"on_divergence": "stop"}}
    with pytest.raises(DqlError, match=r"critics diverge at step (\d+): .* checkpoint: .*/step-"):
        train(settings(sparse, run=run, **asked), tmp_path / "run")
    (alarm,) = facts(tmp_path / "run")["q_alarms"]
    healthy = find_checkpoint(tmp_path / "run", "last_healthy")
    (only,) = (tmp_path / "run" / "checkpoints").iterdir()
    assert healthy == only == checkpoint_folder(tmp_path / "run", 125)
    assert alarm["step"] > 125
    # It is what a checkpoint at its step would have been.
    often = {**run, "steps": 150, "checkpoint_every": 125}
    train(settings(sparse, run=often), tmp_path / "saved")
    saved = load_checkpoint(checkpoint_folder(tmp_path / "saved", 125))
    kept = load_checkpoint(healthy)
    assert kept.progress == saved.progress
    for name, module in saved.agent.modules.items():
        for key, value in module.state_dict().items():
            assert torch.equal(value, kept.agent.modules[name].state_dict()[key]), name
    export_bundle(tmp_path / "run", tmp_path / "bundle", which="last_healthy")


def test_none_is_healthy_where_the_first_reading_is_an_alarm(
    tmp_path: Path, config: TrainConfig, after_update: Callable[[Change], None]
) -> None:
    after_update(lambda _, losses: dataclasses.replace(losses, q_data=torch.tensor(30.0)))
    train(config, tmp_path / "run")
    assert json.loads((tmp_path / "run" / "best.json").read_text())["last_healthy"] is None
    with pytest.raises(CheckpointError, match="no 'last_healthy' checkpoint: the critics div"):
        find_checkpoint(tmp_path / "run", "last_healthy")


def test_sound_values_of_the_same_data_raise_no_alarm(tmp_path: Path, sparse: Path) -> None:
    critic = {"width": 32, "learning_rate": 3e-3, "tau": 0.2, "layer_norm": True}
    sound = settings(sparse, preset=None, critic=critic, policy={"width": 32, "eta": 0.1})
    train(sound, tmp_path / "run")
    assert facts(tmp_path / "run")["q_alarms"] == []
    assert find_checkpoint(tmp_path / "run", "last_healthy").name == "step-00000300"


@pytest.mark.parametrize("agent", ["diffusion_ql", "td3_bc"])
def test_bounded_targets_stay_within_what_the_rewards_allow_and_are_counted(
    tmp_path: Path, sparse: Path, agent: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "dql_core")
    critic = settings(sparse).critic.model_dump() | {"bound_targets": True}
    critic |= {"learning_rate": 0.1} if agent == "td3_bc" else {}
    readings = []
    run = {"steps": 250, "batch_size": 64, "log_every": 25}
    data = {"dataset": str(sparse), "n_step": 2}
    train(
        settings(sparse, agent=agent, critic=critic, data=data, run=run),
        tmp_path / "run",
        lambda _, metrics: readings.append(metrics),
    )
    returns = facts(tmp_path / "run")["returns"]
    assert returns["targets_bounded"] is True
    assert returns["possible"] == pytest.approx({"low": 0.0, "high": (1 - 0.99**40) / 0.01})
    for reading in readings:
        assert 0.0 <= reading["q_target"] <= returns["possible"]["high"] * (1 + 1e-6)
    assert max(reading["targets_clipped"] for reading in readings) > 0.05
    assert "values: the rewards allow discounted returns of 0 to 33.1 (up to 40 " in caplog.text


def test_imitation_has_no_values_that_could_diverge(tmp_path: Path, config: TrainConfig) -> None:
    train(config.model_copy(update={"agent": "diffusion_bc"}), tmp_path / "run")
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    assert not any("q_alarm" in json.loads(line) for line in lines)
