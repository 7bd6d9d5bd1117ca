"""Makes a policy bundle: a folder that holds all a robot needs, and the proof that it is right."""

from __future__ import annotations

import hashlib
import logging
import platform
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import numpy as np
import safetensors.torch
from numpy.typing import NDArray

from dql_core.algo.policy_graph import PolicyGraph, default_choice, policy_graph
from dql_core.data.dataset import load_dataset
from dql_core.errors import BundleError, ConfigError, DatasetError, SpecMismatchError
from dql_core.export.onnx_model import to_onnx
from dql_core.export.parity import measure_parity, require_parity
from dql_core.files import atomic_directory, require_free
from dql_core.runtime.manifest import (
    FORMAT_VERSION,
    GRAPH_FILE,
    MANIFEST_FILE,
    WEIGHTS_FILE,
    Manifest,
    Parity,
    SamplerSettings,
    require_draws,
)
from dql_core.runtime.onnx_backend import OnnxGraph
from dql_core.runtime.policy import Choice, Selection, resolve_choice
from dql_core.spec import PolicySpec
from dql_core.strict_yaml import parse
from dql_core.training.checkpoint import Checkpoint, load_checkpoint
from dql_core.training.run_files import CheckpointName

PACKAGES = ("numpy", "onnx", "onnxruntime", "torch", "dql_ros")
NUM_OBSERVATIONS = 64
_logger = logging.getLogger(__name__)


def export_bundle(
    checkpoint_path: Path,
    out: Path,
    *,
    num_candidates: int | None = None,
    selection: Selection | None = None,
    dataset: str | None = None,
    which: CheckpointName = "last",
) -> Manifest:
    """Export a trained policy and return its manifest; the bundle appears whole or not at all.

    Args:
        checkpoint_path: A run folder or checkpoint.
        out: The bundle's folder, which must not exist yet.
        num_candidates: Candidates K that the bundle samples by default; from the training
            configuration if not given.
        selection: How it chooses one by default; likewise.
        dataset: Whose observations prove the parity; by default the training dataset's, or, where
            that is out of reach, observations drawn from the normaliser's statistics.
        which: Which checkpoint of a run.

    Raises:
        BundleError: If ``out`` exists or the exported graph is not the policy.
        OutputError: If ``out`` cannot be written.
        CheckpointError: If there is no readable checkpoint.
        ConfigError: If the policy cannot choose in the wanted way.
        DatasetError: If ``dataset`` is given and cannot be read.
        SpecMismatchError: If ``dataset`` describes another robot.
    """
    require_free(out, BundleError)
    checkpoint = load_checkpoint(checkpoint_path, which=which)
    agent, config = checkpoint.agent, checkpoint.config
    choice = resolve_choice(
        default_choice(agent, config), agent.ranking_critic is not None, num_candidates, selection
    )
    graph = policy_graph(agent, config, checkpoint.normalizer)
    try:
        require_draws(*graph.noise_shape(choice.num_candidates))
    except ValueError as cause:
        raise ConfigError(f"{cause}: choose among fewer") from cause
    observations, source = _observations(checkpoint, checkpoint_path, dataset)
    model = to_onnx(graph)
    parity = measure_parity(graph, OnnxGraph(model), observations, source, choice)
    require_parity(parity, str(checkpoint_path))
    contents = {GRAPH_FILE: model, WEIGHTS_FILE: safetensors.torch.save(graph.state_dict())}
    manifest = _manifest(out, checkpoint, graph, choice, parity, contents)
    with atomic_directory(out) as folder:
        for name, content in contents.items():
            (folder / name).write_bytes(content)
        (folder / MANIFEST_FILE).write_text(manifest.to_text())
    return manifest


def _manifest(
    out: Path,
    checkpoint: Checkpoint,
    graph: PolicyGraph,
    choice: Choice,
    parity: Parity,
    contents: dict[str, bytes],
) -> Manifest:
    diffusion = checkpoint.config.diffusion
    document = {
        "format_version": FORMAT_VERSION,
        "agent": checkpoint.config.agent,
        "step": checkpoint.step,
        "config_hash": checkpoint.config.hash(),
        "config": checkpoint.config.model_dump(mode="json"),
        "spec": checkpoint.spec.to_json(),
        "normalizer": checkpoint.normalizer.to_json(),
        "statistics": checkpoint.statistics and checkpoint.statistics.to_json(),
        "sampler": SamplerSettings(num_noises=graph.sampler.num_noises, **diffusion.model_dump()),
        "has_critic": graph.critic is not None,
        "num_candidates": choice.num_candidates,
        "selection": choice.selection,
        "temperature": graph.temperature,
        "temperature_scale": checkpoint.config.selection.temperature_scale,
        "parity": parity,
        "versions": {name: metadata.version(name) for name in PACKAGES}
        | {"python": platform.python_version()},
        "files": {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()},
    }
    manifest = parse(document, Manifest, str(out), ConfigError)
    try:
        manifest.require_possible()
    except ValueError as cause:
        raise ConfigError(f"{out}: {cause}") from cause
    return manifest


def _observations(
    checkpoint: Checkpoint, path: Path, dataset: str | None
) -> tuple[NDArray[np.float32], str]:
    """Return observations to prove the parity on, shape (n, O), and where they come from."""
    rng = np.random.default_rng(0)
    if dataset:
        return _recorded(dataset, checkpoint.spec, rng), f"observations of {dataset}"
    trained_on = checkpoint.config.data.dataset
    reason: Exception | None = None
    for candidate in _places(trained_on, path) if trained_on else ():
        try:
            return _recorded(candidate, checkpoint.spec, rng), f"observations of {trained_on}"
        except (DatasetError, SpecMismatchError) as cause:
            reason = reason or cause
    if reason:
        _logger.warning("the parity is not measured on the training dataset: %s", reason)
    statistics = checkpoint.data_statistics
    shape = NUM_OBSERVATIONS, len(statistics.observation_mean)
    drawn = statistics.restore_observation(rng.standard_normal(shape, dtype=np.float32))
    return drawn, "draws from the training data's mean and spread"


def _places(dataset: str, checkpoint: Path) -> Iterator[str | Path]:
    """Yield where a dataset may lie that a run names.

    A relative name counts from the folder in which the run was trained: that is often the working
    directory, or one that holds the run and was moved with it.
    """
    yield dataset
    for folder in checkpoint.resolve().parents:
        if not Path(dataset).is_absolute() and (folder / dataset).is_dir():
            yield folder / dataset


def _recorded(
    dataset: str | Path, spec: PolicySpec, rng: np.random.Generator
) -> NDArray[np.float32]:
    loaded = load_dataset(dataset)
    spec.require_equal(loaded.spec, "the checkpoint", f"dataset {dataset}")
    rows = np.concatenate([episode.observations for episode in loaded.episodes])
    drawn: NDArray[np.float32] = rows[rng.integers(len(rows), size=NUM_OBSERVATIONS)]
    return drawn
