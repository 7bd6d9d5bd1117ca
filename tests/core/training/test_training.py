import json
import os
import signal
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import (  # type: ignore[import-untyped]
    EventAccumulator,
)

from dql_core.algo.noise import RunSeeds
from dql_core.config import CriticConfig, PolicyConfig, RunConfig, TrainConfig
from dql_core.data.dataset import Episode, load_dataset, write_dataset
from dql_core.data_config import DataConfig
from dql_core.errors import ConfigError, DatasetError
from dql_core.export.bundle import export_bundle
from dql_core.runtime.manifest import read_manifest
from dql_core.spec import FieldSpec, PolicySpec
from dql_core.training.checkpoint import load_checkpoint
from dql_core.training.loop import train
from dql_core.training.preparation import fit_normalizer

pytestmark = pytest.mark.slow

SPEC = PolicySpec(
    robot="cart",
    rate_hz=10.0,
    observation=(FieldSpec("x"), FieldSpec("v")),
    action=(FieldSpec("push", "N", -4.0, 4.0),),
)


def make_dataset(folder: Path, reward: float = 1.0, action: float = 1.0) -> Path:
    rng = np.random.default_rng(0)
    episodes = [
        Episode(
            observations=rng.normal(3.0, 2.0, size=(11, 2)).astype(np.float32),
            actions=np.full((10, 1), action, np.float32),
            rewards=np.full(10, reward),
            terminated=bool(index % 2),
            truncated=not index % 2,
        )
        for index in range(4)
    ]
    write_dataset(folder, episodes, SPEC)
    return folder


def make_config(dataset: Path, **run: object) -> TrainConfig:
    return TrainConfig(
        run=RunConfig.model_validate(
            {"steps": 12, "batch_size": 8, "log_every": 5, "checkpoint_every": 5, **run}
        ),
        data=DataConfig(dataset=str(dataset)),
        policy=PolicyConfig(width=8),
        critic=CriticConfig(width=8),
    )


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    return make_dataset(tmp_path / "dataset")


def weights(run: Path) -> dict[str, torch.Tensor]:
    modules = load_checkpoint(run).agent.modules
    return {
        f"{name}.{key}": value
        for name, module in modules.items()
        for key, value in module.state_dict().items()
    }


def test_a_run_folder_tells_what_was_trained_and_how_it_went(
    tmp_path: Path, dataset: Path
) -> None:
    config, run = make_config(dataset), tmp_path / "run"
    reports: list[int] = []
    result = train(config, run, lambda step, metrics: reports.append(step))
    assert (result.step, result.finished, reports) == (12, True, [5, 10, 12])
    assert result.checkpoint == run / "checkpoints" / "step-00000012"
    names = sorted(path.name for path in (run / "checkpoints").iterdir())
    assert names == ["step-00000005", "step-00000010", "step-00000012"]
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [5, 10, 12]
    assert {"imitation", "improvement", "critic", "updates_per_s"} <= set(lines[-1])
    facts = json.loads((run / "run.json").read_text())
    assert facts["config_hash"] == config.hash()
    assert facts["dataset"]["transitions"] == 40
    assert facts["dataset"]["mean_return"] == 10.0
    assert facts["first_update_s"] > 0
    assert PolicySpec.from_json(json.loads((run / "spec.json").read_text())) == SPEC
    assert (run / "config.yaml").read_text() == config.to_yaml()


def test_tensorboard_gets_the_same_numbers_as_the_lines(tmp_path: Path, dataset: Path) -> None:
    run = tmp_path / "run"
    train(make_config(dataset), run)
    curves = EventAccumulator(str(run))
    curves.Reload()
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    events = curves.Scalars("critic")
    assert [event.step for event in events] == [5, 10, 12]
    assert [event.value for event in events] == pytest.approx([line["critic"] for line in lines])


def test_the_checkpoint_carries_what_acting_needs(tmp_path: Path, dataset: Path) -> None:
    config, run = make_config(dataset), tmp_path / "run"
    train(config, run)
    checkpoint = load_checkpoint(run)
    assert (checkpoint.spec, checkpoint.config) == (SPEC, config)
    np.testing.assert_allclose(checkpoint.normalizer.observation_mean, 3.0, atol=1.0)
    np.testing.assert_array_equal(checkpoint.normalizer.action_high, [4.0])


def test_raw_observations_are_left_as_they_are(tmp_path: Path, dataset: Path) -> None:
    config, run = make_config(dataset), tmp_path / "run"
    raw = config.data.model_copy(update={"normalize_observations": False})
    train(config.model_copy(update={"data": raw}), run)
    checkpoint = load_checkpoint(run)
    np.testing.assert_array_equal(checkpoint.normalizer.observation_mean, 0.0)
    np.testing.assert_array_equal(checkpoint.normalizer.observation_std, 1.0)
    # What the guards must know of the data is measured all the same, and goes with the bundle.
    standardised = fit_normalizer(config, load_dataset(str(dataset)))
    export_bundle(run, tmp_path / "bundle")
    for told in (checkpoint.data_statistics, read_manifest(tmp_path / "bundle").data_statistics):
        np.testing.assert_array_equal(told.observation_mean, standardised.observation_mean)
        np.testing.assert_array_equal(told.observation_std, standardised.observation_std)


def test_equal_seeds_give_equal_weights_and_others_do_not(tmp_path: Path, dataset: Path) -> None:
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        train(make_config(dataset, seed=seed), tmp_path / name)
    a, b, c = (weights(tmp_path / name) for name in "abc")
    assert all(torch.equal(a[key], b[key]) for key in a)
    assert not all(torch.equal(a[key], c[key]) for key in a)


def test_training_leaves_torchs_global_generator_alone(tmp_path: Path, dataset: Path) -> None:
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    train(make_config(dataset), tmp_path / "run")
    assert torch.equal(torch.rand(3), expected)


def test_how_often_metrics_are_read_does_not_change_what_is_learned(
    tmp_path: Path, dataset: Path
) -> None:
    train(make_config(dataset, log_every=1), tmp_path / "a")
    train(make_config(dataset, log_every=12), tmp_path / "b")
    a, b = weights(tmp_path / "a"), weights(tmp_path / "b")
    assert all(torch.equal(a[key], b[key]) for key in a)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_saves_a_checkpoint_between_two_updates(
    tmp_path: Path, dataset: Path, number: signal.Signals
) -> None:
    def interrupt(step: int, metrics: Mapping[str, float]) -> None:
        os.kill(os.getpid(), number)

    before = signal.getsignal(number)
    result = train(make_config(dataset, steps=1000, log_every=7), tmp_path / "run", interrupt)
    assert (result.step, result.finished) == (7, False)
    assert load_checkpoint(tmp_path / "run").step == 7
    assert signal.getsignal(number) is before


def test_a_second_ctrl_c_does_not_wait(tmp_path: Path, dataset: Path) -> None:
    def interrupt_twice(step: int, metrics: Mapping[str, float]) -> None:
        for _ in range(2):
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        train(make_config(dataset), tmp_path / "run", interrupt_twice)


def test_a_folder_with_content_is_not_overwritten(tmp_path: Path, dataset: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    train(make_config(dataset), run)
    with pytest.raises(ConfigError, match="run: already exists; name another"):
        train(make_config(dataset), run)


def test_nothing_is_written_for_a_dataset_that_cannot_be_learned_from(tmp_path: Path) -> None:
    unrewarded = make_dataset(tmp_path / "unrewarded", reward=0.0)
    wild = make_dataset(tmp_path / "wild", action=5.0)
    run = tmp_path / "run"
    with pytest.raises(DatasetError, match="every reward is 0"):
        train(make_config(unrewarded), run)
    with pytest.raises(DatasetError, match=r"40 of 40 actions are beyond their bounds"):
        train(make_config(wild), run)
    with pytest.raises(ConfigError, match="no dataset is named; give --dataset DIR"):
        train(make_config(wild).model_copy(update={"data": DataConfig()}), run)
    assert not run.exists()


def test_imitation_needs_no_rewards(tmp_path: Path) -> None:
    unrewarded = make_dataset(tmp_path / "unrewarded", reward=0.0)
    config = make_config(unrewarded).model_copy(update={"agent": "diffusion_bc"})
    assert train(config, tmp_path / "run").finished


def test_a_new_use_of_randomness_leaves_the_seeds_of_the_others_as_they_were() -> None:
    weights, batches, updates = np.random.SeedSequence(3).generate_state(3).tolist()
    seeds = RunSeeds.derive(3)
    assert (seeds.weights, seeds.batches, seeds.updates) == (weights, batches, updates)
    assert len(set(vars(seeds).values())) == len(vars(seeds))


def test_a_run_learns_from_several_datasets_and_goes_on_with_them(
    dataset: Path, tmp_path: Path
) -> None:
    other = make_dataset(tmp_path / "other", action=-1.0)
    config = make_config(dataset)
    both = config.model_copy(update={"data": DataConfig(dataset=(str(dataset), str(other)))})
    train(both, tmp_path / "run")
    facts = json.loads((tmp_path / "run" / "run.json").read_text())["dataset"]
    assert (facts["episodes"], facts["transitions"]) == (8, 80)
    assert facts["source"] == f"{dataset} and {other}"
    train(both, tmp_path / "run", resume=True)
    export_bundle(tmp_path / "run", tmp_path / "bundle")
    assert str(dataset) in read_manifest(tmp_path / "bundle").parity.source


def test_what_was_commanded_before_is_left_out_only_where_it_is_observed(tmp_path: Path) -> None:
    fields = (SPEC.observation[0], FieldSpec(f"previous_action.1.{SPEC.action[0].name}"))
    told = replace(SPEC, observation=fields)
    episodes = load_dataset(make_dataset(tmp_path / "plain")).episodes
    write_dataset(tmp_path / "told", episodes, told)
    changes = {"previous_action_dropout": 0.5}
    config = make_config(tmp_path / "plain")
    config = config.model_copy(update={"data": config.data.model_copy(update=changes)})
    with pytest.raises(ConfigError, match=r"is 0\.5, and .*no observation field 'previous_action"):
        train(config, tmp_path / "refused")
    assert not (tmp_path / "refused").exists()
    data = config.data.model_copy(update={"dataset": str(tmp_path / "told")})
    config = config.model_copy(update={"data": data})
    train(config, tmp_path / "dropped")
    without = data.model_copy(update={"previous_action_dropout": 0.0})
    train(config.model_copy(update={"data": without}), tmp_path / "whole")
    dropped, whole = weights(tmp_path / "dropped"), weights(tmp_path / "whole")
    assert any(not torch.equal(value, whole[key]) for key, value in dropped.items())
