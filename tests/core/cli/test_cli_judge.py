import json
from functools import partial
from pathlib import Path

import pytest
import typer

from dql_core.cli import judge as verb
from dql_core.data.dataset import load_dataset
from dql_core.errors import ConfigError
from dql_core.evaluation.offline.fitted_q import FittingSettings
from dql_core.evaluation.offline.judging import judge, meets
from dql_core.export.candidates import Policies
from tests.core.conftest import save_untrained

QUICK = FittingSettings(members=3, width=8, warm_up=10, updates=100)


def test_a_run_is_judged_and_told_that_it_was_trained_on_the_episodes(
    tmp_path: Path, tiny_dataset: Path
) -> None:
    run = save_untrained(tmp_path, tiny_dataset, "diffusion_ql")
    dataset = load_dataset(tiny_dataset)
    found = judge(Policies([run]).for_episodes(dataset), dataset, 0.9, settings=QUICK)
    document = found.to_json()
    assert json.loads(json.dumps(document, allow_nan=False)) == document
    (policy,) = document["policies"]
    assert "it was trained on 3 of these 3 episodes, which flatters it" in policy["objections"]
    assert document["remarks"][0] == "all rests on 3 episodes only"
    assert policy["agreement"]["steps"] == 19
    nearest, chosen = policy["agreement"]["nearest"], policy["agreement"]["chosen"]
    assert nearest < chosen  # the best of 8 candidates is nearer than one of them
    assert policy["worth"]["verdict"] != "better"
    assert not meets(found, "better")


def test_a_checkpoint_that_is_not_there_is_named(tmp_path: Path, tiny_dataset: Path) -> None:
    run = save_untrained(tmp_path, tiny_dataset, "diffusion_bc")
    with pytest.raises(ConfigError, match=r"--checkpoints names '7': it must be all, last"):
        Policies([run], "7")


def test_without_held_out_episodes_a_dataset_is_asked_for(
    tmp_path: Path, tiny_dataset: Path
) -> None:
    run = save_untrained(tmp_path, tiny_dataset, "diffusion_bc")
    with pytest.raises(ConfigError, match="name held-out episodes with --dataset"):
        verb.judge([run], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_unmet_requirement_ends_with_1(
    tmp_path: Path, tiny_dataset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = save_untrained(tmp_path, tiny_dataset, "diffusion_bc")
    monkeypatch.setattr(verb, "judge_policies", partial(judge, settings=QUICK))
    with pytest.raises(typer.Exit) as ended:
        verb.judge([run], tmp_path / "out", dataset=[str(tiny_dataset)], require="better")
    assert ended.value.exit_code == 1
    assert json.loads((tmp_path / "out/judge.json").read_text())["format_version"] == 1
