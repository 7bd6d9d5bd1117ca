import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from numpy.typing import NDArray

from dql_core.algo.policy_graph import PolicyGraph, TorchPolicy, agent_choice, policy_graph
from dql_core.algo.registry import make_agent
from dql_core.config import TrainConfig
from dql_core.data.dataset import Episode, write_dataset
from dql_core.errors import BundleError, CheckpointError, ConfigError, SpecMismatchError
from dql_core.export import bundle as bundle_module
from dql_core.export.bundle import NUM_OBSERVATIONS, export_bundle
from dql_core.models.actors import DiffusionSampler
from dql_core.runtime.bundle_policy import load_policy
from dql_core.runtime.manifest import MANIFEST_FILE, WEIGHTS_FILE, Manifest, read_bundle
from dql_core.runtime.policy import Choice, Policy, resolve_choice
from dql_core.spec import FieldSpec, PolicySpec
from dql_core.training.checkpoint import load_checkpoint
from tests.core.conftest import TINY_SPEC, save_untrained


def test_bundle_acts_like_the_checkpoint_on_equal_generators(
    tiny_run: Path, tiny_bundle: Path
) -> None:
    checkpoint = load_checkpoint(tiny_run)
    graph = policy_graph(checkpoint.agent, checkpoint.config, checkpoint.normalizer)
    choice = agent_choice(checkpoint.agent, checkpoint.config)
    original = TorchPolicy(graph, checkpoint.spec, choice, checkpoint.normalizer)
    exported = load_policy(tiny_bundle)
    for seed in range(5):
        observation = np.random.default_rng(seed).normal(size=3).astype(np.float32)
        expected = original.act(observation, np.random.default_rng(seed))
        decision = exported.act(observation, np.random.default_rng(seed))
        np.testing.assert_allclose(decision.candidates, expected.candidates, atol=1e-5)
        np.testing.assert_allclose(decision.q_values, expected.q_values, atol=1e-5)


def test_an_export_says_that_what_acts_is_mostly_untrained(
    tiny_dataset: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = save_untrained(tmp_path, tiny_dataset, "diffusion_ql", weights="ema")
    export_bundle(run, tmp_path / "bundle")
    assert f"{run}: after 0 updates the average that acts is 100% the network" in caplog.text


def test_beyond_the_training_data_bundle_and_checkpoint_act_as_at_its_edge(
    tiny_run: Path, tiny_bundle: Path
) -> None:
    checkpoint, exported = load_checkpoint(tiny_run), load_policy(tiny_bundle)
    free = load_policy(tiny_bundle, bound_observations=False)
    highest = checkpoint.normalizer.observation_max
    assert highest is not None
    beyond = highest + np.float32(50.0)

    def act(policy: Policy, observation: NDArray[np.float32]) -> NDArray[np.float32]:
        return policy.act(observation, np.random.default_rng(0)).candidates

    np.testing.assert_array_equal(act(exported, beyond), act(exported, highest))
    np.testing.assert_array_equal(act(free, highest), act(exported, highest))
    assert np.abs(act(free, beyond) - act(exported, beyond)).max() > 1e-3
    original = checkpoint.policy()
    np.testing.assert_allclose(act(original, beyond), act(exported, beyond), atol=1e-5)
    each = original.act_for_each(np.stack([beyond, highest]), [np.random.default_rng(0)] * 2)
    assert each.shape == (2, len(checkpoint.spec.action))


def test_manifest_tells_where_the_policy_comes_from(
    tiny_run: Path, tiny_bundle: Path, tiny_dataset: Path, tiny_spec: PolicySpec
) -> None:
    manifest, _ = read_bundle(tiny_bundle)
    checkpoint = load_checkpoint(tiny_run)
    assert manifest.policy_spec == tiny_spec
    assert manifest.agent == "diffusion_ql"
    assert manifest.step == 0
    assert manifest.config_hash == checkpoint.config.hash()
    assert manifest.config == checkpoint.config.to_json()
    assert manifest.num_candidates == 8
    assert manifest.selection == "softmax"
    assert manifest.sampler.num_diffusion_steps == 5
    assert {"torch", "onnxruntime", "numpy", "python"} <= manifest.versions.keys()


def test_normalizer_survives_to_the_bit(tiny_run: Path, tiny_bundle: Path) -> None:
    manifest, _ = read_bundle(tiny_bundle)
    fitted = load_checkpoint(tiny_run).normalizer
    for name, values in vars(fitted).items():
        np.testing.assert_array_equal(getattr(manifest.observation_normalizer, name), values)


def test_parity_is_measured_on_observations_of_the_training_dataset(
    tiny_bundle: Path, tiny_dataset: Path
) -> None:
    parity = read_bundle(tiny_bundle)[0].parity
    assert parity.source == f"observations of {tiny_dataset}"
    assert parity.observations == NUM_OBSERVATIONS
    assert 0.0 <= parity.action_error < 1e-5
    assert 0.0 <= parity.q_error < 1e-5


def test_weights_are_those_of_the_acting_networks(tiny_run: Path, tiny_bundle: Path) -> None:
    weights = safetensors.torch.load_file(tiny_bundle / WEIGHTS_FILE)
    agent = load_checkpoint(tiny_run).agent
    assert agent.ranking_critic is not None
    sampler = agent.acting_sampler
    assert isinstance(sampler, DiffusionSampler)
    for prefix, network in (("sampler", sampler), ("critic", agent.ranking_critic)):
        for name, values in network.state_dict().items():
            np.testing.assert_array_equal(weights[f"{prefix}.{name}"], values)


def test_candidates_and_selection_of_the_configuration_can_be_overridden(
    tiny_run: Path, tmp_path: Path
) -> None:
    manifest = export_bundle(tiny_run, tmp_path / "b", num_candidates=3, selection="greedy")
    assert (manifest.num_candidates, manifest.selection) == (3, "greedy")
    assert load_policy(tmp_path / "b").choice.num_candidates == 3


@pytest.mark.parametrize(
    ("agent", "selection", "expected"),
    [
        ("diffusion_ql", {}, (50, "mode")),
        ("diffusion_ql", {"num_candidates": 4}, (4, "softmax")),
        ("diffusion_ql", {"rule": "softmax"}, (50, "softmax")),
        ("diffusion_bc", {}, (1, "first")),
        ("diffusion_bc", {"rule": "softmax"}, (1, "first")),  # as runs of before have it
        ("diffusion_bc", {"rule": "mode"}, (50, "mode")),
        ("td3_bc", {}, (1, "first")),
    ],
)
def test_values_take_the_mode_of_candidates_that_are_enough_to_agree(
    agent: str, selection: dict[str, Any], expected: tuple[int, str]
) -> None:
    config = TrainConfig.model_validate({"agent": agent, "selection": selection})
    made = agent_choice(make_agent(config, TINY_SPEC, torch.Generator()), config)
    assert (made.num_candidates, made.selection) == expected


@pytest.mark.parametrize(
    ("agent", "selection", "wishes", "expected"),
    [
        ("diffusion_ql", {}, {"num_candidates": 4}, (4, "softmax")),
        ("diffusion_ql", {"num_candidates": 4}, {"num_candidates": 20}, (20, "mode")),
        ("diffusion_bc", {}, {"selection": "mode"}, (50, "mode")),
        ("diffusion_bc", {"rule": "softmax"}, {"selection": "mode"}, (50, "mode")),
        ("diffusion_bc", {"rule": "mode"}, {"num_candidates": 1}, (1, "first")),
    ],
)
def test_a_caller_may_choose_otherwise(
    agent: str, selection: dict[str, Any], wishes: dict[str, Any], expected: tuple[int, str]
) -> None:
    config = TrainConfig.model_validate({"agent": agent, "selection": selection})
    made = agent_choice(make_agent(config, TINY_SPEC, torch.Generator()), config, **wishes)
    assert (made.num_candidates, made.selection) == expected


@pytest.mark.parametrize("count", [2, 4])
def test_candidates_that_are_too_few_to_agree_are_refused_where_no_value_draws_one(
    count: int,
) -> None:
    with pytest.raises(ConfigError, match=f"num_candidates is {count}, but selection 'mode'"):
        resolve_choice(Choice(50, "mode"), False, num_candidates=count)
    assert resolve_choice(Choice(50, "mode"), True, num_candidates=count).selection == "softmax"


def test_where_the_dataset_is_gone_the_parity_says_that_it_was_measured_on_draws(
    tiny_run_without_data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    manifest = export_bundle(tiny_run_without_data, tmp_path / "b")
    assert manifest.parity.source == "draws from the training data's mean and spread"
    assert "the parity is not measured on the training dataset" in caplog.text


@pytest.mark.parametrize("checkpoint", ["run", "run/checkpoints/step-00000000"])
def test_dataset_that_a_run_names_relatively_is_found_from_the_run_upwards(
    tiny_dataset: Path, tmp_path: Path, checkpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    demo = tmp_path / "demo"
    save_untrained(demo / "runs", Path("dataset"), "diffusion_ql")
    shutil.copytree(tiny_dataset, demo / "dataset")
    # Another robot's dataset of the same name is nearer.
    zeros = np.zeros((2, 1), np.float32), np.zeros((1, 1), np.float32), np.zeros(1)
    other = PolicySpec("other", 0.0, (FieldSpec("x"),), (FieldSpec("y", "", -1.0, 1.0),))
    episode = Episode(*zeros, terminated=True, truncated=False)
    write_dataset(demo / "runs" / "dataset", [episode], other)
    monkeypatch.chdir(demo / "runs")
    manifest = export_bundle(demo / "runs" / checkpoint, tmp_path / "b")
    assert manifest.parity.source == "observations of dataset"


def test_parity_can_be_measured_on_another_dataset_of_the_robot(
    tiny_run_without_data: Path, tiny_dataset: Path, tmp_path: Path
) -> None:
    manifest = export_bundle(tiny_run_without_data, tmp_path / "b", dataset=str(tiny_dataset))
    assert manifest.parity.source == f"observations of {tiny_dataset}"


def test_imitation_has_no_values_and_takes_the_only_candidate(
    tiny_bc_run: Path, tmp_path: Path
) -> None:
    manifest = export_bundle(tiny_bc_run, tmp_path / "b")
    assert (manifest.agent, manifest.has_critic) == ("diffusion_bc", False)
    assert (manifest.num_candidates, manifest.selection) == (1, "first")
    policy = load_policy(tmp_path / "b")
    decision = policy.act(np.zeros(3, np.float32), np.random.default_rng(0))
    np.testing.assert_array_equal(decision.q_values, [0.0])
    np.testing.assert_array_equal(decision.action, decision.candidates[0])
    with pytest.raises(ConfigError, match="selection 'greedy' needs a critic"):
        load_policy(tmp_path / "b", selection="greedy")


def test_dataset_of_another_robot_is_refused(
    tiny_run: Path, tmp_path: Path, tiny_spec: PolicySpec
) -> None:
    zeros = np.zeros((2, 3), np.float32), np.zeros((1, 2), np.float32), np.zeros(1)
    other = replace(tiny_spec, rate_hz=10.0)
    write_dataset(tmp_path / "data", [Episode(*zeros, terminated=True, truncated=False)], other)
    with pytest.raises(SpecMismatchError, match=r"and dataset .* rate_hz is 20.0 .* 10"):
        export_bundle(tiny_run, tmp_path / "b", dataset=str(tmp_path / "data"))
    assert not (tmp_path / "b").exists()


def test_graph_that_is_not_the_policy_is_refused_and_nothing_is_written(
    tiny_run: Path, tmp_path: Path, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = (tiny_bundle / "policy.onnx").read_bytes()

    def export_other_weights(graph: PolicyGraph) -> bytes:
        next(graph.parameters()).data.add_(0.1)
        return model

    monkeypatch.setattr(bundle_module, "to_onnx", export_other_weights)
    with pytest.raises(BundleError, match=r"run: the .* differ from the policy's by"):
        export_bundle(tiny_run, tmp_path / "b")
    assert list(tmp_path.iterdir()) == []


def test_existing_folder_is_never_overwritten(tiny_run: Path, tiny_bundle: Path) -> None:
    with pytest.raises(BundleError, match="bundle: already exists; name another --out folder"):
        export_bundle(tiny_run, tiny_bundle)


def test_folder_without_checkpoint_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="holds no checkpoint"):
        export_bundle(tmp_path, tmp_path / "b")


def test_impossible_choice_is_refused_before_any_work(tiny_run: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="num_candidates is 0"):
        export_bundle(tiny_run, tmp_path / "b", num_candidates=0)


@pytest.fixture
def copy(tiny_bundle: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_bundle, tmp_path / "copy"))


@pytest.mark.parametrize("name", ["policy.onnx", "weights.safetensors"])
@pytest.mark.parametrize("position", [0.0, 0.5, 1.0])
def test_flipped_bit_is_found_and_its_file_named(copy: Path, name: str, position: float) -> None:
    flip_bit(copy / name, position)
    with pytest.raises(BundleError, match=rf"copy/{name}: its SHA-256 is not the one in manifest"):
        load_policy(copy)


def test_flipped_bit_anywhere_in_the_manifest_is_found_or_changes_nothing(copy: Path) -> None:
    path = copy / MANIFEST_FILE
    sound = load_policy(copy).manifest.sha256
    text = path.read_bytes()
    for position in np.linspace(0.0, 1.0, 200):
        flip_bit(path, position)
        assert what_loads(copy) in {sound, "refused"}
        path.write_bytes(text)


def what_loads(folder: Path) -> str:
    """Return the hash of the manifest, or that it is refused by name."""
    try:
        return load_policy(folder).manifest.sha256
    except BundleError as error:
        return "refused" if "manifest.json: " in str(error) else str(error)


def flip_bit(path: Path, position: float) -> None:
    content = bytearray(path.read_bytes())
    content[round(position * (len(content) - 1))] ^= 0x01
    path.write_bytes(bytes(content))


def remove_manifest(folder: Path) -> None:
    (folder / MANIFEST_FILE).unlink()


def remove_graph(folder: Path) -> None:
    (folder / "policy.onnx").unlink()


def rewrite(old: str, new: str) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        path = folder / MANIFEST_FILE
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new, 1))

    return apply


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (remove_manifest, "manifest.json: missing from the bundle; export it again"),
        (remove_graph, "policy.onnx: missing from the bundle; export it again"),
        (shutil.rmtree, "copy: no such bundle; make one with 'dql export'"),
        (rewrite('"format_version": 2', '"format_version": 9'), "format_version is 9; .* reads 2"),
        (rewrite('"high": 0.1', '"high": 0.2'), "manifest.json: .* damaged or was edited"),
        (rewrite('"step"', '"stpe"'), r"unknown key 'stpe' \(did you mean 'step'\?\)"),
        (rewrite("{", "["), "manifest.json: damaged: "),
    ],
)
def test_damaged_bundle_is_one_line_that_says_what_is_wrong(
    copy: Path, damage: Callable[[Path], None], words: str
) -> None:
    damage(copy)
    with pytest.raises(BundleError, match=words) as raised:
        load_policy(copy)
    assert "\n" not in str(raised.value)


def test_a_run_where_a_bundle_is_wanted_is_told_how_to_name_one(copy: Path) -> None:
    run = copy.parent / "run"
    run.mkdir()
    (run / "run.json").write_text("{}")
    with pytest.raises(BundleError, match=r"run: is a run .* 'dql export .*run --out DIR'"):
        load_policy(run)
    checkpoint = run / "checkpoints" / "step-00000010"
    checkpoint.mkdir(parents=True)
    (checkpoint / "checkpoint.json").write_text("{}")
    with pytest.raises(BundleError, match=r"0010: is a checkpoint, .*export .*0010 --out DIR'"):
        load_policy(checkpoint)
    copy.rename(run / "bundle")
    with pytest.raises(BundleError, match=r"run: is a run .* name its bundle: .*run/bundle"):
        load_policy(run)
    load_policy(run / "bundle")


def test_manifest_reads_back_as_it_was_written(tiny_bundle: Path) -> None:
    manifest, _ = read_bundle(tiny_bundle)
    assert Manifest.model_validate(manifest.model_dump()) == manifest
    assert manifest.to_text() == (tiny_bundle / MANIFEST_FILE).read_text()
