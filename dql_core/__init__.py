"""Diffusion-QL on logged robot data: data sets, training, export and runtime, without ROS.

Importing it tells the libraries that report to their makers to be silent, in this process and in
those that it starts: see `docs/explanation/security.md`.
"""

import os
import sys
import warnings

__version__ = "0.1.0"

# What each library reads when it is loaded, once; it hears nothing of what is set later.
_SILENCE = {
    "onnxruntime": ("ORT_DISABLE_TELEMETRY", "1"),
    "ray": ("RAY_USAGE_STATS_ENABLED", "0"),
}
# Spellings of 1 that ONNX Runtime knows too, for who has set the variable before importing it.
_TRUE = ("1", "true", "yes", "on")


def _keep_libraries_silent() -> None:
    """Switch telemetry off; say so if ONNX Runtime was loaded too early to be told."""
    variable, _ = _SILENCE["onnxruntime"]
    was_silent = os.environ.get(variable, "").strip().lower() in _TRUE
    os.environ.update(_SILENCE.values())
    if "onnxruntime" in sys.modules and not was_silent:
        sys.modules["onnxruntime"].disable_telemetry_events()  # Stops only a part of it.
        warnings.warn(
            "onnxruntime was imported before dql_core and may report to its maker from this "
            f"process: import dql_core first, or export {variable}=1",
            RuntimeWarning,
            stacklevel=3,
        )


_keep_libraries_silent()
