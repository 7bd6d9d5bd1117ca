import dataclasses
import io
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from dql_core.cli.export import export
from dql_core.cli.inspect import describe
from dql_core.cli.terminal import Terminal
from dql_core.data.curation.operations import choose_episodes, merge_datasets
from dql_core.data.curation.rules import Rules
from dql_core.data.dataset import write_dataset
from dql_core.data.metadata import LINEAGE_KEY, NO_REWARDS_KEY, RELABEL_KEY
from dql_core.data_config import InitConfig
from dql_core.errors import BundleError, CheckpointError
from dql_core.export.bundle import export_bundle
from dql_core.spec import CONTRACT_KEY
from dql_core.training.checkpoint import load_checkpoint, save_checkpoint
from tests.core.conftest import TINY_SPEC, save_untrained, tiny_episode
from tests.printed import words


def shown(path: Path) -> str:
    """Return what is printed, as words."""
    page = describe(path)
    assert page is not None
    text = io.StringIO()
    Console(file=text, width=200).print(page)
    return words(text.getvalue())


def test_dataset_shows_episodes_returns_rate_and_the_range_of_each_field(
    tiny_dataset: Path,
) -> None:
    text = shown(tiny_dataset)
    assert "control rate 20 Hz" in text
    assert "episodes 3 (1 terminated, 2 truncated)" in text
    assert "transitions 19" in text
    assert "episode length 6.333 on average, 5 to 8" in text
    assert "description Random draws." in text
    assert "0 elbow rad -3 to 3 0." in text
    assert "1 grip 0 to 0.1 0.0" in text
    assert shown(tiny_dataset / "data").split("robot")[1] == text.split("robot")[1]


def test_a_curated_dataset_says_what_it_was_made_of(tiny_dataset: Path, tmp_path: Path) -> None:
    other = Path(shutil.copytree(tiny_dataset, tmp_path / "other"))
    merge_datasets([tiny_dataset, other], tmp_path / "both")
    choose_episodes(tmp_path / "both", Rules(min_length=6), tmp_path / "long", drop=False)
    text = shown(tmp_path / "long")
    assert f"lineage merge of {tiny_dataset} (0-2) and {other} (0-2)" in text
    assert re.search(rf"keep of {tmp_path}/both \([0-9,-]+\), min_length=6", text)
    foreign = {LINEAGE_KEY: '[{"operation": 3}, "by hand"]'}
    drawn = tiny_episode(np.random.default_rng(0), 5, terminated=False)
    write_dataset(tmp_path / "foreign", [drawn], TINY_SPEC, extra_metadata=foreign)
    assert "lineage {'operation': 3} 'by hand'" in shown(tmp_path / "foreign")


def test_each_step_of_the_lineage_has_a_line(
    tiny_dataset: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    choose_episodes(tiny_dataset, Rules(min_length=6), tmp_path / "long", drop=False)
    choose_episodes(tmp_path / "long", Rules(episodes="0"), tmp_path / "one", drop=False)
    # A string is one line to the terminal: a line end in it would be shown as \n.
    Terminal().print(describe(tmp_path / "one"))
    steps = [line for line in capsys.readouterr().out.splitlines() if "keep of " in line]
    assert len(steps) == 2
    assert f"keep of {tiny_dataset}" in steps[0]
    assert f"keep of {tmp_path}/long (0), episodes=0" in steps[1]


SILENT, REWARDED = "robot: tiny\n", "robot: tiny\nreward: {topic: /reward}\n"
PER_EPISODE = "return 0 on average, 0 to 0"


@pytest.mark.parametrize(
    ("metadata", "has_returns"),
    [
        ({}, True),
        ({CONTRACT_KEY: REWARDED}, True),
        ({CONTRACT_KEY: SILENT}, False),
        ({CONTRACT_KEY: SILENT + "reward:\n"}, False),
        ({CONTRACT_KEY: SILENT, RELABEL_KEY: "[]"}, True),
        ({CONTRACT_KEY: "robot: [\n"}, True),
        ({CONTRACT_KEY: 3}, True),
        ({NO_REWARDS_KEY: True}, False),
        ({NO_REWARDS_KEY: True, RELABEL_KEY: "[]"}, True),
    ],
)
def test_a_dataset_has_returns_unless_nothing_gave_it_rewards(
    tmp_path: Path, metadata: dict[str, object], has_returns: bool
) -> None:
    drawn = tiny_episode(np.random.default_rng(0), 5, terminated=False)
    failing = dataclasses.replace(drawn, rewards=np.zeros(5))
    write_dataset(tmp_path / "set", [failing], TINY_SPEC, extra_metadata=metadata)
    text = shown(tmp_path / "set")
    assert ("return" in text.split("robot")[1]) == has_returns
    assert (PER_EPISODE in text) == has_returns


def test_run_and_checkpoint_show_agent_updates_and_dataset(
    tiny_run: Path, tiny_dataset: Path
) -> None:
    run, checkpoint = shown(tiny_run), shown(tiny_run / "checkpoints" / "step-00000000")
    for text in (run, checkpoint):
        assert "agent diffusion_ql" in text
        assert "updates 0 of 100,000" in text
        assert f"trained on {tiny_dataset}" in text
        assert "sampling 5 steps, cosine, predicts x0, ddpm" in text
    assert "checkpoints step-00000000" in run


def test_a_run_that_did_not_begin_at_random_says_from_what(
    tiny_run_without_data: Path, tmp_path: Path
) -> None:
    checkpoint = load_checkpoint(tiny_run_without_data)
    config = checkpoint.config.model_copy(update={"init": InitConfig(run="/old/run")})
    save_checkpoint(tmp_path / "later", dataclasses.replace(checkpoint, config=config))
    assert "begun from /old/run" in shown(tmp_path / "later")
    assert "begun from" not in shown(tiny_run_without_data)


def test_run_shows_its_last_metrics(tiny_run_without_data: Path) -> None:
    lines = '{"step": 100, "critic": 2.0}\n{"step": 200, "critic": 0.5}\n'
    (tiny_run_without_data / "metrics.jsonl").write_text(lines)
    assert "last metrics step 200, critic 0.5" in shown(tiny_run_without_data)


def test_bundle_shows_choice_parity_and_hash(tiny_bundle: Path) -> None:
    text = shown(tiny_bundle)
    assert "agent diffusion_ql after 0 updates" in text
    assert "selection softmax of 8, temperature 0.5" in text
    assert "of the action range on 64 observations of" in text
    assert "all hashes right" in text


def test_a_policy_that_samples_nothing_shows_no_diffusion(
    tiny_dataset: Path, tmp_path: Path
) -> None:
    run = save_untrained(tmp_path, tiny_dataset, "td3_bc")
    export_bundle(run, tmp_path / "bundle")
    for path in (run, tmp_path / "bundle"):
        assert "sampling" not in shown(path)
    assert "selection first of 1" in shown(tmp_path / "bundle")


def test_a_bundle_of_chunks_says_how_much_of_one_is_played(
    tiny_dataset: Path, tmp_path: Path
) -> None:
    run = save_untrained(tmp_path, tiny_dataset, "diffusion_ql", horizon=4)
    export(run, tmp_path / "bundle", execute=3)
    assert "chunks of 4 actions, the next after 3" in shown(tmp_path / "bundle")


def test_damaged_bundle_is_refused(tiny_bundle: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(tiny_bundle, tmp_path / "copy"))
    (copy / "policy.onnx").write_bytes(b"")
    with pytest.raises(BundleError, match=r"policy.onnx: its SHA-256"):
        describe(copy)


def test_run_without_checkpoints_is_refused(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").mkdir()
    with pytest.raises(CheckpointError, match="holds no checkpoint"):
        describe(tmp_path)


def test_other_folders_and_files_are_not_described(tmp_path: Path) -> None:
    assert describe(tmp_path) is None
    (tmp_path / "file").write_text("")
    assert describe(tmp_path / "file") is None
