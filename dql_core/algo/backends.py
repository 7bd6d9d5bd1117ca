"""What can run a policy bundle, by name; torch is imported only if it is chosen."""

# ruff: noqa: PLC0415 - the node that runs a bundle with ONNX Runtime must not wait for torch.

from __future__ import annotations

import importlib.util
import re
from typing import Literal, get_args

from dql_core.errors import ConfigError
from dql_core.runtime.bundle_policy import Backend
from dql_core.runtime.onnx_backend import OnnxBackend

BackendName = Literal["auto", "onnx", "torch"]


def named_backend(name: BackendName = "auto", device: str = "cpu") -> Backend:
    """Return what runs bundles.

    Args:
        name: ``onnx`` is ONNX Runtime, on one CPU thread or with its CUDA provider. ``torch`` is
            torch, on CUDA as one captured graph. ``auto`` is the faster one that is installed:
            ``onnx`` on the CPU; on CUDA ``torch``, or ``onnx`` if torch has no CUDA.
        device: ``cpu``, ``cuda`` or ``cuda:i``.

    Raises:
        ConfigError: If there is no such back end or device, or torch is wanted and missing.
    """
    if name not in get_args(BackendName):
        raise ConfigError(f"backend is '{name}': it must be auto, onnx or torch")
    if not re.fullmatch(r"cpu|cuda(:\d+)?", device):
        raise ConfigError(f"device is '{device}': it must be cpu, cuda or cuda:0, cuda:1, …")
    if name == "torch" and not _has_torch():
        raise ConfigError(
            "backend is 'torch', which is not installed: use onnx, or pip install 'dql_ros[train]'"
        )
    if name == "onnx" or (name == "auto" and (device == "cpu" or not torch_has_cuda())):
        return OnnxBackend(device)
    from dql_core.algo.torch_backend import TorchBackend

    return TorchBackend(device)


def torch_has_cuda() -> bool:
    """Whether torch is installed and finds a CUDA device; imports torch, which takes seconds."""
    if not _has_torch():
        return False
    import torch

    return torch.cuda.is_available()


def _has_torch() -> bool:
    return importlib.util.find_spec("torch") is not None
