"""The policy of an exported bundle."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dql_core.errors import BundleError, ConfigError, SpecMismatchError
from dql_core.runtime.manifest import Manifest, read_bundle
from dql_core.runtime.mode import ModeSeeker
from dql_core.runtime.onnx_backend import OnnxBackend
from dql_core.runtime.policy import (
    Choice,
    Committed,
    Decision,
    Graph,
    Selection,
    WarmStartNoise,
    draw_noise,
    resolve_choice,
)
from dql_core.spec import PolicySpec

# Makes the graph from a bundle's manifest and the content of its other files by name.
Backend = Callable[[Manifest, Mapping[str, bytes]], Graph]


class BundlePolicy:
    """Samples actions from a bundle; keeps no state, unless decisions are to resemble each other.

    Attributes:
        manifest: What the bundle says of itself.
        spec: What observation and action mean.
        choice: How many candidates it samples and how it chooses one.
        horizon: Actions of a decision, H.
    """

    def __init__(
        self,
        manifest: Manifest,
        graph: Graph,
        choice: Choice,
        warm_start: float = 0.0,
        *,
        bound_observations: bool = True,
    ) -> None:
        self.manifest = manifest
        self.spec = manifest.policy_spec
        self.choice = choice
        self.horizon = manifest.horizon
        self._observation_shape = (len(self.spec.observation),)
        num_noises, width = manifest.sampler.num_noises, self.horizon * len(self.spec.action)
        self._noise_shape = num_noises, choice.num_candidates, width
        self._graph = graph
        self._warm_start = WarmStartNoise(warm_start) if warm_start else None
        self._bounds = manifest.observation_normalizer if bound_observations else None
        is_raw = manifest.temperature_scale == "raw"
        self._seek = ModeSeeker.of(choice, self.spec, manifest.temperature, raw_temperature=is_raw)

    def reset(self) -> None:
        """Begin a new episode; nothing is carried from one to the next."""
        if self._warm_start is not None:
            self._warm_start.reset()

    def act(
        self,
        observation: NDArray[np.float32],
        rng: np.random.Generator,
        committed: Committed | None = None,
    ) -> Decision:
        """Sample an action, or a chunk of them, for a raw observation, shape (O,).

        Args:
            observation: Shape (O,).
            rng: Source of all randomness.
            committed: What a chunk goes on from; a policy of one action takes no notice of it.

        Raises:
            SpecMismatchError: If the observation does not have the spec's width, or what is
                committed not the shape of a chunk.
        """
        if observation.shape != self._observation_shape:
            raise SpecMismatchError(
                f"the observation has shape {observation.shape}, the policy of "
                f"'{self.spec.robot}' needs {self._observation_shape}"
            )
        if self._bounds is not None:
            observation = self._bounds.bounded(observation)
        draw = draw_noise if self._warm_start is None else self._warm_start.draw
        noise = draw(rng, self._noise_shape, self.choice.selection)
        decision = self._graph(observation, noise, self._of_chunk(committed))
        return decision if self._seek is None else self._seek(decision)

    def _of_chunk(self, committed: Committed | None) -> Committed | None:
        if committed is None or self.horizon == 1:
            return None
        wanted = self.horizon, len(self.spec.action)
        shapes = committed.actions.shape, committed.weights.shape
        if shapes != (wanted, wanted[:1]):
            raise SpecMismatchError(
                f"what is committed has the shapes {shapes[0]} and {shapes[1]}, the policy of "
                f"'{self.spec.robot}' needs {wanted} and {wanted[:1]}"
            )
        return committed


def load_policy(
    bundle: Path,
    *,
    num_candidates: int | None = None,
    selection: Selection | None = None,
    warm_start: float = 0.0,
    bound_observations: bool = True,
    spec: PolicySpec | None = None,
    backend: Backend | None = None,
) -> BundlePolicy:
    """Load a policy bundle for inference.

    Args:
        bundle: The bundle's folder.
        num_candidates: Candidates K for each action; the bundle's own number by default.
        selection: How one is chosen; the bundle's own way by default.
        warm_start: Correlation of a decision's noise with that of the one before within an
            episode, from 0 for none to 1, see `WarmStartNoise`.
        bound_observations: Move each observation field that is beyond the training data to its
            smallest or largest value there, if the policy standardises observations. Within the
            data nothing changes.
        spec: What the robot's contract says; compared with the bundle's, whose limits may be
            wider.
        backend: What computes; ONNX Runtime on one CPU thread by default. Others by their names:
            `dql_core.algo.backends.named_backend`.

    Raises:
        BundleError: If a file of the bundle is missing, damaged or foreign.
        ConfigError: If the policy cannot choose in the wanted way, or the back end cannot run.
        SpecMismatchError: Naming what differs between ``spec`` and the bundle's.
    """
    manifest, contents = read_bundle(Path(bundle))
    if spec is not None:
        spec.require_fits(manifest.policy_spec, "the contract", f"bundle {bundle}")
    own = Choice(manifest.num_candidates, manifest.selection)
    choice = resolve_choice(own, manifest.has_critic, num_candidates, selection)
    wanted = manifest.model_copy(update={"num_candidates": choice.num_candidates})
    try:
        wanted.require_possible()
    except ValueError as cause:
        raise ConfigError(f"{bundle}: {cause}: choose among fewer") from cause
    try:
        graph = (backend or OnnxBackend())(wanted, contents)
    except BundleError as cause:
        raise BundleError(f"{bundle}: {cause}") from cause
    return BundlePolicy(manifest, graph, choice, warm_start, bound_observations=bound_observations)
