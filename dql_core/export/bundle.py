"""Make a policy bundle: a folder that holds all a robot needs, and the proof that it is right."""

from __future__ import annotations

import hashlib
import platform
from importlib import metadata
from pathlib import Path

import safetensors.torch

from dql_core.atomic import is_free, whole_directory
from dql_core.errors import BundleError, ConfigError
from dql_core.export.graph import PolicyGraph
from dql_core.export.observations import comparison_observations
from dql_core.export.onnx_model import to_onnx
from dql_core.export.parity import measure_parity, require_parity
from dql_core.export.torch_policy import default_choice, policy_graph
from dql_core.runtime.choice import Choice, Selection, resolve_choice
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
from dql_core.runtime.onnx_graph import OnnxGraph
from dql_core.strict_yaml import parse
from dql_core.training.checkpoint import Checkpoint, load_checkpoint
from dql_core.training.locate import Which

PACKAGES = ("numpy", "onnx", "onnxruntime", "torch", "dql_ros")


def export_bundle(
    checkpoint_path: Path,
    out: Path,
    *,
    num_candidates: int | None = None,
    selection: Selection | None = None,
    dataset: str | None = None,
    which: Which = "last",
) -> Manifest:
    """Export a trained policy; the bundle appears whole or not at all.

    Args:
        checkpoint_path: A run folder or checkpoint.
        out: The bundle's folder, which must not exist yet.
        num_candidates: Candidates K that the bundle samples by default; from the training
            configuration if not given.
        selection: How it chooses one by default; likewise.
        dataset: Whose observations prove the parity; by default the training dataset's, or, where
            that is out of reach, observations drawn from the normaliser's statistics.
        which: Which checkpoint of a run.

    Returns:
        The manifest that was written.

    Raises:
        BundleError: If ``out`` exists or the exported graph is not the policy.
        OutputError: If ``out`` cannot be written.
        CheckpointError: If there is no readable checkpoint.
        ConfigError: If the policy cannot choose in the wanted way.
        DatasetError: If ``dataset`` is given and cannot be read.
        SpecMismatchError: If ``dataset`` describes another robot.
    """
    _require_free(out)
    checkpoint = load_checkpoint(checkpoint_path, which=which)
    agent, config = checkpoint.agent, checkpoint.config
    choice = resolve_choice(
        default_choice(agent, config), agent.ranking_critic is not None, num_candidates, selection
    )
    graph = policy_graph(agent, config, checkpoint.normalizer)
    steps, _, width = graph.noise_shape
    try:
        require_draws(steps, choice.num_candidates, width)
    except ValueError as cause:
        raise ConfigError(f"{cause}: choose among fewer") from cause
    observations, source = comparison_observations(checkpoint, checkpoint_path, dataset)
    model = to_onnx(graph)
    parity = measure_parity(graph, OnnxGraph(model), observations, source, choice)
    require_parity(parity, str(checkpoint_path))
    contents = {GRAPH_FILE: model, WEIGHTS_FILE: safetensors.torch.save(graph.state_dict())}
    manifest = _manifest(out, checkpoint, graph, choice, parity, contents)
    _write(out, manifest, contents)
    return manifest


def _require_free(out: Path) -> None:
    if not is_free(out):
        raise BundleError(f"{out}: already exists; name another --out folder or remove it")


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


def _write(out: Path, manifest: Manifest, contents: dict[str, bytes]) -> None:
    with whole_directory(out) as folder:
        for name, content in contents.items():
            (folder / name).write_bytes(content)
        (folder / MANIFEST_FILE).write_text(manifest.to_text())
