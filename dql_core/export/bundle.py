"""Makes a policy bundle: a folder that holds all a robot needs, and the proof that it is right."""

from __future__ import annotations

import hashlib
import logging
import platform
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from importlib import metadata
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
from numpy.typing import NDArray

from dql_core.algo.generative_agent import untrained_remark
from dql_core.algo.policy_graph import PolicyGraph, agent_choice, policy_graph
from dql_core.data.dataset import load_dataset
from dql_core.errors import BundleError, ConfigError, DatasetError, SpecMismatchError
from dql_core.export.onnx_model import to_onnx
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
from dql_core.runtime.policy import (
    Choice,
    Committed,
    Decision,
    Graph,
    Noise,
    Selection,
    draw_noise,
)
from dql_core.spec import PolicySpec
from dql_core.strict_yaml import parse
from dql_core.training.checkpoint import Checkpoint, load_checkpoint
from dql_core.training.run_files import (
    CheckpointName,
    exported_by_default,
    find_checkpoint,
    is_known_to_diverge,
)

PACKAGES = ("numpy", "onnx", "onnxruntime", "torch", "dql_ros")
NUM_OBSERVATIONS = 64
# Largest accepted difference: of actions as a share of their range, of Q relative to its size.
MAX_ERROR = 1e-4
_logger = logging.getLogger(__name__)


def export_bundle(
    checkpoint_path: Path,
    out: Path,
    *,
    num_candidates: int | None = None,
    selection: Selection | None = None,
    dataset: str | None = None,
    which: CheckpointName | None = None,
) -> Manifest:
    """Export a trained policy and return its manifest; the bundle appears whole or not at all.

    Args:
        checkpoint_path: As in `make_bundle`, like the rest.
        out: The bundle's folder, which must not exist yet.
        num_candidates: K.
        selection: How one is chosen.
        dataset: Whose observations prove the parity.
        which: Which checkpoint of a run.

    Raises:
        BundleError: If ``out`` exists or the exported graph is not the policy.
        OutputError: If ``out`` cannot be written.
        DqlError: As `make_bundle` does.
    """
    require_free(out, BundleError)
    manifest, contents = make_bundle(
        checkpoint_path,
        num_candidates=num_candidates,
        selection=selection,
        dataset=dataset,
        which=which,
    )
    write_folders({out: bundle_files(manifest, contents)})
    return manifest


def write_folders(files: Mapping[Path, Mapping[str, bytes]]) -> None:
    """Write folders with their files by name; none appears before all are written.

    Raises:
        BundleError: If one holds something already.
        OutputError: If one cannot be written.
    """
    with ExitStack() as stack:
        for target, contents in files.items():
            folder = stack.enter_context(atomic_directory(target, error=BundleError))
            for name, content in contents.items():
                (folder / name).write_bytes(content)


def bundle_files(manifest: Manifest, contents: Mapping[str, bytes]) -> dict[str, bytes]:
    """Return the content of all files of a bundle, by name."""
    return {**contents, MANIFEST_FILE: manifest.to_text().encode()}


def make_bundle(
    checkpoint_path: Path,
    *,
    num_candidates: int | None = None,
    selection: Selection | None = None,
    dataset: str | None = None,
    which: CheckpointName | None = None,
    execute: int | None = None,
) -> tuple[Manifest, dict[str, bytes]]:
    """Make a bundle of a trained policy: its manifest, and its other files by name.

    Args:
        checkpoint_path: A run folder or checkpoint.
        num_candidates: Candidates K that the bundle samples by default; from the training
            configuration if not given.
        selection: How it chooses one by default; likewise.
        dataset: Whose observations prove the parity; by default the training dataset's, or, where
            that is out of reach, observations drawn from the normaliser's statistics.
        which: Which checkpoint of a run; by default `exported_by_default`.
        execute: Actions of a chunk that a node plays before it decides the next one; a
            quarter of them if not given.

    Raises:
        BundleError: If the exported graph is not the policy.
        CheckpointError: If there is no readable checkpoint.
        ConfigError: If the policy cannot choose in the wanted way.
        DatasetError: If ``dataset`` is given and cannot be read.
        SpecMismatchError: If ``dataset`` describes another robot.
    """
    which = which or exported_by_default(checkpoint_path)
    checkpoint = load_checkpoint(checkpoint_path, which=which)
    agent, config = checkpoint.agent, checkpoint.config
    folder = find_checkpoint(checkpoint_path, which)
    if checkpoint.progress.alarming or is_known_to_diverge(folder, checkpoint.step):
        _logger.warning(
            "%s: the critics diverge at this checkpoint (step %d): its policy follows values that "
            "mean nothing; export the one before: --checkpoint last_healthy",
            checkpoint_path,
            checkpoint.step,
        )
    if remark := untrained_remark(config, checkpoint.step):
        _logger.warning("%s: %s", checkpoint_path, remark)
    choice = agent_choice(agent, config, num_candidates, selection)
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
    manifest = _manifest(checkpoint_path, checkpoint, graph, choice, parity, contents, execute)
    return manifest, contents


def _manifest(
    where: Path,
    checkpoint: Checkpoint,
    graph: PolicyGraph,
    choice: Choice,
    parity: Parity,
    contents: dict[str, bytes],
    execute: int | None,
) -> Manifest:
    config = checkpoint.config
    sampler = SamplerSettings(
        num_noises=graph.sampler.num_noises,
        kind=config.policy.kind,
        **config.diffusion.model_dump(exclude={"loss"}),
    )
    document = {
        "format_version": FORMAT_VERSION,
        "agent": config.agent,
        "step": checkpoint.step,
        "config_hash": config.hash(),
        "config": config.to_json(),
        "spec": checkpoint.spec.to_json(),
        "normalizer": checkpoint.normalizer.to_json(),
        "statistics": checkpoint.statistics and checkpoint.statistics.to_json(),
        "sampler": sampler,
        "has_critic": graph.critic is not None,
        "num_candidates": choice.num_candidates,
        "selection": choice.selection,
        "temperature": graph.temperature,
        "temperature_scale": config.selection.temperature_scale,
        "parity": parity,
        "horizon": graph.horizon,
        "execute": execute,
        "versions": {name: metadata.version(name) for name in PACKAGES}
        | {"python": platform.python_version()},
        "files": {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()},
    }
    manifest = parse(document, Manifest, str(where), ConfigError)
    try:
        manifest.require_possible()
    except ValueError as cause:
        raise ConfigError(f"{where}: {cause}") from cause
    return manifest


def measure_parity(
    graph: PolicyGraph,
    exported: Graph,
    observations: NDArray[np.float32],
    source: str,
    choice: Choice,
) -> Parity:
    """Compare both sides on equal observations and equal noise.

    Candidates and Q values are continuous in all that is computed, so they are compared number by
    number. The choice among them is not: where the scores of two candidates differ by less than
    rounding, either may win. So the exported action is compared with the nearest of those
    candidates which rounding *as measured on this very observation* can have made the winner,
    usually a single one. A graph that chooses by a wrong rule therefore still fails, and how
    often rounding decided is counted in ``ties``. Half of the chunks go on from drawn actions.

    Args:
        graph: The original.
        exported: What ONNX Runtime makes of the export.
        observations: Raw observations, shape (n, O).
        source: Where they came from.
        choice: How many candidates there are and how one is chosen.
    """
    rng = np.random.default_rng(0)
    shape = graph.noise_shape(choice.num_candidates)
    differences = []
    for observation in observations:
        noise = draw_noise(rng, shape, choice.selection)
        committed = _draw_committed(rng, graph)
        made = exported(observation, noise, committed)
        original = graph.decide(observation, noise, committed)
        differences.append(_compare(graph, original, made, noise))
    actions, candidates, q_values, ties = zip(*differences, strict=True)
    return Parity(
        observations=len(observations),
        source=source,
        action_error=max(actions),
        candidate_error=max(candidates),
        q_error=max(q_values),
        ties=sum(ties),
    )


def require_parity(parity: Parity, where: str) -> None:
    """Refuse a graph that is not the policy.

    Raises:
        BundleError: Naming the largest difference.
    """
    errors = {
        "chosen actions": parity.action_error,
        "candidate actions": parity.candidate_error,
        "Q values": parity.q_error,
    }
    what, worst = max(errors.items(), key=lambda item: item[1])
    if worst > MAX_ERROR:
        raise BundleError(
            f"{where}: the {what} of the exported graph differ from the policy's by {worst:.2g} "
            f"of their range on {parity.source}, at most {MAX_ERROR:g} is accepted: no bundle "
            f"was written; check that the training did not diverge"
        )


def _draw_committed(rng: np.random.Generator, graph: PolicyGraph) -> Committed | None:
    """Draw what a chunk goes on from: its first steps held, the others less and less, or none."""
    if graph.horizon == 1:
        return None
    low, high = graph.action_low.numpy(), graph.action_high.numpy()
    actions = rng.uniform(low, high, (graph.horizon, len(low))).astype(np.float32)
    fixed = rng.integers(graph.horizon)
    weights = np.clip(1.0 - np.arange(1 - fixed, graph.horizon + 1 - fixed) / graph.horizon, 0, 1)
    return Committed(actions, weights.astype(np.float32) * rng.integers(2).astype(np.float32))


def _compare(
    graph: PolicyGraph, original: Decision, exported: Decision, noise: Noise
) -> tuple[float, float, float, bool]:
    """Return the errors of action, candidates and Q values, and whether rounding decided."""
    if not (_is_finite(original) and _is_finite(exported)):
        return np.inf, np.inf, np.inf, False
    action_range = (graph.action_high - graph.action_low).numpy()
    scores = _scores(graph, original, noise)
    rounding = np.abs(_scores(graph, exported, noise) - scores).max()
    winners = np.flatnonzero(scores >= scores.max() - 2.0 * rounding)
    chunks = original.candidates[winners].reshape(len(winners), -1, len(action_range))
    misses = np.abs(chunks - exported.chunk) / action_range  # (W, H, A)
    nearest = int(misses.max(axis=(1, 2)).argmin())
    q_size = max(1.0, float(np.abs(original.q_values).max()))
    return (
        float(misses[nearest].max()),
        float((np.abs(exported.candidates - original.candidates) / action_range).max()),
        float(np.abs(exported.q_values - original.q_values).max()) / q_size,
        bool(winners[nearest] != scores.argmax()),
    )


def _scores(graph: PolicyGraph, decision: Decision, noise: Noise) -> NDArray[np.float32]:
    scores: NDArray[np.float32] = graph.scores(torch.tensor(decision.q_values)).numpy()
    return scores + noise.selection


def _is_finite(decision: Decision) -> bool:
    arrays = (decision.chunk, decision.q_values, decision.candidates)
    return all(bool(np.isfinite(array).all()) for array in arrays)


def _observations(
    checkpoint: Checkpoint, path: Path, dataset: str | None
) -> tuple[NDArray[np.float32], str]:
    """Return observations to prove the parity on, shape (n, O), and where they come from."""
    rng = np.random.default_rng(0)
    if dataset:
        return _recorded(dataset, checkpoint.spec, rng), f"observations of {dataset}"
    reason: Exception | None = None
    datasets = checkpoint.config.data.datasets
    for trained_on, place in ((each, place) for each in datasets for place in _places(each, path)):
        try:
            return _recorded(place, checkpoint.spec, rng), f"observations of {trained_on}"
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
    spec.require_same_meaning(loaded.spec, "the checkpoint", f"dataset {dataset}")
    rows = np.concatenate([episode.observations for episode in loaded.episodes])
    drawn: NDArray[np.float32] = rows[rng.integers(len(rows), size=NUM_OBSERVATIONS)]
    return drawn
