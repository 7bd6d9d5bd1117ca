import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

from dql_core.algo.registry import AGENTS, make_agent
from dql_core.config import AgentName, CriticConfig, PolicyConfig, RunConfig, TrainConfig
from dql_core.data.transitions import Batch
from dql_core.errors import CheckpointError
from dql_core.normalize import Normalizer
from dql_core.spec import FieldSpec, PolicySpec
from dql_core.training.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from dql_core.training.run_files import find_checkpoint

SPEC = PolicySpec(
    robot="cart",
    rate_hz=10.0,
    observation=(FieldSpec("x"), FieldSpec("v", "m/s", -5.0, 5.0), FieldSpec("goal")),
    action=(FieldSpec("push", "N", -4.0, 4.0), FieldSpec("turn", "rad/s", -1.0, 2.0)),
    contract_hash="c0ffee",
)


def make_batch(size: int = 8) -> Batch:
    generator = torch.Generator().manual_seed(5)
    return Batch(
        observation=torch.randn(size, 3, generator=generator),
        action=torch.rand(size, 2, generator=generator) * 2 - 1,
        reward=torch.randn(size, generator=generator),
        next_observation=torch.randn(size, 3, generator=generator),
        bootstrap=torch.ones(size),
    )


def make_run(agent: AgentName = "diffusion_ql", updates: int = 3) -> Checkpoint:
    config = TrainConfig(
        agent=agent,
        run=RunConfig(steps=20),
        policy=PolicyConfig(width=8, ema_every=2),
        critic=CriticConfig(width=8),
    )
    torch.manual_seed(0)
    observations = np.random.default_rng(0).normal(size=(30, 3)).astype(np.float32)
    run = Checkpoint(
        spec=SPEC,
        config=config,
        normalizer=Normalizer.fit(observations, SPEC),
        agent=make_agent(config, SPEC, torch.Generator().manual_seed(1)),
        batches=torch.Generator().manual_seed(2),
    )
    for _ in range(updates):
        run.agent.update(make_batch())
    return run


def all_tensors(path: Path) -> dict[str, torch.Tensor]:
    return safetensors.torch.load_file(path / "state.safetensors")


@pytest.mark.parametrize("agent", AGENTS)
@pytest.mark.parametrize("updates", [0, 3])
def test_a_checkpoint_comes_back_to_the_last_bit(
    tmp_path: Path, agent: AgentName, updates: int
) -> None:
    before = make_run(agent, updates)
    folder = save_checkpoint(tmp_path / "a", before)
    after = load_checkpoint(tmp_path / "a")
    assert (after.spec, after.config, after.step) == (SPEC, before.config, updates)
    again = save_checkpoint(tmp_path / "b", after)
    first, second = all_tensors(folder), all_tensors(again)
    assert first.keys() == second.keys()
    for name, tensor in first.items():
        assert torch.equal(tensor, second[name]), name
    documents = [(path / "checkpoint.json").read_text() for path in (folder, again)]
    assert documents[0] == documents[1]


def test_a_loaded_run_goes_on_as_if_it_had_never_stopped(tmp_path: Path) -> None:
    uninterrupted = make_run(updates=7)
    save_checkpoint(tmp_path / "a", make_run(updates=3))
    resumed = load_checkpoint(tmp_path / "a")
    for _ in range(4):
        resumed.agent.update(make_batch())
    first = all_tensors(save_checkpoint(tmp_path / "b", uninterrupted))
    second = all_tensors(save_checkpoint(tmp_path / "c", resumed))
    for name, tensor in first.items():
        assert torch.equal(tensor, second[name]), name


def test_every_network_average_target_and_optimiser_is_saved(tmp_path: Path) -> None:
    names = set(all_tensors(save_checkpoint(tmp_path, make_run())))
    for prefix in ("policy.online.", "policy.average.", "critic.", "target_critic."):
        assert any(name.startswith(prefix) for name in names), prefix
    assert {"adam.policy.0.exp_avg", "adam.critic.7.exp_avg_sq"} <= names
    assert {"generator.batches", "generator.updates"} <= names


def test_loading_leaves_torchs_global_generator_alone(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, make_run())
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    load_checkpoint(tmp_path)
    assert torch.equal(torch.rand(3), expected)


def test_a_run_folder_stands_for_its_latest_checkpoint(tmp_path: Path) -> None:
    run = make_run(updates=9)
    save_checkpoint(tmp_path, run)
    run.agent.update(make_batch())
    latest = save_checkpoint(tmp_path, run)
    assert find_checkpoint(tmp_path) == latest == find_checkpoint(latest)
    assert latest.name == "step-00000010"


def test_saving_twice_at_a_step_keeps_the_first(tmp_path: Path) -> None:
    run = make_run()
    folder = save_checkpoint(tmp_path, run)
    written = (folder / "state.safetensors").stat().st_mtime_ns
    assert save_checkpoint(tmp_path, run) == folder
    assert (folder / "state.safetensors").stat().st_mtime_ns == written


def test_a_checkpoint_from_another_device_gets_a_generator_of_its_own(tmp_path: Path) -> None:
    def drawn(updates: int) -> torch.Tensor:
        folder = save_checkpoint(tmp_path, make_run(updates=updates))
        edit_document(folder, device="cuda")
        return load_checkpoint(folder).agent.noise.draw(8).imitation

    assert torch.equal(drawn(3), drawn(3))
    assert not torch.equal(drawn(3), drawn(4))


def test_of_a_folder_of_runs_one_is_to_be_named(tmp_path: Path) -> None:
    for name in ("b", "a"):
        save_checkpoint(tmp_path / name, make_run())
    with pytest.raises(CheckpointError, match=r"is no run, but holds runs: name one: .*/a, .*/b$"):
        load_checkpoint(tmp_path)


def test_what_is_no_run_is_told_apart(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="holds no checkpoint; make one with 'dql train'"):
        load_checkpoint(tmp_path)
    with pytest.raises(CheckpointError, match="no such run folder or checkpoint"):
        load_checkpoint(tmp_path / "nowhere")


def edit_document(folder: Path, **changes: object) -> None:
    """Change a document together with its hash, as no damage does."""
    path = folder / "checkpoint.json"
    document = json.loads(path.read_text()) | changes
    del document["sha256"]
    content = json.dumps(document, sort_keys=True).encode()
    path.write_text(json.dumps(document | {"sha256": hashlib.sha256(content).hexdigest()}))


def test_a_foreign_or_damaged_document_is_one_line(tmp_path: Path) -> None:
    folder = save_checkpoint(tmp_path, make_run())
    edit_document(folder, config={"agent": "diffusion_ql", "polcy": {}})
    with pytest.raises(CheckpointError, match=r"unknown key 'polcy' \(did you mean 'policy'\?\)"):
        load_checkpoint(folder)
    document = json.loads((folder / "checkpoint.json").read_text())
    del document["sha256"], document["files"], document["spec"]
    (folder / "checkpoint.json").write_text(json.dumps(document))
    with pytest.raises(CheckpointError, match="damaged: key 'spec' is missing"):
        load_checkpoint(folder)
    (folder / "checkpoint.json").write_text('{"format_version": 99}')
    with pytest.raises(CheckpointError, match="format_version is 99; this version of dql reads 2"):
        load_checkpoint(folder)
    (folder / "checkpoint.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"checkpoint.json: damaged: ") as caught:
        load_checkpoint(folder)
    assert "\n" not in str(caught.value)


def test_weights_that_do_not_fit_the_configuration_are_refused(tmp_path: Path) -> None:
    run = make_run()
    folder = save_checkpoint(tmp_path, run)
    wider = run.config.model_copy(update={"policy": PolicyConfig(width=16)})
    edit_document(folder, config=wider.model_dump(mode="json"))
    with pytest.raises(
        CheckpointError, match=r"does not fit its own configuration: .*size mismatch"
    ):
        load_checkpoint(folder)
    imitation = run.config.model_copy(update={"agent": "diffusion_bc"})
    edit_document(folder, config=imitation.model_dump(mode="json"))
    with pytest.raises(CheckpointError, match=r"unknown tensor 'adam.critic.0.exp_avg'"):
        load_checkpoint(folder)


def test_a_truncated_file_of_weights_is_one_line(tmp_path: Path) -> None:
    folder = save_checkpoint(tmp_path, make_run())
    path = folder / "state.safetensors"
    state = path.read_bytes()[:-100]
    path.write_bytes(state)
    edit_document(folder, files={"state.safetensors": hashlib.sha256(state).hexdigest()})
    with pytest.raises(CheckpointError, match=r"state.safetensors: damaged: ") as caught:
        load_checkpoint(folder)
    assert "\n" not in str(caught.value)
