"""Where to compute if nobody says: on CUDA where that is possible, else on the CPU."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import onnxruntime

from dql_core.runtime.onnx_graph import CUDA_PROVIDER

# What NVIDIA's driver makes for its first device, on a PC and on a Jetson.
_DEVICE_FILES = (Path("/dev/nvidia0"), Path("/dev/nvgpu/igpu0"), Path("/dev/nvhost-gpu"))


def find_device(backend: str) -> str:
    """Return ``cuda`` if there is a device and what ``backend`` needs to use it, else ``cpu``.

    Torch is imported only on a machine that has such a device.

    Args:
        backend: ``auto``, ``onnx`` or ``torch``.
    """
    if not any(path.exists() for path in _DEVICE_FILES):
        return "cpu"
    if backend in {"auto", "onnx"} and CUDA_PROVIDER in onnxruntime.get_available_providers():
        return "cuda"
    return "cuda" if backend in {"auto", "torch"} and _torch_has_cuda() else "cpu"


def _torch_has_cuda() -> bool:
    if importlib.util.find_spec("torch") is None:
        return False
    import torch  # noqa: PLC0415 - a policy that runs on the CPU must not wait for it

    return bool(torch.cuda.is_available())
