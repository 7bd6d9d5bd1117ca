"""Trials are read from their run folders; what chooses checkpoints chooses among them."""

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from dql_core.config import TrainConfig, changed_config, load_config
from dql_core.errors import CheckpointError, OutputError
from dql_core.training.run_files import VALIDATION_FILE, read_records
from dql_core.training.run_folder import exclusive_lock
from dql_core.training.saved_config import saved_config
from dql_core.training.sweep import on_ray
from dql_core.training.sweep.on_ray import Sweep, importance, run_there
from dql_core.training.sweep.picture import draw
from dql_core.training.sweep.space import Range, Space, Value
from dql_core.training.sweep.trials import (
    Trial,
    basis,
    note_end,
    read_trials,
    rivals,
    trial_folder,
)
from tests.core.training.test_seeds import tiny_dataset

__all__ = ["tiny_dataset"]
pytestmark = pytest.mark.slow
CONFIG = """
run: {steps: 8, batch_size: 8, log_every: 4, checkpoint_every: 2, execution: eager}
policy: {width: 8}
critic: {width: 8}
validation: {held_out: 0.4, rule: td_error}
"""
RULES = {
    "td_error": ["validation.rule=td_error"],
    "judge": ["validation.rule=judge"],
    "mean_return": ["evaluation.env=Pendulum-v1"],
}


@pytest.fixture(name="base")
def _base(config_file: Path, tiny_dataset: Path) -> TrainConfig:
    return load_config(config_file, [f"data.dataset={tiny_dataset}"])


def record(step: int, value: float | None, rule: str) -> dict[str, Any]:
    """What a run writes of a checkpoint, with an interval of +-1."""
    ends = None if value is None else [value - 1.0, value + 1.0]
    measured: dict[str, Any] = {"measured_on": {"transitions": 40, "episodes": 4}}
    if rule == "judge":
        difference = value and {"mean": value, "ci95": ends}
        judged = {"verdict": "better", "floor": value, "difference": difference}
        return {"step": step, "judged": judged} | measured
    if rule == "mean_return":
        online = {"episodes": 7, "mean_return": value, "mean_return_ci95": ends}
        return {"step": step, "online": online}
    errors = {"held_out_td_error": value, "errors_ci95": {"held_out_td_error": ends}}
    return {"step": step} | errors | measured


def make_trial(
    out: Path, parameters: dict[str, Value], values: list[float | None], rule: str
) -> Path:
    folder = trial_folder(out, parameters)
    note_end(folder, parameters)
    lines = [record(2 * number + 2, value, rule) for number, value in enumerate(values)]
    (folder / VALIDATION_FILE).write_text("".join(json.dumps(each) + "\n" for each in lines))
    return folder


@pytest.mark.parametrize(
    ("rule", "best", "history"),
    [
        ("td_error", 1.0, ((2, 3.0), (4, 1.0), (6, 1.0))),
        ("mean_return", 3.0, ((2, 3.0), (4, 3.0), (6, 3.0))),
        ("judge", 3.0, ((2, 3.0), (4, 3.0), (6, 3.0))),
    ],
)
def test_a_trial_is_worth_its_best_checkpoint(
    tmp_path: Path, base: TrainConfig, rule: str, best: float, history: Any
) -> None:
    base = changed_config(base, RULES[rule])
    folder = make_trial(tmp_path, {"policy.eta": 1.0}, [3.0, 1.0, 2.0], rule)
    trial = Trial.read(folder, base)
    assert trial.best is not None
    assert (trial.best.value, trial.history) == (best, history)
    assert trial.interval == (best - 1, best + 1)
    assert trial.episodes == (7 if rule == "mean_return" else 4)
    assert not trial.ended
    assert f"{trial.episodes} " in basis(base, trial.episodes)
    make_trial(tmp_path, {"policy.eta": 2.0}, [2.5], rule)
    make_trial(tmp_path, {"policy.eta": 3.0}, [], rule)
    make_trial(tmp_path, {"policy.eta": 4.0}, [9.0 if best == 1.0 else -9.0], rule)
    trials = read_trials(tmp_path, base)
    assert [each.parameters["policy.eta"] for each in trials] == [1.0, 2.0, 4.0, 3.0]
    assert rivals(trials[:3]) == (0 if rule == "td_error" else 1)


def test_checkpoints_without_a_verdict_are_no_value(tmp_path: Path, base: TrainConfig) -> None:
    base = changed_config(base, RULES["judge"])
    trial = Trial.read(make_trial(tmp_path, {"policy.eta": 1.0}, [None, None], "judge"), base)
    assert (trial.best, trial.history, trial.interval) == (None, (), (None, None))
    trial = Trial.read(make_trial(tmp_path, {"policy.eta": 2.0}, [None, 1.0], "judge"), base)
    assert trial.history == ((4, 1.0),)


@pytest.mark.parametrize(
    ("name", "text", "wrong"),
    [
        ("trial.json", "{", r"trial\.json: damaged"),
        ("trial.json", '{"parameters": [1]}', "damaged: parameters"),
        ("trial.json", '{"parameters": {"policy.eta": 2.0}}', "not those of this folder's name"),
        (VALIDATION_FILE, '{"step": 2}\n', "damaged: KeyError.*remove the trial's folder"),
        (VALIDATION_FILE, '{"step": 2, "held_out_td_error": "x"}\n', "damaged: ValueError"),
    ],
)
def test_a_damaged_trial_is_named(
    tmp_path: Path, base: TrainConfig, name: str, text: str, wrong: str
) -> None:
    folder = make_trial(tmp_path, {"policy.eta": 1.0}, [1.0], "td_error")
    (folder / name).write_text(text)
    with pytest.raises(CheckpointError, match=wrong):
        read_trials(tmp_path, base)


def test_a_trial_that_is_a_link_is_refused(tmp_path: Path, base: TrainConfig) -> None:
    folder = make_trial(tmp_path / "elsewhere", {"policy.eta": 1.0}, [1.0], "td_error")
    (tmp_path / folder.name).symlink_to(folder)
    with pytest.raises(CheckpointError, match="is a symbolic link"):
        read_trials(tmp_path, base)


class _EndedError(Exception):
    """What Ray does to a thread whose trial is ended."""


def test_a_trial_is_a_run_that_tells_each_checkpoint_once_and_goes_on(
    tmp_path: Path, base: TrainConfig
) -> None:
    parameters: dict[str, Value] = {"policy.learning_rate": 1e-3}
    told: list[dict[str, float]] = []

    def tell(result: dict[str, float]) -> None:
        told.append(result)
        if result["step"] == 4:
            raise _EndedError

    with pytest.raises(_EndedError):
        run_there(base, tmp_path, parameters, tell)
    folder = trial_folder(tmp_path, parameters)
    trial = Trial.read(folder, base)
    assert (trial.step, trial.ended) == (4, False)
    assert saved_config(folder).policy.learning_rate == 1e-3
    assert saved_config(folder).run.num_threads == 1
    run_there(base, tmp_path, parameters, told.append)
    assert [result["step"] for result in told] == [2, 4, 2, 4, 6, 8]
    trial = Trial.read(folder, base)
    assert (trial.step, trial.finished, trial.failure) == (8, True, "")
    assert trial.history == tuple((result["step"], result["value"]) for result in told[2:])
    low, high = trial.interval
    assert trial.episodes == 1  # of which nothing can be said
    assert (low, high) == (None, None)
    run_there(base, tmp_path, parameters, told.append)
    assert len(told) == 10
    steps = [each["step"] for each in read_records(folder / VALIDATION_FILE)]
    assert steps == [2, 4, 6, 8]


def test_what_is_wrong_with_a_trial_is_noted_and_what_may_pass_is_not(
    tmp_path: Path, base: TrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    parameters: dict[str, Value] = {
        "policy.kind": "mean_flow",
        "policy.policy_gradient": "one_step",
    }
    run_there(base, tmp_path, parameters, lambda _: None)
    trial = Trial.read(trial_folder(tmp_path, parameters), base)
    assert trial.ended
    assert "kind: mean_flow is a single step already" in trial.failure
    good: dict[str, Value] = {"policy.eta": 0.5}
    run_there(base, tmp_path, good, lambda _: None)
    monkeypatch.setattr(on_ray, "PATIENCE_S", 0.0)
    folder = trial_folder(tmp_path, good)
    with (
        exclusive_lock(folder),
        pytest.raises(RuntimeError, match="another process is training this run"),
    ):
        run_there(base, tmp_path, good, lambda _: None)

    def full(*_: Any, **__: Any) -> None:
        raise OutputError("no space left")

    monkeypatch.setattr(on_ray, "train", full)
    with pytest.raises(RuntimeError, match="no space left"):
        run_there(base, tmp_path, good, lambda _: None)
    assert Trial.read(folder, base).failure == ""


def tried(
    out: Path, base: TrainConfig, value: Callable[[float, float], float], count: int = 40
) -> tuple[Sweep, list[Trial]]:
    """A sweep whose trials' values are a function of two keys."""
    rng = np.random.default_rng(0)
    space = Space({"policy.eta": Range(low=0.1, high=10.0, log=True), "policy.width": (8, 16, 32)})
    for _ in range(count):
        eta, width = float(10 ** rng.uniform(-1, 1)), int(rng.choice([8, 16, 32]))
        make_trial(
            out, {"policy.eta": eta, "policy.width": width}, [value(eta, width)], "td_error"
        )
    return Sweep(base, space, out, count), read_trials(out, base)


def test_importance_finds_the_key_that_matters(tmp_path: Path, base: TrainConfig) -> None:
    pytest.importorskip("optuna")
    rng = np.random.default_rng(1)

    def by_eta(eta: float, width: float) -> float:
        return float(np.log10(eta) ** 2 + 0.01 * rng.normal() + 1)

    def by_width(eta: float, width: float) -> float:
        return float(width + 0.01 * rng.normal())

    sweep, trials = tried(tmp_path / "eta", base, by_eta)
    weights = importance(sweep, trials)
    assert next(iter(weights)) == "policy.eta"
    assert weights["policy.eta"] > 0.7
    assert sum(weights.values()) == pytest.approx(1.0)
    sweep, trials = tried(tmp_path / "width", base, by_width)
    assert importance(sweep, trials)["policy.width"] > 0.7
    assert importance(sweep, trials[:9]) == {}


def test_the_picture_shows_each_trial_over_each_key(tmp_path: Path, base: TrainConfig) -> None:
    sweep, trials = tried(tmp_path, base, lambda eta, width: eta * width, 12)
    title = basis(base, 4)
    picture = ElementTree.fromstring(draw(sweep.space, trials, {"policy.eta": 0.75}, title))
    name = "{http://www.w3.org/2000/svg}"
    circles = picture.findall(f".//{name}circle")
    assert len(circles) == 2 * len(trials)
    assert [each.get("class") for each in circles].count("best") == 2
    text = " ".join(each.text or "" for each in picture.iter(f"{name}text"))
    assert "policy.eta (75% of what matters)" in text
    assert "error of the critics on 4 held-out episodes" in text


def test_trials_are_ended_early_by_what_others_were_then_also_in_an_earlier_process(
    tmp_path: Path, base: TrainConfig
) -> None:
    pytest.importorskip("ray.tune")
    for number in range(6):
        values: list[float | None] = [1.0 + number, 1.0 + number, 1.0 + number, 1.0 + number]
        folder = make_trial(tmp_path, {"policy.eta": float(number)}, values, "td_error")
        note_end(folder, {"policy.eta": float(number)}, pruned=True)
    space = Space({"policy.eta": Range(low=0.0, high=20.0)})
    sweep = Sweep(base, space, tmp_path, 8)
    scheduler = on_ray._scheduler(sweep, sweep.known())
    decided = {}
    for eta, value in ((10.0, 0.5), (11.0, 9.0)):
        parameters: dict[str, Value] = {"policy.eta": eta}
        make_trial(tmp_path, parameters, [value], "td_error")
        trial = SimpleNamespace(trial_id=str(eta), config=parameters)
        scheduler.on_trial_add(None, trial)
        decided[eta] = scheduler.on_trial_result(None, trial, {"step": 2, "value": value})
    assert decided == {10.0: "CONTINUE", 11.0: "STOP"}
    ended = {each.parameters["policy.eta"]: each.pruned for each in read_trials(tmp_path, base)}
    assert (ended[10.0], ended[11.0]) == (False, True)


def test_a_space_that_was_edited_is_not_gone_on_with(tmp_path: Path, base: TrainConfig) -> None:
    make_trial(tmp_path, {"policy.eta": 5.0}, [1.0], "td_error")
    sweep = Sweep(base, Space({"policy.eta": (1.0, 2.0)}), tmp_path, 2)
    with pytest.raises(CheckpointError, match=r"policy\.eta=5\.0 is not in the space of this"):
        sweep.known()
