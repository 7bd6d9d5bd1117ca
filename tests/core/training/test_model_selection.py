"""Which checkpoint is called the best, and what it is judged by."""

import json
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from dql_core.algo.agent import Agent
from dql_core.algo.bc import DiffusionBC
from dql_core.algo.diffusion_ql import DiffusionQL
from dql_core.cli.evaluate import evaluate
from dql_core.cli.export import export
from dql_core.cli.training_bars import best_lines
from dql_core.config import TrainConfig, ValidationConfig
from dql_core.data.dataset import Episode, LoadedDataset, write_dataset
from dql_core.data.reward_transforms import RewardTransform
from dql_core.errors import CheckpointError, DatasetError
from dql_core.evaluation.offline.judging import Worths, estimate_worths
from dql_core.evaluation.statistics import rank_correlation
from dql_core.normalize import Normalizer
from dql_core.runtime.manifest import read_manifest
from dql_core.spec import FieldSpec, PolicySpec
from dql_core.training.checkpoint import load_checkpoint
from dql_core.training.loop import train
from dql_core.training.preparation import load_training_data, make_batches, new_run
from dql_core.training.run_files import VALIDATION_FILE, find_checkpoint, read_records
from dql_core.training.validation import (
    QUICK_FIT,
    HeldOut,
    best_offline,
    best_online,
    judge_checkpoint,
)

SPEC = PolicySpec(
    "cart", 10.0, (FieldSpec("x"), FieldSpec("v")), (FieldSpec("push", "N", -4.0, 4.0),)
)
LENGTHS = (4, 7, 5, 6, 3)


def make_dataset() -> LoadedDataset:
    rng = np.random.default_rng(0)
    episodes = [
        Episode(
            observations=rng.normal(2.0, 3.0, (length + 1, 2)).astype(np.float32),
            actions=rng.uniform(-4.0, 4.0, (length, 1)).astype(np.float32),
            rewards=rng.normal(size=length),
            terminated=length % 2 == 0,
            truncated=length % 2 == 1,
        )
        for length in LENGTHS
    ]
    return LoadedDataset(SPEC, tuple(episodes), "test")


def make_config(**changes: Any) -> TrainConfig:
    return TrainConfig.model_validate(
        {
            "run": {"steps": 20, "batch_size": 8, "log_every": 4, "checkpoint_every": 5},
            "data": {"n_step": 1},
            "policy": {"width": 8},
            "critic": {"width": 8, "discount": 0.9},
            **changes,
        }
    )


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    write_dataset(tmp_path / "dataset", make_dataset().episodes, SPEC)
    return tmp_path / "dataset"


def records(*losses: float) -> list[dict[str, Any]]:
    return [{"step": 10 * i, "imitation": loss} for i, loss in enumerate(losses, start=1)]


@pytest.mark.parametrize(("rank", "step"), [(0, 30), (1, 40), (2, 20), (3, 10)])
def test_the_rule_of_the_paper_takes_the_nth_smallest_imitation_loss(rank: int, step: int) -> None:
    best = best_offline(records(4.0, 3.0, 1.0, 2.0), ValidationConfig(bc_loss_rank=rank))
    assert best is not None
    assert (best.step, best.rule) == (step, "bc_loss")


def test_the_papers_code_takes_the_checkpoint_whose_number_has_that_loss_rank() -> None:
    losses = [4.0, 3.0, 1.0, 2.0, 0.5]
    for rank in range(5):
        config = ValidationConfig(bc_loss_rank=rank, bc_loss_ranking="paper_code")
        best = best_offline(records(*losses), config)
        assert best is not None
        # main.py of the paper's code: np.argsort(bc_loss) == top_k
        (expected,) = np.flatnonzero(np.argsort(losses) == rank)
        assert best.step == 10 * (expected + 1)
        assert "with the ranking error of the paper's code" in best.criterion


@pytest.mark.parametrize(
    ("losses", "rank", "begin", "among"),
    [
        ((2.0,), 0, "smallest imitation loss", "the only checkpoint"),
        ((2.0, 1.0), 0, "smallest imitation loss", "among 2 checkpoints"),
        ((2.0, 1.0), 1, "number 2 from the smallest imitation loss", "among 2 checkpoints"),
    ],
)
def test_the_choice_says_that_it_rests_on_training_data(
    losses: tuple[float, ...], rank: int, begin: str, among: str
) -> None:
    best = best_offline(records(*losses), ValidationConfig(bc_loss_rank=rank))
    assert best is not None
    assert best.criterion.startswith(f"{begin} on the training data")
    assert best.criterion.endswith(f"{among}; held-out data do not count")


def test_both_rankings_agree_where_the_loss_only_falls() -> None:
    for rank in range(3):
        steps = set()
        for ranking in ("by_loss", "paper_code"):
            document = {"bc_loss_rank": rank, "bc_loss_ranking": ranking}
            config = ValidationConfig.model_validate(document)
            best = best_offline(records(3.0, 2.0, 1.0), config)
            assert best is not None
            steps.add(best.step)
        assert steps == {30 - 10 * rank}


def test_there_is_no_best_before_there_are_checkpoints_enough() -> None:
    assert best_offline(records(), ValidationConfig()) is None
    assert best_offline(records(1.0, 2.0), ValidationConfig(bc_loss_rank=2)) is None
    assert best_online(records(1.0), "Cart-v0") is None


@pytest.mark.parametrize("rule", ["td_error", "value_error"])
def test_errors_on_held_out_episodes_choose_the_smallest(rule: str) -> None:
    measured = [
        record | {f"held_out_{rule}": error}
        for record, error in zip(records(3.0, 2.0, 1.0), (0.3, 0.1, 0.2), strict=True)
    ]
    best = best_offline(measured, ValidationConfig(rule=rule, held_out=0.1))
    assert best is not None
    assert (best.step, best.rule, best.value) == (20, rule, 0.1)


def test_rollouts_choose_the_largest_mean_return() -> None:
    measured = [
        record | {"online": {"mean_return": value, "episodes": 7}}
        for record, value in zip(records(3.0, 2.0, 1.0), (-5.0, -1.0, -3.0), strict=True)
    ]
    best = best_online(measured, "Cart-v0")
    assert best is not None
    assert (best.step, best.rule, best.value) == (20, "mean_return", -1.0)
    assert best.criterion == "largest mean return of 7 episodes in Cart-v0"


def test_rank_correlation_is_spearmans() -> None:
    x = np.array([10.0, 20.0, 30.0, 40.0, 50.0])
    assert rank_correlation(x, x**3) == pytest.approx(1.0)
    assert rank_correlation(x, -x) == pytest.approx(-1.0)
    # Without ties it is 1 - 6 sum d^2 / (n (n^2 - 1)).
    y = np.array([2.0, 1.0, 4.0, 3.0, 5.0])
    assert rank_correlation(x, y) == pytest.approx(1 - 6 * 4 / (5 * 24))
    # Equal values share their mean rank: 1.5, 1.5, 3.
    expected = np.corrcoef([1.5, 1.5, 3.0], [1.0, 2.0, 3.0])[0, 1]
    assert rank_correlation(np.array([7.0, 7.0, 9.0]), np.arange(3.0)) == pytest.approx(expected)
    assert rank_correlation(np.ones(3), np.arange(3.0)) == 0.0


def q_values(agent: Agent, observation: torch.Tensor, action: torch.Tensor) -> NDArray[Any]:
    assert agent.critics is not None
    values: NDArray[Any] = agent.critics.online(observation, action).detach().double().numpy()
    return values


def test_held_out_errors_equal_an_independent_computation() -> None:
    """A deterministic policy, so that no noise is to be known: TD3+BC."""
    config, dataset = make_config(agent="td3_bc"), make_dataset()
    run = new_run(config, dataset)
    batches = make_batches(run, dataset)
    for _ in range(20):
        run.agent.update(batches.draw())
    rewards = RewardTransform(2.0, 0.5)
    measured = HeldOut(config, dataset, run.normalizer, rewards, "cpu").measure(run.agent)
    agent, imitation, td, value, estimate = run.agent, [], [], [], []
    assert agent.critics is not None
    for episode in dataset.episodes:
        observation = torch.tensor(run.normalizer.observation(episode.observations))
        action = torch.tensor(run.normalizer.action(episode.actions))
        policy = agent.acting_sampler(observation, torch.zeros(1, len(observation), 1)).detach()
        next_action = agent.target_sampler(observation, torch.zeros(1, len(observation), 1))
        v = agent.critics.target(observation, next_action).detach().double().numpy().min(axis=0)
        q = q_values(agent, observation[:-1], action)
        reward = 2.0 * episode.rewards + 0.5
        bootstrap = np.ones(len(episode))
        bootstrap[-1] = not episode.terminated
        td += list(np.mean((q - (reward + 0.9 * bootstrap * v[1:])) ** 2, axis=0))
        g = 0.0 if episode.terminated else v[-1]
        returns: list[float] = []
        for r in reward[::-1]:
            g = r + 0.9 * g
            returns.insert(0, g)
        value += returns
        estimate += list(q.min(axis=0))
        imitation += list(((policy[:-1] - action) ** 2).mean(dim=1).numpy())
    assert measured["held_out_imitation"] == pytest.approx(np.mean(imitation), rel=1e-5)
    assert measured["held_out_td_error"] == pytest.approx(np.mean(td), rel=1e-5)
    error = np.abs(np.array(estimate) - value).mean()
    assert measured["held_out_value_error"] == pytest.approx(error, rel=1e-5)
    rank = rank_correlation(np.array(estimate), np.array(value))
    assert measured["held_out_value_rank"] == pytest.approx(rank, rel=1e-5)


@pytest.mark.parametrize("agent", ["diffusion_ql", "diffusion_bc"])
def test_an_agent_is_measured_with_the_same_noise_each_time_and_is_not_changed(agent: str) -> None:
    config, dataset = make_config(agent=agent), make_dataset()
    run = new_run(config, dataset)
    batches = make_batches(run, dataset)
    held_out = HeldOut(config, dataset, run.normalizer, RewardTransform(), "cpu")
    generator = run.agent.noise.generator.get_state()
    first = held_out.measure(run.agent)
    assert held_out.measure(run.agent) == first
    assert torch.equal(run.agent.noise.generator.get_state(), generator)
    for _ in range(5):
        run.agent.update(batches.draw())
    assert held_out.measure(run.agent) != first
    assert ("held_out_td_error" in first) == (agent == "diffusion_ql")


def test_the_imitation_of_diffusion_bc_is_measured_beside_that_of_a_limited_policy() -> None:
    config, dataset = make_config(policy={"width": 8, "max_imitation_ratio": 1.1}), make_dataset()
    run, alone = new_run(config, dataset), new_run(make_config(agent="diffusion_bc"), dataset)
    batches = make_batches(run, dataset)
    for _ in range(20):
        run.agent.update(batches.draw())
    assert isinstance(run.agent, DiffusionQL)
    assert isinstance(alone.agent, DiffusionBC)
    assert run.agent.limit is not None
    alone.agent.policy.online.load_state_dict(run.agent.limit.imitator.state_dict())
    held_out = HeldOut(config, dataset, run.normalizer, RewardTransform(), "cpu")
    measured = held_out.measure(run.agent)
    expected = held_out.measure(alone.agent)["held_out_imitation"]
    assert measured["held_out_imitation_alone"] == expected != measured["held_out_imitation"]


def test_large_data_is_measured_on_a_part_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dql_core.training.validation.MAX_TRANSITIONS", 9)
    monkeypatch.setattr("dql_core.training.validation.ROWS_AT_ONCE", 4)
    config, dataset = make_config(), make_dataset()
    run = new_run(config, dataset)
    held_out = HeldOut(config, dataset, run.normalizer, RewardTransform(), "cpu")
    assert np.isfinite(list(held_out.measure(run.agent).values())).all()


def test_a_run_tells_its_best_checkpoint_and_why(tmp_path: Path, dataset: Path) -> None:
    validation = {"held_out": 0.4, "rule": "td_error"}
    config = make_config(data={"dataset": str(dataset)}, validation=validation)
    run = tmp_path / "run"
    train(config, run)
    lines = [json.loads(line) for line in (run / "validation.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [5, 10, 15, 20]
    smallest = min(lines, key=lambda line: float(line["held_out_td_error"]))
    best = json.loads((run / "best.json").read_text())
    assert best["last"] == {"checkpoint": "checkpoints/step-00000020", "step": 20}
    assert best["best_offline"]["step"] == smallest["step"]
    assert best["best_offline"]["rule"] == "td_error"
    assert best["best_offline"]["value"] == smallest["held_out_td_error"]
    assert best["best_online"] is None
    folder = find_checkpoint(run, "best_offline")
    assert load_checkpoint(run, which="best_offline").step == smallest["step"]
    assert f"best_offline: {folder} (smallest error of the critics" in "\n".join(best_lines(run))


@pytest.mark.parametrize(("rule", "step"), [("judge", 5), ("bc_loss", 20)])
def test_what_the_judge_chose_is_exported_unless_another_is_named(
    tmp_path: Path, dataset: Path, capsys: pytest.CaptureFixture[str], rule: str, step: int
) -> None:
    run = tmp_path / "run"
    train(make_config(data={"dataset": str(dataset)}), run)
    best = json.loads((run / "best.json").read_text())
    chosen = {"checkpoint": "checkpoints/step-00000005", "step": 5, "rule": rule, "value": 1.0}
    best["best_offline"] = {**chosen, "criterion": "largest value that one can count on"}
    (run / "best.json").write_text(json.dumps(best))
    export(run, tmp_path / "bundle")
    assert read_manifest(tmp_path / "bundle").step == step
    said = "best_offline: largest value that one can count on; the last one: --checkpoint last"
    assert (said in capsys.readouterr().out) is (rule == "judge")
    export(run, tmp_path / "named", which="last")
    assert read_manifest(tmp_path / "named").step == 20
    single = run / "checkpoints" / "step-00000010"
    export(single, tmp_path / "single")
    assert read_manifest(tmp_path / "single").step == 10


def test_held_out_episodes_are_not_learned_from(dataset: Path) -> None:
    config = make_config(data={"dataset": str(dataset)}, validation={"held_out": 0.4})
    data = load_training_data(config)
    assert data.held_out is not None
    assert len(data.held_out.episodes) == 2
    run = new_run(config, data.learned)
    batches = make_batches(run, data.learned)
    everything = new_run(config, data.recorded).normalizer
    assert isinstance(run.normalizer, Normalizer)
    assert not np.array_equal(run.normalizer.observation_mean, everything.observation_mean)
    held_out = run.normalizer.observation(
        np.concatenate([episode.observations for episode in data.held_out.episodes])
    )
    drawn = np.concatenate([batches.draw().observation.numpy() for _ in range(20)])
    assert not set(map(tuple, drawn.tolist())) & set(map(tuple, held_out.tolist()))


def test_the_imitation_loss_is_that_since_the_checkpoint_before(
    tmp_path: Path, dataset: Path
) -> None:
    config = make_config(data={"dataset": str(dataset)})
    every = config.run.model_copy(update={"log_every": 1})
    train(config.model_copy(update={"run": every}), tmp_path / "run")
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    losses = np.array([json.loads(line)["imitation"] for line in lines]).reshape(4, 5)
    records = (tmp_path / "run" / "validation.jsonl").read_text().splitlines()
    recorded = [json.loads(line)["imitation"] for line in records]
    assert recorded == pytest.approx(losses.mean(axis=1))


def test_a_checkpoint_that_does_not_exist_is_one_line(tmp_path: Path, tiny_run: Path) -> None:
    with pytest.raises(
        CheckpointError, match="has no 'best_online' checkpoint: no checkpoint was ev"
    ):
        find_checkpoint(tiny_run, "best_online")
    with pytest.raises(CheckpointError, match="is a single checkpoint; give its run for 'best_o"):
        find_checkpoint(find_checkpoint(tiny_run), "best_offline")
    with pytest.raises(CheckpointError, match="has no 'best_offline' checkpoint"):
        export(tiny_run, tmp_path / "bundle", "best_offline")
    with pytest.raises(CheckpointError, match="has no 'best_online' checkpoint"):
        evaluate(tiny_run, "Pendulum-v1", checkpoint="best_online")


def test_a_bundle_holds_one_policy_only(tiny_bundle: Path) -> None:
    with pytest.raises(CheckpointError, match="a bundle holds one policy; give its run"):
        evaluate(tiny_bundle, "Pendulum-v1", checkpoint="best_online")


def test_a_damaged_list_of_the_best_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "best.json").write_text("[1]")
    with pytest.raises(CheckpointError, match=r"best\.json: damaged: ") as caught:
        find_checkpoint(tmp_path, "best_offline")
    assert "\n" not in str(caught.value)
    best = {"best_offline": {"checkpoint": "checkpoints/step-00000005"}}
    (tmp_path / "best.json").write_text(json.dumps(best))
    with pytest.raises(
        CheckpointError, match=r"'best_offline' checkpoint of .* is missing; use 'last'"
    ):
        find_checkpoint(tmp_path, "best_offline")


def follow_dataset(folder: Path) -> Path:
    """Actions that follow the first observation, more or less, which is what earns."""
    rng = np.random.default_rng(0)
    episodes = []
    for _ in range(60):
        observations = rng.uniform(-1.0, 1.0, (11, 2)).astype(np.float32)
        wanted = 3.0 * observations[:-1, :1]
        actions = np.clip(wanted + rng.normal(size=(10, 1)), -4.0, 4.0).astype(np.float32)
        rewards = -np.abs(actions - wanted)[:, 0]
        episodes.append(Episode(observations, actions, rewards, True, False))
    write_dataset(folder, episodes, SPEC)
    return folder


def test_the_judge_prefers_what_has_learned_and_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shorter = replace(QUICK_FIT, warm_up=300, updates=600)
    monkeypatch.setattr("dql_core.training.validation.QUICK_FIT", shorter)
    config = make_config(
        agent="diffusion_bc",
        run={"steps": 3000, "batch_size": 64, "log_every": 500, "checkpoint_every": 1500},
        data={"dataset": str(follow_dataset(tmp_path / "follow"))},
        policy={"width": 32, "learning_rate": 3e-3},
        validation={"rule": "judge", "held_out": 0.3},
    )
    untrained = new_run(config, (data := load_training_data(config)).learned)
    assert data.held_out is not None
    early = judge_checkpoint(untrained, data.held_out)
    assert early is not None
    train(config, tmp_path / "run")
    best = json.loads((tmp_path / "run" / "best.json").read_text())["best_offline"]
    records = read_records(tmp_path / "run" / VALIDATION_FILE)
    floors = [record["judged"]["floor"] for record in records]
    # Either its values are seen to be lower, or they cannot be told.
    assert early["floor"] is None or early["floor"] < min(floors) - 1.0
    assert (best["rule"], best["value"]) == ("judge", max(floors))
    assert best["step"] == records[int(np.argmax(floors))]["step"]
    assert (
        "by fitted Q evaluation on 18 held-out episodes, among 2 checkpoints"
        in (best["criterion"])
    )


def test_a_judgement_is_given_up_when_asked_and_made_when_the_run_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dql_core.training.validation.QUICK_FIT", replace(QUICK_FIT, updates=20))
    config = make_config(
        agent="diffusion_bc",
        data={"dataset": str(follow_dataset(tmp_path / "follow"))},
        validation={"rule": "judge", "held_out": 0.3},
    )
    asked = 0

    def report(_: str, __: float) -> None:
        nonlocal asked
        asked += 1
        if asked == 3:
            signal.raise_signal(signal.SIGINT)

    def fit_and_interrupt(*arguments: Any) -> Any:
        *others, heed = arguments

        def both(stage: str, share: float) -> None:
            report(stage, share)
            heed(stage, share)

        fit: Callable[..., Worths] = estimate_worths
        return fit(*others, both)

    monkeypatch.setattr("dql_core.training.validation.estimate_worths", fit_and_interrupt)
    run = tmp_path / "run"
    result = train(config, run)
    assert (result.finished, result.step, asked) == (False, 5, 3)
    assert read_records(run / VALIDATION_FILE) == []
    assert train(config, run, resume=True).finished
    assert [record["step"] for record in read_records(run / VALIDATION_FILE)] == [5, 10, 15, 20]


def test_a_checkpoint_without_a_verdict_is_not_the_best() -> None:
    config = ValidationConfig(rule="judge", held_out=0.5)
    measured: list[dict[str, Any]] = [
        {
            "step": step,
            "measured_on": {"transitions": 90, "episodes": 9},
            "judged": {"floor": floor, "verdict": verdict},
        }
        for step, floor, verdict in (
            (5, -1.0, "worse"),
            (10, None, "no verdict"),
            (15, 0.5, "not distinguishable"),
        )
    ]
    best = best_offline(measured, config)
    assert best is not None
    assert best.step == 15
    assert best.criterion.endswith("among 2 checkpoints; 1 checkpoint more had no verdict")
    assert best_offline(measured[1:2], config) is None


def test_episodes_by_which_nothing_can_be_judged_are_refused_before_training(
    tmp_path: Path,
) -> None:
    episodes = [replace(each, rewards=0 * each.rewards) for each in make_dataset().episodes]
    write_dataset(tmp_path / "zero", episodes, SPEC)
    config = make_config(
        agent="diffusion_bc",
        data={"dataset": str(tmp_path / "zero")},
        validation={"rule": "judge", "held_out": 0.5},
    )
    with pytest.raises(DatasetError, match="every reward is 0"):
        train(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()
