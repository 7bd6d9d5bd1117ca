"""The tutorial of the wheel as it is typed, in small, and what its measurement makes of it."""

import json
import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from benchmarks.wheel import PAGE, RESULTS_PAGE, Tutorial, table, turn
from dql_core.data.dataset import load_dataset
from tests.cli_process import dql

SEED = 3


def in_small(words: Sequence[str], folder: Path) -> None:
    """Run a command with two episodes and a fiftieth of its updates."""
    small = list(words)
    for place, word in enumerate(words):
        if words[place - 1] == "--episodes":
            small[place] = "2"
        if word.startswith("run.steps="):
            small[place] = f"run.steps={int(word.removeprefix('run.steps=')) // 50}"
    done = dql(*small, cwd=folder)
    assert done.returncode == 0, f"{shlex.join(small)}\n{done.stdout}{done.stderr}"


@pytest.mark.ros
@pytest.mark.slow
def test_the_wheel_turns_twice_as_the_page_tells(tmp_path: Path) -> None:
    lines = list(turn(tmp_path, SEED, in_small))
    place = tmp_path / "runs" / "wheel"
    measured = [line["policy"] for line in lines if "policy" in line]
    assert measured == ["demonstrations", "first round", "second round", "control"]
    rounds = [line for line in lines if "round" in line]
    assert [line["episodes"] for line in rounds] == [2, 2]
    assert all(line["episodes_taken_over"] > 0 for line in rounds)
    assert all(0 < line["share_of_steps"] < 1 for line in rounds)
    for number in (1, 2):
        flags = interventions(place / "data" / f"round{number}")
        assert np.mean(flags) == rounds[number - 1]["share_of_steps"]
        require_trained_on(place, number)
    assert not interventions(place / "data" / "demonstrations").any()
    config = yaml.safe_load((place / "policies" / "control" / "config.yaml").read_text())
    assert config["data"]["dataset"] == str(place / "data" / "demonstrations")
    assert config["run"]["steps"] == 3000 // 50
    facts = {"load": 0.5, "cpus": 2, "python": "3.11", "commit": "0"}
    text = table([line | facts for line in lines])
    assert f"| {SEED} | " in text


def interventions(dataset: Path) -> np.ndarray[Any, Any]:
    episodes = load_dataset(dataset, infos=["intervention"]).episodes
    return np.concatenate([episode.infos["intervention"] for episode in episodes])


def require_trained_on(place: Path, number: int) -> None:
    """See what a round's run says of its beginning, of ratio and weights, and of the data."""
    run = place / "policies" / str(number)
    config = yaml.safe_load((run / "config.yaml").read_text())
    rounds = [str(place / "data" / f"round{earlier}") for earlier in range(1, number + 1)]
    assert config["data"]["dataset"] == [str(place / "data" / "demonstrations"), *rounds]
    assert config["data"]["ratio"] == [1.0] * (1 + number)
    assert config["data"]["weights"] == {"intervention": 10.0}
    assert config["run"]["seed"] == SEED
    document = json.loads((run / "run.json").read_text())
    begun = document["initialised_from"]
    assert begun["run"] == str(place / "policies" / str(number - 1))
    steps = yaml.safe_load((Path(begun["run"]) / "config.yaml").read_text())["run"]["steps"]
    assert begun["step"] == steps
    taken = sum(int(interventions(Path(name)).sum()) for name in rounds)
    (said,) = [each for each in document["dataset"]["findings"] if "data.weights" in each]
    assert f"data.weights.intervention=10: {taken} of " in said


def test_the_figures_of_the_page_are_those_that_were_measured() -> None:
    """The rows of seed 0, which is what the page's own commands have."""
    (row,) = re.findall(r"^\| 0 \| (.*%\].*) \|$", RESULTS_PAGE.read_text(), re.MULTILINE)
    told = re.findall(r"\d+\.\d% \[\d+\.\d%, \d+\.\d%\]", PAGE.read_text())
    assert told
    assert set(told) <= set(row.split(" | "))


def test_only_verbs_follow_the_preparation() -> None:
    verbs = {words[0] for words in Tutorial.read().commands}
    assert verbs == {"closed-loop", "convert", "train", "export"}
