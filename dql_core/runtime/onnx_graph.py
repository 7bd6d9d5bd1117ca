"""The graph of a bundle, run by ONNX Runtime; needs no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from dql_core.errors import BundleError, ConfigError
from dql_core.runtime.manifest import GRAPH_FILE, Manifest
from dql_core.runtime.noise import Noise
from dql_core.runtime.policy import Decision

Array = NDArray[np.float32]

INPUTS = ("observation", "noise", "selection_noise")
OUTPUTS = ("action", "q_values", "candidates")
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
            BundleError: If the bundle has no ONNX graph.
            ConfigError: If this ONNX Runtime cannot use the device.
        """
        if GRAPH_FILE not in contents:
            raise BundleError(f"the manifest lists no {GRAPH_FILE}; export the bundle again")
        return OnnxGraph(contents[GRAPH_FILE], self.device)


class OnnxGraph:
    """An exported graph; a pure function, for one caller at a time."""

    def __init__(self, model: bytes, device: str = "cpu") -> None:
        """Prepare inference.

        Args:
            model: Content of the ONNX file.
            device: ``cpu``, ``cuda`` or ``cuda:i``.

        Raises:
            ConfigError: If this ONNX Runtime cannot use the device.
        """
        self._session = onnxruntime.InferenceSession(
            model, _session_options(), providers=_providers(device)
        )
        self._bound: _BoundArrays | None = None

    def __call__(self, observation: Array, noise: Noise) -> Decision:
        """Choose an action for a raw observation, shape (O,)."""
        if self._bound is None or self._bound.noise_shape != noise.steps.shape:
            self._bound = _BoundArrays(self._session, observation.shape, noise.steps.shape)
        for array, values in zip(self._bound.inputs, (observation, *noise), strict=True):
            array[...] = values
        self._session.run_with_iobinding(self._bound.binding)
        return Decision(*(array.copy() for array in self._bound.outputs))


class _BoundArrays:
    """Arrays in which a session finds its inputs and leaves its outputs.

    Handing arrays over in each call would cost a tenth of the time of a single candidate.
    """

    def __init__(
        self,
        session: onnxruntime.InferenceSession,
        observation_shape: tuple[int, ...],
        noise_shape: tuple[int, ...],
    ) -> None:
        _, count, width = noise_shape
        self.noise_shape = noise_shape
        self.binding = session.io_binding()
        self.inputs = _arrays(observation_shape, noise_shape, (count,))
        self.outputs = _arrays((width,), (count,), (count, width))
        for bind, names, arrays in (
            (self.binding.bind_input, INPUTS, self.inputs),
            (self.binding.bind_output, OUTPUTS, self.outputs),
        ):
            for name, array in zip(names, arrays, strict=True):
                bind(name, "cpu", 0, np.float32, array.shape, array.ctypes.data)


def _arrays(*shapes: tuple[int, ...]) -> tuple[Array, ...]:
    return tuple(np.empty(shape, np.float32) for shape in shapes)


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
    options.log_severity_level = 3
    return options
