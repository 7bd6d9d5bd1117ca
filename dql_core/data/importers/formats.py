"""The files of other libraries that are read, by the name that the command line has for them."""

from __future__ import annotations

from typing import Literal

FileFormat = Literal["d3rlpy", "d4rl", "lerobot", "minari", "npz", "robomimic", "zarr"]
