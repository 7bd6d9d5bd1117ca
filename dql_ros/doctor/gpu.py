"""Is there a GPU, and can torch use it?"""

from __future__ import annotations

from pathlib import Path

from dql_ros.doctor.finding import Finding, fine, warning
from dql_ros.doctor.own_process import BrokenProcessError, ask_python

_CODE = """
import json, torch
found = torch.cuda.is_available()
name = torch.cuda.get_device_name(0) if found else ""
print(json.dumps({"name": name, "cuda": torch.version.cuda or ""}))
"""
_NOT_NEEDED = "the CPU will do for policies of the usual size"


def check_gpu(device: Path = Path("/dev/nvidia0")) -> Finding:
    """Ask torch, in a process of its own, and compare with what the kernel shows."""
    check, present = "gpu", device.exists()
    try:
        seen = ask_python(["-c", _CODE])
    except BrokenProcessError as error:
        if not present:
            return fine(check, f"none; {_NOT_NEEDED}")
        return warning(
            check, f"there is one, but torch does not load ({error})", "pip install torch"
        )
    if seen["name"]:
        return fine(check, f"{seen['name']} (CUDA {seen['cuda']})")
    if not present:
        return fine(check, f"none; {_NOT_NEEDED}")
    if not seen["cuda"]:
        return warning(
            check,
            "there is one, but this torch is built for the CPU only",
            "pip install torch from the CUDA index that pytorch.org names",
        )
    return warning(
        check,
        f"there is one, but torch (CUDA {seen['cuda']}) cannot use it",
        "see whether nvidia-smi works, and update the driver",
    )
