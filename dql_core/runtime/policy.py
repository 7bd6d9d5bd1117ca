"""A policy for those who run it, and the one that runs an exported bundle on the CPU."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from dql_core.errors import BundleError, SpecMismatchError
from dql_core.normalize import Normalizer
from dql_core.runtime.choice import Selection, resolve_choice
from dql_core.runtime.manifest import GRAPH_FILE, Manifest, read_bundle
from dql_core.runtime.noise import Noise, draw_noise
from dql_core.spec import PolicySpec


@dataclass(frozen=True)
class Decision:
    """One sampled action, and what it was chosen from.

    Attributes:
        action: The chosen action in the units of the spec and within its bounds, shape (A,).
        q_values: The critic's value of each candidate, shape (K,); zeros without a critic.
        candidates: All sampled actions, shape (K, A).
    """

    action: NDArray[np.float32]
    q_values: NDArray[np.float32]
    candidates: NDArray[np.float32]


class Policy(Protocol):
    """Samples an action for an observation."""

    @property
    def spec(self) -> PolicySpec:
        """What observation and action mean."""

    def reset(self) -> None:
        """Begin a new episode."""

    def act(self, observation: NDArray[np.float32], rng: np.random.Generator) -> Decision:
        """Sample an action for a raw observation, shape (O,).

        All randomness comes from ``rng``: equal generators give equal decisions.
        """


class OnnxGraph:
    """An exported graph, run by ONNX Runtime on one CPU thread; a pure function."""

    def __init__(self, model: bytes) -> None:
        self._session = onnxruntime.InferenceSession(
            model, _session_options(), providers=["CPUExecutionProvider"]
        )

    def __call__(self, observation: NDArray[np.float32], noise: Noise) -> Decision:
        """Choose an action for a raw observation, shape (O,)."""
        inputs = {
            "observation": observation,
            "noise": noise.steps,
            "selection_noise": noise.selection,
        }
        return Decision(*self._session.run(None, inputs))


class OnnxPolicy:
    """Samples actions from a bundle; keeps no state.

    Attributes:
        manifest: What the bundle says of itself.
        choice: How many candidates it samples and how it chooses one.
    """

    def __init__(
        self,
        manifest: Manifest,
        graph: OnnxGraph,
        num_candidates: int | None = None,
        selection: Selection | None = None,
    ) -> None:
        """Prepare inference.

        Args:
            manifest: The bundle's manifest.
            graph: The bundle's graph.
            num_candidates: Overrides the manifest's K.
            selection: Overrides the manifest's way to choose.

        Raises:
            ConfigError: If the policy cannot choose in this way.
        """
        self.manifest = manifest
        self.choice = resolve_choice(
            manifest.choice, manifest.has_critic, num_candidates, selection
        )
        self._spec = manifest.policy_spec
        self._graph = graph

    @property
    def spec(self) -> PolicySpec:
        """What observation and action mean."""
        return self._spec

    @property
    def normalizer(self) -> Normalizer:
        """Statistics of the training data."""
        return self.manifest.observation_normalizer

    def reset(self) -> None:
        """Begin a new episode; nothing is carried from one to the next."""

    def act(self, observation: NDArray[np.float32], rng: np.random.Generator) -> Decision:
        """Sample an action for a raw observation, shape (O,).

        Raises:
            SpecMismatchError: If the observation does not have the spec's width.
        """
        width = (len(self._spec.observation),)
        if observation.shape != width:
            raise SpecMismatchError(
                f"the observation has shape {observation.shape}, the policy of "
                f"'{self._spec.robot}' needs {width}"
            )
        shape = (
            self.manifest.sampler.num_noises,
            self.choice.num_candidates,
            len(self._spec.action),
        )
        return self._graph(observation, draw_noise(rng, shape, self.choice.selection))


def load_policy(
    bundle: Path,
    *,
    num_candidates: int | None = None,
    selection: Selection | None = None,
    spec: PolicySpec | None = None,
) -> OnnxPolicy:
    """Load a policy bundle for inference.

    Args:
        bundle: The bundle's folder.
        num_candidates: Candidates K for each action; the bundle's own number by default.
        selection: How one is chosen; the bundle's own way by default.
        spec: What the robot's contract says; compared with the bundle's.

    Raises:
        BundleError: If a file of the bundle is missing, damaged or foreign.
        ConfigError: If the policy cannot choose in the wanted way.
        SpecMismatchError: Naming the first difference between ``spec`` and the bundle's.
    """
    manifest, contents = read_bundle(Path(bundle))
    if GRAPH_FILE not in contents:
        raise BundleError(f"{bundle}: its manifest lists no {GRAPH_FILE}; export it again")
    if spec is not None:
        spec.require_equal(manifest.policy_spec, "the contract", f"bundle {bundle}")
    return OnnxPolicy(manifest, OnnxGraph(contents[GRAPH_FILE]), num_candidates, selection)


def _session_options() -> onnxruntime.SessionOptions:
    options = onnxruntime.SessionOptions()
    # More threads would only compete with the executor for the robot computer's cores.
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = 3
    return options
