"""Arrays out of HDF5 and .npz files; nothing is ever unpickled."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from dql_core.errors import DatasetError, did_you_mean

PICKLE_SUFFIXES = {".pkl", ".pickle", ".pck", ".joblib"}
PICKLE_OPCODES = tuple(bytes([0x80, protocol]) for protocol in range(6))
NUMERIC_KINDS = "biuf"

Arrays = dict[str, NDArray[Any]]


def read_hdf5(path: Path, needed: Sequence[str], optional: Sequence[str] = ()) -> Arrays:
    """Read the named arrays of an HDF5 file.

    Returns:
        Name to array, without the optional ones that are not there.

    Raises:
        DatasetError: If the file or a needed array is missing, or is no array of numbers.
    """
    _refuse_pickle(path)
    try:
        with h5py.File(path, "r") as file:
            _require_names(path, needed, list(file))
            found = {name: file[name][()] for name in (*needed, *optional) if name in file}
    except (OSError, AttributeError, TypeError) as cause:
        raise DatasetError(f"{path}: not a readable HDF5 file: {_line(cause)}") from cause
    for name, array in found.items():
        if np.asarray(array).dtype.kind not in NUMERIC_KINDS:
            raise DatasetError(f"{path}: '{name}' is no array of numbers")
    return found


def hdf5_names(path: Path) -> set[str]:
    """Return the names at the top of an HDF5 file.

    Raises:
        DatasetError: If it is none.
    """
    _refuse_pickle(path)
    try:
        with h5py.File(path, "r") as file:
            return set(file)
    except OSError as cause:
        raise DatasetError(f"{path}: not a readable HDF5 file: {_line(cause)}") from cause


def read_npz(path: Path, needed: Sequence[str], optional: Sequence[str] = ()) -> Arrays:
    """Read the named arrays of an .npz file; others, which may be pickles, are not touched.

    Returns:
        Name to array, without the optional ones that are not there.

    Raises:
        DatasetError: If the file or a needed array is missing, or an array holds objects.
    """
    _refuse_pickle(path)
    try:
        with zipfile.ZipFile(path) as archive:
            names = [name.removesuffix(".npy") for name in archive.namelist()]
            _require_names(path, needed, names)
            return {
                name: _read_member(path, archive, name)
                for name in (*needed, *optional)
                if name in names
            }
    except (OSError, zipfile.BadZipFile) as cause:
        raise DatasetError(f"{path}: not a readable .npz file: {_line(cause)}") from cause


def _read_member(path: Path, archive: zipfile.ZipFile, name: str) -> NDArray[Any]:
    try:
        with archive.open(f"{name}.npy") as member:
            array: NDArray[Any] = np.lib.format.read_array(member, allow_pickle=False)
    except ValueError as cause:
        raise DatasetError(
            f"{path}: '{name}' cannot be read as numbers ({_line(cause)}); an array of Python "
            f"objects is a pickle, and opening one runs whatever code is in it: save it as "
            f"numbers where you trust it"
        ) from cause
    return array


def _refuse_pickle(path: Path) -> None:
    if not path.is_file():
        raise DatasetError(f"{path}: no such file")
    with path.open("rb") as file:
        start = file.read(2)
    if path.suffix in PICKLE_SUFFIXES or start in PICKLE_OPCODES:
        raise DatasetError(
            f"{path}: is a pickle, and opening one runs whatever code is in it; save its arrays "
            f"as .npz or HDF5 where you trust it, and import that"
        )


def _require_names(path: Path, needed: Sequence[str], names: Sequence[str]) -> None:
    for name in needed:
        if name not in names:
            raise DatasetError(
                f"{path}: holds no '{name}'{did_you_mean(name, names)}; is --format right?"
            )


def _line(cause: Exception) -> str:
    return " ".join(str(cause).split())
