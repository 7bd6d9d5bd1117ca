import subprocess
import sys
from pathlib import Path

import pytest
import torch

from dql_ros.control.loaded_policy import find_device


@pytest.mark.skipif(Path("/dev/nvidia0").exists(), reason="this machine has a CUDA device")
@pytest.mark.parametrize("backend", ["auto", "onnx", "torch"])
def test_without_a_device_the_cpu_computes(backend: str) -> None:
    assert find_device(backend) == "cpu"


@pytest.mark.skipif(Path("/dev/nvidia0").exists(), reason="this machine has a CUDA device")
def test_looking_for_a_device_does_not_import_torch() -> None:
    code = (
        "import sys; from dql_ros.control.loaded_policy import find_device; find_device('auto'); "
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_device_is_used_by_torch() -> None:
    assert find_device("torch") == "cuda"
