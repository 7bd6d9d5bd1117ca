"""Arrays of numbers out of a zarr v2 store, a folder or a zip of one; nothing in it is run.

Source: version 2 of zarr's storage specification. Of compressors those are read that the Diffusion
Policy family uses, Blosc, zlib and none, and zstd, which zarr 3 takes by default.
"""

from __future__ import annotations

import math
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import zstandard
from numpy.typing import NDArray

from dql_core.data.hdf5_arrays import NUMBERS, UNREADABLE, MemoryBudget
from dql_core.data.importers.blosc import unpack_blosc, unpack_zlib, unpack_zstd
from dql_core.data.importers.files import DAMAGED_ZIP, require_there
from dql_core.documents import MAX_JSON_BYTES, file_within, parse_json
from dql_core.errors import DatasetError, did_you_mean, one_line

_ARRAY = ".zarray"
_UNPACKERS: dict[str, Callable[[bytes, int], bytes]] = {
    "blosc": unpack_blosc,
    "zlib": unpack_zlib,
    "zstd": unpack_zstd,
}


class _Store(Protocol):
    files: list[Path]

    def names(self) -> list[str]: ...

    def read(self, name: str, budget: MemoryBudget) -> bytes: ...


class _Folder:
    """A store in a folder."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.files: list[Path] = []

    def names(self) -> list[str]:
        return [str(each.relative_to(self._path)) for each in self._path.rglob("*")]

    def read(self, name: str, budget: MemoryBudget) -> bytes:
        path = file_within(self._path, name, DatasetError)
        budget.add_file(path)
        budget.spend(path.stat().st_size, f"'{name}'")
        self.files.append(path)
        return path.read_bytes()


class _Zip:
    """A store in a zip, at its top or in the one folder that is there."""

    def __init__(self, path: Path, archive: zipfile.ZipFile) -> None:
        self._archive = archive
        self.files = [path]
        names = archive.namelist()
        tops = {name.partition("/")[0] for name in names}
        only = f"{next(iter(tops))}/" if len(tops) == 1 else ""
        self._top = only if only.endswith(".zarr/") else ""

    def names(self) -> list[str]:
        return [name.removeprefix(self._top).rstrip("/") for name in self._archive.namelist()]

    def read(self, name: str, budget: MemoryBudget) -> bytes:
        entry = self._archive.getinfo(self._top + name)
        budget.spend(entry.file_size, f"'{name}'")
        return self._archive.read(entry)


class ZarrStore:
    """A zarr v2 store that `open_zarr` has opened.

    Attributes:
        arrays: The names of its arrays, such as ``data/state``.
    """

    def __init__(self, path: Path, store: _Store, budget: MemoryBudget) -> None:
        self._path, self._store, self._budget = path, store, budget
        self._names = set(store.names())
        self.arrays = sorted(
            name.removesuffix(f"/{_ARRAY}") for name in self._names if name.endswith(f"/{_ARRAY}")
        )
        if not self.arrays and any(name.endswith("zarr.json") for name in self._names):
            raise DatasetError(
                f"{path}: is a store of zarr v3; save it with zarr_format=2 and "
                f"write_empty_chunks=True"
            )

    @property
    def files(self) -> tuple[Path, ...]:
        """The files of which anything was read."""
        return tuple(self._store.files)

    def array(self, name: str) -> NDArray[Any]:
        """Read an array.

        Raises:
            DatasetError: If there is none of this name, it is damaged, not of numbers, larger
                than the file explains, or stored in a way that is not read.
        """
        if name not in self.arrays:
            raise DatasetError(
                f"{self._path}: holds no array '{name}'{did_you_mean(name, self.arrays)}"
            )
        about = parse_json(
            self._store.read(f"{name}/{_ARRAY}", self._budget)[:MAX_JSON_BYTES],
            f"{self._path}: '{name}'",
            DatasetError,
        )
        shape, chunk, dtype = _layout(about)
        size = math.prod(chunk) * dtype.itemsize
        count = -(-shape[0] // chunk[0])
        self._budget.spend(count * size, f"'{name}'")
        separator = about.get("dimension_separator", ".")
        rest = f"{separator}0" * (len(shape) - 1)
        parts = [
            np.frombuffer(self._chunk(f"{name}/{index}{rest}", about, size), dtype).reshape(chunk)
            for index in range(count)
        ]
        return np.concatenate(parts)[: shape[0]] if parts else np.zeros(shape, dtype)

    def _chunk(self, name: str, about: Mapping[str, Any], size: int) -> bytes:
        if name not in self._names:
            raise DatasetError(
                f"{self._path}: the chunk '{name}' is missing: download the store again; if it "
                f"was left out since all of it is the fill value, save the store with "
                f"write_empty_chunks=True"
            )
        content, compressor = self._store.read(name, self._budget), about["compressor"]
        unpacked = content if compressor is None else _UNPACKERS[compressor["id"]](content, size)
        if len(unpacked) != size:
            raise ValueError(f"'{name}' has {len(unpacked)} bytes, not {size}")
        return unpacked


def _layout(about: Mapping[str, Any]) -> tuple[tuple[int, ...], tuple[int, ...], np.dtype[Any]]:
    """Return shape, shape of a chunk and type of an array that is stored in a way that is read."""
    shape, chunk, dtype = tuple(about["shape"]), tuple(about["chunks"]), np.dtype(about["dtype"])
    compressor = about["compressor"]
    if about["zarr_format"] != 2 or about["order"] != "C" or about.get("filters"):
        raise ValueError("it is not a plain array of zarr v2 in C order without filters")
    if dtype.kind not in NUMBERS:
        raise ValueError(f"it is of {dtype}, not of numbers")
    if compressor is not None and compressor["id"] not in _UNPACKERS:
        raise ValueError(
            f"it is packed by {compressor['id']!r:.40}; {', '.join(_UNPACKERS)} are read"
        )
    sizes = (*shape, *chunk)
    if not shape or len(shape) != len(chunk) or not all(type(each) is int for each in sizes):
        raise ValueError(f"it has the shape {shape!r:.60} in chunks of {chunk!r:.60}")
    if min(shape) < 0 or min(chunk) < 1 or chunk[1:] != shape[1:]:
        raise ValueError(f"it is cut in chunks of {chunk}, and only whole rows are read")
    return shape, chunk, dtype


@contextmanager
def open_zarr(path: Path) -> Iterator[ZarrStore]:
    """Open a zarr v2 store for reading.

    Args:
        path: Its folder, or a zip of it.

    Raises:
        DatasetError: If it is none; also, in the block, where it is damaged.
    """
    budget = MemoryBudget()
    try:
        if path.is_dir():
            yield ZarrStore(path, _Folder(path), budget)
            return
        if not path.is_file():
            raise DatasetError(f"{path}: no such file or folder")
        require_there(path)
        budget.add_file(path)
        with zipfile.ZipFile(path) as archive:
            yield ZarrStore(path, _Zip(path, archive), budget)
    except (*UNREADABLE, *DAMAGED_ZIP, zstandard.ZstdError) as cause:
        raise DatasetError(f"{path}: not a readable zarr store: {one_line(cause):.300}") from cause


def read_zarr(path: Path, names: Sequence[str]) -> list[NDArray[Any]]:
    """Read some arrays of a store; see `ZarrStore`."""
    with open_zarr(path) as store:
        return [store.array(name) for name in names]
