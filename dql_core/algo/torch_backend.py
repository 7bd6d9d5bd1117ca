"""The graph of a bundle in torch, rebuilt from its weights: on CUDA one replayed CUDA graph."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import safetensors.torch
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from torch import Tensor

from dql_core.algo.execution import CapturedUpdate
from dql_core.algo.policy_graph import PolicyGraph, policy_graph
from dql_core.algo.registry import make_agent
from dql_core.config import CriticConfig, TrainConfig
from dql_core.errors import BundleError, ConfigError, one_line
from dql_core.runtime.manifest import MANIFEST_FILE, WEIGHTS_FILE, Manifest
from dql_core.runtime.policy import Committed, Decision, Noise
from dql_core.strict_yaml import parse


@dataclass(frozen=True)
class TorchBackend:
    """Makes graphs that torch runs.

    Attributes:
        device: ``cpu``, ``cuda`` or ``cuda:i``.
    """

    device: str = "cpu"

    def __call__(self, manifest: Manifest, contents: Mapping[str, bytes]) -> TorchGraph:
        """Make the graph of a bundle.

        Raises:
            BundleError: If the weights are not those of the policy that the manifest describes.
            ConfigError: If torch cannot use the device.
        """
        device = torch.device(self.device)
        if device.type == "cuda" and not torch.cuda.is_available():
            raise ConfigError(
                f"device is '{self.device}', but torch finds no CUDA device: use device 'cpu'"
            )
        return TorchGraph(rebuild(manifest, contents), device)


def rebuild(manifest: Manifest, contents: Mapping[str, bytes]) -> PolicyGraph:
    """Rebuild the policy of a bundle from its weights and its training configuration.

    Raises:
        BundleError: If the two do not belong together.
    """
    if WEIGHTS_FILE not in contents:
        raise BundleError(f"the manifest lists no {WEIGHTS_FILE}; export the bundle again")
    config = parse(manifest.config, TrainConfig, MANIFEST_FILE, BundleError)
    weights = contents[WEIGHTS_FILE]
    if config.policy.horizon != manifest.horizon:
        raise BundleError(
            f"{MANIFEST_FILE}: horizon is {manifest.horizon}, and policy.horizon of its config is "
            f"{config.policy.horizon}: export the bundle again"
        )
    try:
        tensors = safetensors.torch.load(weights)
        spec = manifest.policy_spec
        sizes = len(spec.observation), len(spec.action)
        config.require_room(*sizes, len(weights), with_critics=manifest.has_critic)
    except (SafetensorError, KeyError, RuntimeError, TypeError, ValueError) as cause:
        raise _foreign(cause) from cause
    # Nothing is trained, so nothing is compiled, and critics that do not rank are not needed.
    changes: dict[str, object] = {"run": config.run.model_copy(update={"execution": "eager"})}
    if not manifest.has_critic:
        changes["critic"] = CriticConfig(width=1, depth=1)
    config = config.model_copy(update=changes)
    # The initial weights are drawn, and the caller's generator is not ours to move.
    with torch.random.fork_rng(devices=[]):
        agent = make_agent(config, manifest.policy_spec, torch.Generator())
    graph = policy_graph(agent, config, manifest.observation_normalizer)
    try:
        graph.load_state_dict(tensors)
    except RuntimeError as cause:
        raise _foreign(cause) from cause
    return graph


def _foreign(cause: Exception) -> BundleError:
    return BundleError(
        f"{WEIGHTS_FILE}: not the weights of the policy in {MANIFEST_FILE}: {one_line(cause)}"
    )


@dataclass(frozen=True)
class _Inputs:
    observation: Tensor
    noise: Tensor
    selection_noise: Tensor


@dataclass(frozen=True)
class _Committed:
    actions: Tensor
    weights: Tensor


@dataclass(frozen=True)
class _Outputs:
    action: Tensor
    q_values: Tensor
    candidates: Tensor


class TorchGraph:
    """A policy's graph on a device; a pure function, for one caller at a time.

    For each number of candidates it works on the same memory in every call. On CUDA the work is
    captured once and then replayed; elsewhere it is the same work, one operation after the other.
    """

    def __init__(self, graph: PolicyGraph, device: torch.device) -> None:
        self._graph = graph.to(device)
        self._device = device
        self._selections: dict[tuple[int, ...], CapturedUpdate[_Outputs]] = {}

    def __call__(
        self,
        observation: NDArray[np.float32],
        noise: Noise,
        committed: Committed | None = None,
    ) -> Decision:
        """Choose an action for a raw observation, shape (O,)."""
        shape = noise.steps.shape
        if shape not in self._selections:
            self._selections[shape] = CapturedUpdate(
                self._select, capture=self._device.type == "cuda"
            )
        inputs: list[_Inputs | _Committed] = [_Inputs(*self._tensors(observation, *noise))]
        if (horizon := self._graph.horizon) > 1:
            free = Committed.nothing(horizon, len(self._graph.action_low))
            inputs.append(_Committed(*self._tensors(*(committed or free))))
        outputs = self._selections[shape](*inputs)
        arrays = (values.cpu().numpy() for values in vars(outputs).values())
        return Decision(*arrays) if horizon == 1 else Decision.of_chunk(*arrays)

    def _tensors(self, *arrays: NDArray[np.float32]) -> Iterator[Tensor]:
        return (torch.tensor(array, device=self._device) for array in arrays)

    @torch.no_grad()
    def _select(self, inputs: _Inputs, committed: _Committed | None = None) -> _Outputs:
        held = () if committed is None else vars(committed).values()
        return _Outputs(*self._graph(*vars(inputs).values(), *held))
