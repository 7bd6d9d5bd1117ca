"""Diffusion-QL on logged robot data: data sets, training, export and runtime, without ROS.

Shapes are written with one letter an axis, the same everywhere:

    A  action fields            B  batch                    E  critics (2)
    K  candidates               L  losses                   M  transitions of a dataset
    N  diffusion steps          O  observation fields       R  observation rows of a dataset
    S  next actions sampled     T  transitions of an        V  environments side by side
       for a target                episode                  Z  noise draws of a reverse chain

Importing it switches the telemetry of libraries off, in this process and in those that it starts:
see `docs/explanation/security.md`. A library that is not installed is named with the extra that
brings it: see `dql_core.extras`.
"""

import os
import sys
import warnings

from dql_core.extras import name_missing

__version__ = "0.1.0"

# What each library reads when it is loaded, and only then.
_SILENCE = {
    "onnxruntime": ("ORT_DISABLE_TELEMETRY", "1"),
    "ray": ("RAY_USAGE_STATS_ENABLED", "0"),
}
# Spellings of 1 that ONNX Runtime knows too, for who has set the variable before importing it.
_TRUE = ("1", "true", "yes", "on")


def _keep_libraries_silent() -> None:
    """Switch telemetry off; warn if ONNX Runtime was loaded too early to read the switch."""
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
name_missing()
