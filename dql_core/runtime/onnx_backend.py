"""The graph of a bundle, run by ONNX Runtime; needs no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from dql_core.errors import BundleError, ConfigError, one_line
from dql_core.runtime.manifest import GRAPH_FILE, Manifest
from dql_core.runtime.onnx_check import require_policy_graph
from dql_core.runtime.policy import Committed, Decision, Noise

Array = NDArray[np.float32]
CUDA_PROVIDER = "CUDAExecutionProvider"


@dataclass(frozen=True)
class OnnxBackend:
    """Makes graphs that ONNX Runtime runs on one CPU thread or on a CUDA device.

    Attributes:
        device: ``cpu``, ``cuda`` or ``cuda:i``.
    """

    device: str = "cpu"

    def __call__(self, manifest: Manifest, contents: Mapping[str, bytes]) -> OnnxGraph:
        """Make the graph of a bundle.

        Raises:
            BundleError: If the bundle has no ONNX graph, or one that is no policy's, see
                `require_policy_graph`.
            ConfigError: If this ONNX Runtime cannot use the device.
        """
        if GRAPH_FILE not in contents:
            raise BundleError(f"the manifest lists no {GRAPH_FILE}; export the bundle again")
        require_policy_graph(contents[GRAPH_FILE], manifest)
        return OnnxGraph(contents[GRAPH_FILE], self.device)


class OnnxGraph:
    """An exported graph; a pure function, for one caller at a time.

    Args:
        model: Content of the ONNX file.
        device: ``cpu``, ``cuda`` or ``cuda:i``.

    Raises:
        BundleError: If ONNX Runtime cannot load it.
        ConfigError: If this ONNX Runtime cannot use the device.
    """

    def __init__(self, model: bytes, device: str = "cpu") -> None:
        providers = _providers(device)
        try:
            self._session = onnxruntime.InferenceSession(
                model, _session_options(), providers=providers
            )
        except Exception as cause:  # its errors have no base of their own
            raise BundleError(
                f"{GRAPH_FILE}: ONNX Runtime cannot load it: {one_line(cause)}"
            ) from cause
        # Of a chunk (H, A); None where the graph chooses one action.
        inputs = {each.name: tuple(each.shape) for each in self._session.get_inputs()}
        self._chunk: tuple[int, int] | None = inputs.get("committed")
        self._bound: _BoundArrays | None = None

    def __call__(
        self, observation: Array, noise: Noise, committed: Committed | None = None
    ) -> Decision:
        """Choose an action, or a chunk of them, for a raw observation, shape (O,)."""
        if self._bound is None or self._bound.noise.shape != noise.steps.shape:
            shapes = observation.shape, noise.steps.shape, self._chunk
            self._bound = _BoundArrays(self._session, *shapes)
        bound = self._bound
        bound.observation[...] = observation
        bound.noise[...] = noise.steps
        bound.selection_noise[...] = noise.selection
        if self._chunk is not None:
            bound.committed[...], bound.weights[...] = committed or Committed.nothing(*self._chunk)
        self._session.run_with_iobinding(bound.binding)
        made = bound.action.copy(), bound.q_values.copy(), bound.candidates.copy()
        return Decision(*made) if self._chunk is None else Decision.of_chunk(*made)


class _BoundArrays:
    """Arrays in which a session finds its inputs and leaves its outputs.

    Handing arrays over in each call would take a tenth of the time of a single candidate.
    """

    def __init__(
        self,
        session: onnxruntime.InferenceSession,
        observation_shape: tuple[int, ...],
        noise_shape: tuple[int, ...],
        chunk: tuple[int, int] | None,
    ) -> None:
        _, count, width = noise_shape
        shape = chunk or (width,)
        self.binding = session.io_binding()
        self.observation = self._bound("observation", observation_shape)
        self.noise = self._bound("noise", noise_shape)
        self.selection_noise = self._bound("selection_noise", (count,))
        if chunk:
            self.committed = self._bound("committed", chunk)
            self.weights = self._bound("committed_weight", chunk[:1])
        self.action = self._bound("action", shape, output=True)
        self.q_values = self._bound("q_values", (count,), output=True)
        self.candidates = self._bound("candidates", (count, *shape), output=True)

    def _bound(self, name: str, shape: tuple[int, ...], *, output: bool = False) -> Array:
        array = np.empty(shape, np.float32)
        bind = self.binding.bind_output if output else self.binding.bind_input
        bind(name, "cpu", 0, np.float32, shape, array.ctypes.data)
        return array


def _providers(device: str) -> list[str | tuple[str, dict[str, int]]]:
    if device == "cpu":
        return ["CPUExecutionProvider"]
    available = onnxruntime.get_available_providers()
    if CUDA_PROVIDER not in available:
        raise ConfigError(
            f"device is '{device}', but this ONNX Runtime has no {CUDA_PROVIDER} (it has: "
            f"{', '.join(available)}): install onnxruntime-gpu, or use device 'cpu'"
        )
    index = int(device.partition(":")[2] or 0)
    return [(CUDA_PROVIDER, {"device_id": index}), "CPUExecutionProvider"]


def _session_options() -> onnxruntime.SessionOptions:
    options = onnxruntime.SessionOptions()
    # More threads would only compete with the executor for the robot computer's cores.
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = 4  # its errors are raised, too
    return options
