"""Changes to HDF5 files by somebody who wants to read other files or fill the memory."""

from collections.abc import Callable
from typing import Any

import h5py

Edit = Callable[[h5py.File], Any]
SECRET = [("secret", 0, h5py.h5f.UNLIMITED)]


def replaced(name: str, **how: Any) -> Edit:
    def edit(file: h5py.File) -> None:
        del file[name]
        file.create_dataset(name, **how)

    return edit


def put(name: str, what: Any) -> Edit:
    def edit(file: h5py.File) -> None:
        del file[name]
        file[name] = what

    return edit
