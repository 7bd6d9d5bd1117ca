"""Runs that are damaged, were edited, or that somebody made to harm."""

import hashlib
import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
import yaml
from rich.console import Console

from dql_core.cli.evaluate import evaluate
from dql_core.cli.export import export
from dql_core.cli.inspect import describe
from dql_core.cli.train import train as train_command
from dql_core.config import TrainConfig
from dql_core.errors import CheckpointError, ConfigError, DamagedCheckpointError, DqlError
from dql_core.training.checkpoint import load_checkpoint
from dql_core.training.loop import train
from dql_core.training.multi_seed import summarize
from dql_core.training.run_files import checkpoint_steps, find_checkpoint
from tests.core.training.test_checkpoint import edit_document

pytestmark = pytest.mark.slow

STEPS = 30


def make_config(dataset: Path, **changes: Any) -> TrainConfig:
    run = {"batch_size": 8, "log_every": 5, "checkpoint_every": 10, "num_threads": 1}
    document = {
        "data": {"dataset": str(dataset)},
        "policy": {"width": 8},
        "critic": {"width": 8},
        "selection": {"num_candidates": 4},
        "run": run | {"steps": STEPS},
    }
    return TrainConfig.model_validate(document | changes)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, tiny_dataset: Path) -> Path:
    run = tmp_path_factory.mktemp("runs") / "run"
    train(make_config(tiny_dataset), run)
    return run


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "run"))


def checkpoint(run: Path, step: int) -> Path:
    return run / "checkpoints" / f"step-{step:08d}"


def flip_bit(path: Path, position: float = 0.5) -> None:
    content = bytearray(path.read_bytes())
    content[round(position * (len(content) - 1))] ^= 0x01
    path.write_bytes(bytes(content))


def last_weights(run: Path) -> dict[str, torch.Tensor]:
    return safetensors.torch.load_file(checkpoint(run, STEPS) / "state.safetensors")


# Hashes
@pytest.mark.parametrize("position", [0.3, 0.5, 0.9, 1.0])
def test_a_flipped_bit_of_the_weights_is_found_and_the_one_before_is_named(
    run: Path, tmp_path: Path, position: float
) -> None:
    flip_bit(checkpoint(run, STEPS) / "state.safetensors", position)
    words = (
        r"step-00000030/state.safetensors: its SHA-256 is not the one in checkpoint.json: damaged "
        rf"or replaced; the previous checkpoint is intact: use {checkpoint(run, 20)}$"
    )
    for named in (run, checkpoint(run, STEPS)):
        with pytest.raises(DamagedCheckpointError, match=words):
            load_checkpoint(named)
        with pytest.raises(DamagedCheckpointError, match=words):
            export(named, tmp_path / "bundle")
        with pytest.raises(DamagedCheckpointError, match=words):
            evaluate(named, "Pendulum-v1")
        with pytest.raises(DamagedCheckpointError, match=words):
            describe(named)
    export(checkpoint(run, 20), tmp_path / "bundle")  # the remedy


def test_a_flipped_bit_anywhere_in_the_document_is_found_or_changes_nothing(run: Path) -> None:
    path = checkpoint(run, STEPS) / "checkpoint.json"
    sound, text = load_checkpoint(run), path.read_bytes()
    for position in np.linspace(0.0, 1.0, 150):
        flip_bit(path, position)
        try:
            found = load_checkpoint(run)
        except CheckpointError as error:
            assert "checkpoint.json: " in str(error)  # noqa: PT017 - either is right
        else:
            assert (found.config, found.spec) == (sound.config, sound.spec)
        path.write_bytes(text)


def test_where_no_earlier_one_is_whole_none_is_named(run: Path) -> None:
    for step in (10, 20, 30):
        flip_bit(checkpoint(run, step) / "state.safetensors")
    with pytest.raises(DamagedCheckpointError, match=r"damaged or replaced; train again$"):
        load_checkpoint(run)
    flip_bit(checkpoint(run, 10) / "state.safetensors")
    with pytest.raises(DamagedCheckpointError, match=rf"is intact: use {checkpoint(run, 10)}$"):
        load_checkpoint(run)


def remove(path: Path) -> None:
    path.unlink()


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


@pytest.mark.parametrize("name", ["state.safetensors", "checkpoint.json"])
@pytest.mark.parametrize("damage", [flip_bit, remove, cut])
def test_a_run_goes_on_from_the_checkpoint_before_a_damaged_one_to_the_same_bits(
    run: Path,
    finished: Path,
    tiny_dataset: Path,
    name: str,
    damage: Callable[[Path], None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    if (damage, name) == (flip_bit, "checkpoint.json"):
        path = checkpoint(run, STEPS) / name
        path.write_text(path.read_text().replace('"step": 30', '"step": 31', 1))
    else:
        damage(checkpoint(run, STEPS) / name)
    train(make_config(tiny_dataset), run, resume=True)
    (line,) = [record.getMessage() for record in caplog.records if "resumes" in record.message]
    assert f"step-00000030/{name}: " in line
    assert line.endswith("; resumes from step 20: 10 updates are repeated")
    assert "\n" not in line
    expected = last_weights(finished)
    for key, tensor in last_weights(run).items():
        assert torch.equal(tensor, expected[key]), key
    assert (run / "checkpoints" / "damaged-step-00000030").is_dir()
    assert checkpoint_steps(run) == [10, 20, 30]
    lines = (run / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [5, 10, 15, 20, 25, 30]


def test_a_run_with_several_damaged_checkpoints_goes_on_from_the_last_whole_one(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for step in (20, 30):
        flip_bit(checkpoint(run, step) / "state.safetensors")
    train_command(resume=run)
    said = capsys.readouterr().out.splitlines()
    (line,) = [line for line in said if "resumes from step 10" in line]
    assert line.startswith(f"{checkpoint(run, 30)}/state.safetensors: its SHA-256 is not")
    assert line.endswith(": 20 updates are repeated")


def test_a_run_without_a_whole_checkpoint_does_not_begin_again_silently(run: Path) -> None:
    for step in (10, 20, 30):
        flip_bit(checkpoint(run, step) / "state.safetensors")
    with pytest.raises(
        CheckpointError, match=r"step-00000030/.*; and no other checkpoint in .* is intact"
    ):
        train_command(resume=run)
    assert checkpoint_steps(run) == [10, 20, 30]


def test_a_damaged_best_checkpoint_is_refused_not_replaced(run: Path) -> None:
    best = find_checkpoint(run, "best_offline")
    flip_bit(best / "state.safetensors")
    with pytest.raises(DamagedCheckpointError, match=f"{best.name}/state.safetensors: its SHA"):
        load_checkpoint(run, which="best_offline")


def without_hashes(folder: Path) -> None:
    """Make a checkpoint what it was before there were hashes."""
    path = folder / "checkpoint.json"
    document = json.loads(path.read_text())
    del document["sha256"], document["files"]
    path.write_text(json.dumps(document))


def test_a_run_from_before_there_were_hashes_is_read_and_that_is_said_once(
    run: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for step in (10, 20, 30):
        without_hashes(checkpoint(run, step))
    for _ in range(2):
        load_checkpoint(run)
        load_checkpoint(checkpoint(run, 20))
    assert caplog.text.count("saved by an older version without hashes") == 1
    train_command(resume=run)


@pytest.mark.parametrize("key", ["sha256", "files"])
def test_one_hash_without_the_other_is_damage(run: Path, key: str) -> None:
    path = checkpoint(run, STEPS) / "checkpoint.json"
    document = json.loads(path.read_text())
    del document[key]
    path.write_text(json.dumps(document))
    with pytest.raises(DamagedCheckpointError, match="does not match its own SHA-256"):
        load_checkpoint(run)


# The configuration
def edit_config(run: Path, old: str, new: str) -> None:
    text = (run / "config.yaml").read_text()
    assert old in text
    (run / "config.yaml").write_text(text.replace(old, new, 1))


def test_an_edited_configuration_is_told_with_its_key(run: Path, tmp_path: Path) -> None:
    edit_config(run, "eta: 1.0", "eta: 2.0")
    with pytest.raises(
        ConfigError,
        match=r"config.yaml: was edited since the run began \(policy.eta is 2.0 and was 1.0\): "
        r"change it back, or train a new run: dql train .*/run/config.yaml --out NEW",
    ):
        train_command(resume=run)
    train_command(run / "config.yaml", out=tmp_path / "new")  # one remedy
    edit_config(run, "eta: 2.0", "eta: 1.0")
    train_command(resume=run)  # the other


def test_an_edited_configuration_changes_no_checkpoint_and_that_is_said(
    run: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    edit_config(run, "num_candidates: 4", "num_candidates: 9")
    export(run, tmp_path / "bundle")
    assert "config.yaml: was edited after the run began; the edit is ignored" in caplog.text
    assert load_checkpoint(run).config.selection.num_candidates == 4


def test_a_comment_is_no_edit(run: Path) -> None:
    with (run / "config.yaml").open("a") as file:
        file.write("# a note\n")
    train_command(resume=run)


def test_a_run_of_a_version_with_fewer_keys_was_not_edited(run: Path) -> None:
    """Its hash is of what it means then; that of the file tells."""
    facts = json.loads((run / "run.json").read_text())
    facts["config_hash"] = "0" * 64
    (run / "run.json").write_text(json.dumps(facts))
    train_command(resume=run)


def test_a_run_with_a_key_that_is_no_more_is_read_and_goes_on(run: Path, tmp_path: Path) -> None:
    config = load_checkpoint(run).config
    earlier = config.model_dump(mode="json")
    earlier["run"] |= {"needless_gradients": False}
    (run / "config.yaml").write_text(yaml.safe_dump(earlier, sort_keys=False))
    facts = json.loads((run / "run.json").read_text())
    facts["config_hash"] = hashlib.sha256(json.dumps(earlier, sort_keys=True).encode()).hexdigest()
    file_hash = hashlib.sha256((run / "config.yaml").read_bytes()).hexdigest()
    (run / "run.json").write_text(json.dumps(facts | {"config_file_sha256": file_hash}))
    for step in checkpoint_steps(run):
        edit_document(checkpoint(run, step), config=earlier)
    shutil.rmtree(checkpoint(run, STEPS))
    assert load_checkpoint(run).config == config
    train_command(resume=run)
    assert load_checkpoint(run).step == STEPS
    export(run, tmp_path / "bundle")


# What a run can make the program do
def begin_with_module(run: Path) -> None:
    """Let a run have been begun with an environment of a module, with all hashes right."""
    config = load_checkpoint(run).config
    changed = config.model_copy(
        update={"evaluation": config.evaluation.model_copy(update={"env": "evil_module:E-v0"})}
    )
    (run / "config.yaml").write_text(changed.to_yaml())
    facts = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps(facts | {"config_hash": changed.hash()}))
    for step in checkpoint_steps(run):
        edit_document(checkpoint(run, step), config=changed.model_dump(mode="json"))


def test_a_resumed_run_imports_no_module_that_the_user_does_not_name(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "evil_module.py").write_text(
        "from pathlib import Path\nPath(__file__).with_name('ran').touch()\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    shutil.rmtree(checkpoint(run, 30))
    begin_with_module(run)
    with pytest.raises(
        ConfigError,
        match=r"run: was begun with the environment 'evil_module:E-v0', for which the module "
        r"'evil_module' would be imported; if you trust it, say so again: "
        r"--eval-env evil_module:E-v0",
    ):
        train_command(resume=run)
    assert not (tmp_path / "ran").exists()
    with pytest.raises(
        ConfigError, match="leave --dataset, --eval-env, --init-from and --set away"
    ):
        train_command(resume=run, eval_env="other:E-v0")
    assert not (tmp_path / "ran").exists()
    with pytest.raises(ConfigError, match="environment 'evil_module:E-v0' cannot be made"):
        train_command(resume=run, eval_env="evil_module:E-v0")
    assert (tmp_path / "ran").exists()
    sys.modules.pop("evil_module", None)


NAMES = ("config.yaml", "run.json", "best.json", "metrics.jsonl", "validation.jsonl")


def use_of(name: str) -> Callable[[Path], object]:
    """Return what reads a file of a run."""
    if name == "best.json":
        return lambda run: load_checkpoint(run, which="best_offline")
    return lambda run: train_command(resume=run)


@pytest.mark.parametrize("name", NAMES)
def test_a_link_in_a_run_is_neither_read_nor_written(run: Path, tmp_path: Path, name: str) -> None:
    (run / name).rename(tmp_path / "elsewhere")
    before = (tmp_path / "elsewhere").read_bytes()
    (run / name).symlink_to(tmp_path / "elsewhere")
    shutil.rmtree(checkpoint(run, 30))
    with pytest.raises(DqlError, match=rf"{name}: is a link") as raised:
        use_of(name)(run)
    assert "\n" not in str(raised.value)
    assert (tmp_path / "elsewhere").read_bytes() == before


@pytest.mark.parametrize("name", ["metrics.jsonl", "validation.jsonl"])
def test_a_link_that_leads_nowhere_makes_no_file_there(
    run: Path, tmp_path: Path, name: str
) -> None:
    (run / name).unlink()
    (run / name).symlink_to(tmp_path / "autostart")
    shutil.rmtree(checkpoint(run, 30))
    with pytest.raises(DqlError, match=rf"{name}: is a link"):
        train_command(resume=run)
    assert not (tmp_path / "autostart").exists()


@pytest.mark.parametrize("name", NAMES)
def test_a_pipe_in_a_run_is_not_waited_for(run: Path, name: str) -> None:
    (run / name).unlink()
    os.mkfifo(run / name)
    with pytest.raises(DqlError, match=rf"{name}: is a named pipe"):
        use_of(name)(run)


@pytest.mark.parametrize("place", ["checkpoints", "checkpoints/step-00000030"])
def test_checkpoints_behind_a_link_are_not_read(run: Path, tmp_path: Path, place: str) -> None:
    (run / place).rename(tmp_path / "elsewhere")
    (run / place).symlink_to(tmp_path / "elsewhere")
    for use in (load_checkpoint, describe, lambda path: train_command(resume=path)):
        with pytest.raises(
            CheckpointError, match=rf"{place}: is a symbolic link: replace it by the real folder"
        ):
            use(run)


@pytest.mark.parametrize(
    "folder",
    ["/etc", "..", "checkpoints/../../other/checkpoints/step-00000010", "checkpoints", 7, [], "."],
)
def test_a_best_checkpoint_is_one_of_the_run(run: Path, folder: object) -> None:
    (run / "best.json").write_text(json.dumps({"best_offline": {"checkpoint": folder, "step": 1}}))
    with pytest.raises(CheckpointError, match=r"best.json: damaged: 'best_offline' is not a"):
        load_checkpoint(run, which="best_offline")


DEEP = "[" * 100_000 + "]" * 100_000


@pytest.mark.parametrize("name", ["run.json", "metrics.jsonl", "validation.jsonl"])
@pytest.mark.parametrize(
    "text", ["[]\n", "{}\n", '{"step": "1"}\n', f'{{"step": {DEEP}}}\n', "\xff\n", "null\n", "{\n"]
)
def test_damaged_files_of_a_run_are_one_line(run: Path, name: str, text: str) -> None:
    (run / name).write_bytes(text.encode("latin-1"))
    shutil.rmtree(checkpoint(run, 30))
    with pytest.raises(CheckpointError, match=rf"{name}: ") as raised:
        train_command(resume=run)
    assert "\n" not in str(raised.value)
    assert len(str(raised.value)) < 400


def test_measures_that_are_none_are_one_line(run: Path) -> None:
    (run / "validation.jsonl").write_text('{"step": 10}\n{"step": 20, "imitation": {}}\n')
    shutil.rmtree(checkpoint(run, 30))
    with pytest.raises(CheckpointError, match=r"validation.jsonl: damaged: KeyError: 'imitation'"):
        train_command(resume=run)
    (run / "metrics.jsonl").write_text('{"step": 10, "imitation": "x"}\n')
    with pytest.raises(CheckpointError, match="run: damaged: "):
        summarize({0: run})
    Console(quiet=True).print(describe(run))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"step": 10**30}, "step"),
        ({"step": -1}, "step"),
        ({"step": 31}, "step 31 is beyond its run.steps: 30"),
        ({"step": "30"}, "step"),
        ({"progress": {"since_reading": 7}}, "since_reading"),
        (
            {
                "progress": {
                    "since_reading": {"totals": {"a": 1.0}, "count": 0},
                    "since_checkpoint": {"totals": {}, "count": 0},
                    "alarming": False,
                }
            },
            "losses of 0 updates",
        ),
        ({"spec": {"robot": 7}}, "'robot' is 7"),
        ({"normalizer": {"observation_mean": [float("nan")]}}, "normaliser"),
        ({"device": {}}, "device"),
        ({"files": {"../../x": "0"}}, "its SHA-256 is not the one"),
        ({"extra": 1}, "unknown key 'extra'"),
    ],
)
def test_a_forged_document_is_refused(run: Path, changes: dict[str, Any], words: str) -> None:
    edit_document(checkpoint(run, STEPS), **changes)
    with pytest.raises(DamagedCheckpointError, match=words) as raised:
        load_checkpoint(run)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("section", "key", "value", "words"),
    [
        ("policy", "width", 10**9, r"policy.width' is 1000000000"),
        ("policy", "width", 8_000, r"its networks need .* bytes of weights, and the file has"),
        ("critic", "width", 8_000, r"its networks need .* bytes of weights, and the file has"),
        ("critic", "depth", 10**9, r"critic.depth' is 1000000000"),
        ("policy", "depth", 64, r"its networks need|does not fit"),
        ("diffusion", "num_diffusion_steps", 10**12, "num_diffusion_steps"),
        ("run", "batch_size", 10**12, "batch_size"),
        ("run", "num_threads", 10**9, "num_threads"),
        ("selection", "num_candidates", 10**12, "num_candidates"),
        ("critic", "max_q_samples", 10**9, "max_q_samples"),
        ("evaluation", "episodes", 10**12, "episodes"),
    ],
)
def test_networks_of_absurd_sizes_are_not_made(
    run: Path, section: str, key: str, value: int, words: str
) -> None:
    config = load_checkpoint(run).config.model_dump(mode="json")
    config[section][key] = value
    edit_document(checkpoint(run, STEPS), config=config)
    with pytest.raises(DamagedCheckpointError, match=words):
        load_checkpoint(run)


def test_networks_that_fit_no_computer_are_refused_in_a_users_own_configuration(
    tiny_dataset: Path, tmp_path: Path
) -> None:
    file = tmp_path / "huge.yaml"
    file.write_text("policy: {width: 16384, depth: 64}\n")
    words = r"policy.width: 16384 with policy.depth: 64 makes 16,911,433,728 weights: at most"
    with pytest.raises(ConfigError, match=words):
        train_command(file, [str(tiny_dataset)], tmp_path / "run")


@pytest.mark.parametrize("change", ["shape", "dtype"])
def test_a_tensor_that_torch_would_stretch_or_cast_is_refused(run: Path, change: str) -> None:
    folder = checkpoint(run, STEPS)
    tensors = last_weights(run)
    name = "adam.policy.0.exp_avg"
    tensor = tensors[name]
    tensors[name] = tensor.flatten()[:1].clone() if change == "shape" else tensor.double()
    state = safetensors.torch.save(tensors)
    (folder / "state.safetensors").write_bytes(state)
    edit_document(folder, files={"state.safetensors": hashlib.sha256(state).hexdigest()})
    with pytest.raises(DamagedCheckpointError, match=rf"size mismatch: {name} is torch"):
        load_checkpoint(run)


def test_a_state_of_absurd_size_is_not_read(run: Path) -> None:
    os.truncate(checkpoint(run, STEPS) / "state.safetensors", 1 << 42)
    with pytest.raises(DamagedCheckpointError, match=r"state.safetensors: is larger than"):
        load_checkpoint(run)
