"""Arrays out of other libraries' files, checked before they are used; nothing is unpickled."""

from __future__ import annotations

import logging
import lzma
import math
import os
import tokenize
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from gymnasium.spaces import Box, Discrete, MultiDiscrete, Space
from numpy.lib import format as npy
from numpy.typing import NDArray

from dql_core.data.dataset import Episode
from dql_core.data.hdf5_arrays import NUMBERS, UNREADABLE, MemoryBudget, open_hdf5
from dql_core.data.metadata import MAX_FIELDS
from dql_core.data.precision import Precision
from dql_core.data.spaces import spec_from_spaces
from dql_core.errors import DatasetError, counted, did_you_mean, one_line
from dql_core.spec import FieldSpec, PolicySpec

PICKLE_SUFFIXES = {".pkl", ".pickle", ".pck", ".joblib"}
PICKLE_OPCODES = tuple(bytes([0x80, protocol]) for protocol in range(6))
# What zipfile and NumPy raise for damaged and foreign members beside `UNREADABLE`.
DAMAGED_ZIP = (EOFError, zipfile.BadZipFile, zlib.error, lzma.LZMAError)
_NPZ_ERRORS = (*DAMAGED_ZIP, SyntaxError, tokenize.TokenError)
# How a file begins that stands for one which Git LFS did not bring.
_LFS = b"version https://git-lfs"
Arrays = dict[str, NDArray[Any]]
_logger = logging.getLogger(__name__)


def read_hdf5(path: Path, needed: Sequence[str], optional: Sequence[str] = ()) -> Arrays:
    """Return the named arrays of an HDF5 file, without optional ones that are not there.

    Raises:
        DatasetError: If the file or a needed array is missing, is not an array of numbers, lies
            elsewhere, or is larger than the file explains.
    """
    budget = budget_of(path)
    with open_hdf5(path, budget) as file:
        _require_names(path, needed, file.names)
        found = [*needed, *(name for name in optional if file.has(name))]
        return {name: file.array(name) for name in found}


def npz_names(path: Path) -> set[str]:
    """Return the names of the arrays of an .npz file.

    Raises:
        DatasetError: If it is none.
    """
    budget_of(path)
    try:
        with zipfile.ZipFile(path) as archive:
            return {name.removesuffix(".npy") for name in archive.namelist()}
    except (*UNREADABLE, *_NPZ_ERRORS) as cause:
        raise DatasetError(f"{path}: not a readable .npz file: {one_line(cause):.300}") from cause


def hdf5_names(path: Path) -> set[str]:
    """Return the names at the top of an HDF5 file.

    Raises:
        DatasetError: If it is none.
    """
    with open_hdf5(path, budget_of(path)) as file:
        return set(file.names)


def read_npz(path: Path, needed: Sequence[str], optional: Sequence[str] = ()) -> Arrays:
    """Read the named arrays of an .npz file; others, which may be pickles, are not touched.

    Returns:
        Name to array, without the optional ones that are not there.

    Raises:
        DatasetError: If the file or a needed array is missing, holds anything but numbers, or is
            larger than the file explains.
    """
    budget = budget_of(path)
    try:
        with zipfile.ZipFile(path) as archive:
            names = [name.removesuffix(".npy") for name in archive.namelist()]
            _require_names(path, needed, names)
            return {
                name: _read_member(path, archive, name, budget)
                for name in (*needed, *optional)
                if name in names
            }
    except (*UNREADABLE, *_NPZ_ERRORS) as cause:
        raise DatasetError(f"{path}: not a readable .npz file: {one_line(cause):.300}") from cause


def _read_member(
    path: Path, archive: zipfile.ZipFile, name: str, budget: MemoryBudget
) -> NDArray[Any]:
    entry = archive.getinfo(f"{name}.npy")
    with archive.open(entry) as member:
        shape, dtype = _header(member)
        if dtype.hasobject:
            raise DatasetError(
                f"{path}: '{name}' cannot be read as numbers ({dtype}); an array of Python "
                f"objects is a pickle, and opening one runs whatever code is in it: save it as "
                f"numbers where you trust it"
            )
        if dtype.kind not in NUMBERS:
            raise DatasetError(f"{path}: '{name}' is not an array of numbers, but of {dtype}")
        size = math.prod(shape) * dtype.itemsize
        if min(shape, default=0) < 0 or member.tell() + size != entry.file_size:
            raise DatasetError(
                f"{path}: '{name}' has {entry.file_size:,} bytes, and its shape {shape} needs "
                f"others; the file is damaged"
            )
        budget.spend(size, f"'{name}'")
    with archive.open(entry) as member:
        array: NDArray[Any] = npy.read_array(member, allow_pickle=False)
    return array


def _header(member: IO[bytes]) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Return shape and type of an array in NumPy's own format; they are a Python literal."""
    version = npy.read_magic(member)
    readers = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
    if version not in readers:
        raise ValueError(f"an array is of version {version} of NumPy's format")
    shape, _, dtype = readers[version](member)
    return shape, dtype


def require_there(path: Path) -> None:
    """Refuse a file that is empty, or stands for one that Git LFS did not bring.

    Raises:
        DatasetError: Naming what to do.
    """
    with path.open("rb") as file:
        start = file.read(len(_LFS))
    if start == _LFS:
        raise DatasetError(
            f"{path}: is a pointer of Git LFS, not the file itself; run 'git lfs pull' in the "
            f"dataset's folder, or download it with the Hub's own client"
        )
    if not start.strip():
        raise DatasetError(f"{path}: is empty; download the dataset again")


def budget_of(path: Path) -> MemoryBudget:
    """Return what the file explains; refuse a pickle."""
    if not os.path.isfile(path):
        raise DatasetError(f"{path}: no such file")
    require_there(path)
    with path.open("rb") as file:
        start = file.read(2)
    if path.suffix in PICKLE_SUFFIXES or start in PICKLE_OPCODES:
        raise DatasetError(
            f"{path}: is a pickle, and opening one runs whatever code is in it; save its arrays "
            f"as .npz or HDF5 where you trust it, and import that"
        )
    budget = MemoryBudget()
    budget.add_file(path)
    return budget


def _require_names(path: Path, needed: Sequence[str], names: Sequence[str]) -> None:
    for name in needed:
        if name not in names:
            raise DatasetError(
                f"{path}: holds no '{name}'{did_you_mean(name, names)}; is --format right?"
            )


@dataclass(frozen=True)
class FileContent:
    """The episodes of a file.

    Attributes:
        episodes: In their order in the file.
        observation_shape: Of one observation; the episodes hold it flat.
        action_shape: Of one action; the episodes hold it flat.
        notes: What was left out or changed, one line each.
        spec: What the file says of its fields, but for the actions' bounds; ``None`` if nothing.
        has_rewards: False where the file has none, so that all are 0.
        files: What was read of a folder; empty if it is a file.
    """

    episodes: tuple[Episode, ...]
    observation_shape: tuple[int, ...]
    action_shape: tuple[int, ...]
    notes: tuple[str, ...] = ()
    spec: PolicySpec | None = None
    has_rewards: bool = True
    files: tuple[Path, ...] = ()


def require_continuous(
    path: Path, observations: NDArray[Any], actions: NDArray[Any], *, discrete: bool = False
) -> None:
    """Refuse images, integer observations, discrete actions, and arrays without rows.

    Args:
        path: For the message.
        observations: One row for each observation.
        actions: One row for each action.
        discrete: Whether the file calls its actions discrete.

    Raises:
        DatasetError: Naming the space.
    """
    for name, array in (("observations", observations), ("actions", actions)):
        if array.ndim == 0 or len(array) == 0:
            raise DatasetError(f"{path}: holds no {name}")
        if not 0 < (width := math.prod(array.shape[1:])) <= MAX_FIELDS:
            raise DatasetError(
                f"{path}: each of the {name} has {width} numbers, not 1 to {MAX_FIELDS}"
            )
    spec_from_spaces(
        _observation_space(observations), _action_space(actions, discrete), "", str(path)
    )


def require_rows(path: Path, count: int, **arrays: NDArray[Any]) -> None:
    """Refuse arrays that do not have one row for each of ``count`` steps.

    Raises:
        DatasetError: Naming the array.
    """
    for name, array in arrays.items():
        rows = len(array) if array.ndim else 0
        if rows != count:
            raise DatasetError(
                f"{path}: '{name}' has {rows} rows where {count} are needed; the file is "
                f"damaged or of another format"
            )


def single_numbers(path: Path, count: int, **arrays: NDArray[Any]) -> Arrays:
    """Return arrays of one number for each of ``count`` steps, shape (count,).

    Args:
        path: For the message.
        count: Number of steps.
        arrays: Of shape (count,), (count, 1) and so on.

    Raises:
        DatasetError: Naming the array that has more or fewer numbers for a step, as a reward of
            several parts: which number belongs to which step would be a guess.
    """
    require_rows(path, count, **{name: np.atleast_1d(array) for name, array in arrays.items()})
    for name, array in arrays.items():
        if array.size != count:
            raise DatasetError(
                f"{path}: '{name}' has {array.size // count} numbers in each row, and one is "
                f"needed; the file is damaged or of another format"
            )
    return {name: array.reshape(-1) for name, array in arrays.items()}


def flags(path: Path, name: str, array: NDArray[Any]) -> NDArray[np.bool_]:
    """Return an array of zeros and ones as flags.

    Raises:
        DatasetError: If it holds anything else, such as NaN, which NumPy takes for true.
    """
    wrong = array[(array != 0) & (array != 1)]
    if len(wrong):
        raise DatasetError(
            f"{path}: '{name}' has a {wrong[0]} where only 0 and 1 are flags; the file is "
            f"damaged or of another format"
        )
    return array.astype(bool)


def numbered(name: str, shape: Sequence[int]) -> list[FieldSpec]:
    """Name the numbers of an array of a shape by their places, as `spec_from_spaces` does."""
    return [
        FieldSpec(f"{name}[{','.join(map(str, place))}]" if place else name)
        for place in np.ndindex(*shape)
    ]


def spec_of_parts(
    robot: str, observation: Sequence[tuple[str, NDArray[Any]]], actions: NDArray[Any]
) -> PolicySpec:
    """Describe rows whose observations are made of several arrays.

    Args:
        robot: Name of the spec.
        observation: Name and rows of each array, in their order.
        actions: The rows of actions, whose bounds stay open.
    """
    fields = [
        field
        for name, array in observation
        for field in numbered(f"observation.{name}", array.shape[1:])
    ]
    return PolicySpec(robot, 0.0, tuple(fields), tuple(numbered("action", actions.shape[1:])))


def flat_rows(path: Path, name: str, array: NDArray[Any]) -> NDArray[np.float32]:
    """Flatten all axes but the first; float32.

    Raises:
        DatasetError: If a number is beyond what float32 can hold, and would become infinite.
    """
    rows = array.reshape(len(array), -1)
    with np.errstate(over="ignore"):
        rounded = rows.astype(np.float32, copy=False)
    beyond = rows[np.isinf(rounded) & np.isfinite(rows)] if rounded is not rows else rows[:0]
    if beyond.size:
        raise DatasetError(
            f"{path}: '{name}' has a {beyond.flat[0]:g}, beyond what float32 can hold, which "
            f"datasets and networks are of; scale it, or leave it out"
        )
    is_exact = np.can_cast(rows.dtype, np.float32)
    if not is_exact and len(rows) and np.isfinite(rounded).all():
        _warn_of_blur(f"{path}: '{name}'", rows.astype(np.float64, copy=False), rounded)
    return rounded


def _warn_of_blur(where: str, rows: NDArray[np.float64], rounded: NDArray[np.float32]) -> None:
    precision = Precision(rows.shape[1])
    precision.add(rows, rounded)
    found = [(index, row) for index, row in enumerate(precision.rows()) if row.blur]
    if found:
        index, row = found[0]
        _logger.warning(
            "%s, number %d: %s; count it from a value nearby in the file, as by subtracting "
            "%.10g%s",
            where,
            index,
            row.blur,
            row.low,
            f"; likewise {counted(len(found) - 1, 'more number')}" if found[1:] else "",
        )


def following_rows(
    path: Path, name: str, array: NDArray[Any], observations: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Return what followed each action, flat as the observations are, shape (N, O).

    Raises:
        DatasetError: If it is of another shape, or `flat_rows` refuses it.
    """
    rows = flat_rows(path, name, array) if array.ndim and len(array) else np.zeros((0, 0), "f4")
    if rows.shape != observations.shape:
        raise DatasetError(
            f"{path}: '{name}' has the shape {array.shape}, and as flat rows the observations "
            f"have {observations.shape}; the file is damaged or of another format"
        )
    return rows


def _observation_space(observations: NDArray[Any]) -> Space[Any]:
    shape, dtype = observations.shape[1:], observations.dtype
    if np.issubdtype(dtype, np.integer):
        limits = np.iinfo(dtype)
        return Box(limits.min, limits.max, shape, dtype.type)
    return Box(-np.inf, np.inf, shape)


def _action_space(actions: NDArray[Any], discrete: bool) -> Space[Any]:
    if not discrete and np.issubdtype(actions.dtype, np.floating):
        return Box(-1.0, 1.0, actions.shape[1:])  # stands for any bounds
    largest = actions.reshape(len(actions), -1).max(axis=0)
    counts = np.clip(largest.astype(np.float64) + 1, 1, np.iinfo(np.int32).max).astype(np.int64)
    return Discrete(int(counts[0])) if len(counts) == 1 else MultiDiscrete(counts)
