"""Arrays of numbers out of HDF5 files, and nothing else that such a file can ask for.

HDF5 can send its reader elsewhere: to raw bytes of any file (external storage), to other HDF5
files (external links, virtual datasets), or to libraries that undo a compression. All of it is
looked at before an array is opened. It can also announce arrays that are stored nowhere: what
arrays may take in memory is limited to what the sizes of the files explain (`MemoryBudget`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
from h5py import h5d, h5g, h5l, h5o, h5z
from numpy.typing import NDArray

from dql_core.errors import DatasetError, one_line

NUMBERS = "biuf"
_LZF = 32000
# Filters of HDF5 and h5py themselves; for others HDF5 would load a library.
_FILTERS = {
    h5z.FILTER_DEFLATE,
    h5z.FILTER_SHUFFLE,
    h5z.FILTER_FLETCHER32,
    h5z.FILTER_SZIP,
    h5z.FILTER_NBIT,
    h5z.FILTER_SCALEOFFSET,
    _LZF,
}
_BYTES_A_CHUNK = 1024
# What h5py, NumPy and others raise for damaged or foreign content.
UNREADABLE = (
    OSError,
    RuntimeError,
    LookupError,
    ValueError,
    TypeError,
    AttributeError,
    AssertionError,
    OverflowError,
    MemoryError,
)
# Arrays may be so many times larger than what is stored of them, and so many bytes beside that:
# compressed numbers are rarely a tenth, and a bomb is a thousandth or nothing at all.
MAX_GROWTH = 100
ALWAYS_BYTES = 1 << 30
_BLOCK_BYTES = 512


class Hdf5File:
    """An HDF5 file that `open_hdf5` has opened for reading."""

    def __init__(self, path: Path, file: h5py.File, budget: MemoryBudget) -> None:
        self._path, self._file, self._budget = path, file, budget

    @property
    def names(self) -> list[str]:
        """The names at its top."""
        return list(self._file)

    def has(self, *names: str) -> bool:
        """Whether there is something of the last name in the groups of the others."""
        group = self._group(names[:-1])  # whose links are there as long as it is
        return bool(group.id.links.exists(names[-1].encode()))

    def names_in(self, *names: str) -> list[str]:
        """The names in a group, whose own name is the last one, in the groups of the others.

        Raises:
            DatasetError: If it does not exist or lies elsewhere.
        """
        return list(self._group(names))

    def kind(self, *names: str) -> tuple[str, int]:
        """NumPy's kind of an array's numbers and how many axes it has; empty for what is none.

        Raises:
            DatasetError: If it does not exist or lies elsewhere.
        """
        found = self._child(self._group(names[:-1]), names[-1], "/".join(names))
        if not isinstance(found, h5d.DatasetID):
            return "", 0
        return str(found.dtype.kind), int(found.rank)

    def array(self, *names: str) -> NDArray[Any]:
        """Read the array of the last name in the groups of the others.

        Raises:
            DatasetError: If it does not exist, is not an array of numbers, lies elsewhere, or is
                larger than the file explains.
        """
        where = "/".join(names)
        dataset = self._child(self._group(names[:-1]), names[-1], where)
        if not isinstance(dataset, h5d.DatasetID):
            raise self._refused(where, "is not an array")
        self._require_stored_here(dataset, where)
        found = h5py.Dataset(dataset)
        if found.shape is None or found.dtype.kind not in NUMBERS:
            raise self._refused(where, "is not an array of numbers")
        self._budget.spend(bytes_to_read(found), f"'{where}'")
        array: NDArray[Any] = found[()]
        return array

    def stored_bytes(self, name: str) -> int:
        """Return how much of the file a group at its top takes, texts of its arrays apart.

        Raises:
            DatasetError: If anything in it is neither a group nor an array in the file itself.
        """
        total = 0
        waiting: list[tuple[str, ...]] = [(name,)]
        while waiting:
            path = waiting.pop()
            group = self._group(path)
            for each in list(group):
                names = (*path, each)
                where = "/".join(names)
                found = self._child(group, names[-1], where)
                if isinstance(found, h5g.GroupID):
                    waiting.append(names)
                elif isinstance(found, h5d.DatasetID):
                    self._require_stored_here(found, where)
                    total += found.get_storage_size()
                else:
                    raise self._refused(where, "is neither a group nor an array")
        return total

    def copy(self, name: str, target: h5py.Group, new_name: str) -> None:
        """Copy a group at the top, which `stored_bytes` has looked through, to the bit."""
        self._file.copy(name, target, name=new_name)

    def _group(self, names: tuple[str, ...]) -> h5py.Group:
        group: h5py.Group = self._file
        for depth, name in enumerate(names, start=1):
            where = "/".join(names[:depth])
            found = self._child(group, name, where)
            if not isinstance(found, h5g.GroupID):
                raise self._refused(where, "is not a group")
            group = h5py.Group(found)
        return group

    def _child(self, group: h5py.Group, name: str, where: str) -> Any:
        """Open what a group has under a name of its own."""
        # Not `name in group`, which follows links.
        links, raw = group.id.links, name.encode()
        if "/" in name or name in {"", "."} or not links.exists(raw):
            raise self._refused(where, "is missing")
        if links.get_info(raw).type != h5l.TYPE_HARD:
            raise self._refused(where, "is a link, which can lead anywhere")
        found = h5o.open(group.id, raw)
        if h5o.get_info(found).rc != 1:
            raise self._refused(where, "is under several names, so that it would count twice")
        return found

    def _require_stored_here(self, dataset: h5d.DatasetID, where: str) -> None:
        properties = dataset.get_create_plist()
        if properties.get_layout() == h5d.VIRTUAL:
            raise self._refused(where, "is a virtual dataset, which reads other files")
        if properties.get_external_count():
            raise self._refused(where, "has external storage, which reads other files")
        for index in range(properties.get_nfilters()):
            if (code := properties.get_filter(index)[0]) not in _FILTERS:
                raise self._refused(
                    where, f"is compressed by filter {code}, for which HDF5 would load a library"
                )

    def _refused(self, where: str, why: str) -> DatasetError:
        return DatasetError(
            f"{self._path}: '{where}' {why}; only arrays of numbers in the file itself are read"
        )


def bytes_to_read(dataset: h5py.Dataset) -> int:
    """How much memory reading takes: the array, and what HDF5 needs for its chunks."""
    shape: tuple[int, ...] = dataset.shape or ()
    chunks: tuple[int, ...] = dataset.chunks or shape
    count = math.prod(
        -(-length // step) for length, step in zip(shape, chunks, strict=True) if step
    )
    largest = max(math.prod(shape), math.prod(chunks))
    return largest * int(dataset.dtype.itemsize) + count * _BYTES_A_CHUNK


@contextmanager
def open_hdf5(path: Path, budget: MemoryBudget) -> Iterator[Hdf5File]:
    """Open an HDF5 file for reading.

    Args:
        path: A regular file.
        budget: What its arrays may still take.

    Raises:
        DatasetError: If it is no HDF5 file; also, in the block, where it is damaged.
    """
    try:
        with h5py.File(path, "r") as file:
            yield Hdf5File(path, file, budget)
    except UNREADABLE as cause:
        raise DatasetError(f"{path}: not a readable HDF5 file: {one_line(cause)}") from cause


def replace_array(group: h5py.Group, name: str, values: NDArray[Any]) -> None:
    """Give an array of a group other values; its attributes and its compression stay.

    Args:
        group: In a file that is open for writing.
        name: The array's.
        values: At least one row; of texts, in the form in which h5py reads them.
    """
    old = group[name]
    dtype = old.dtype if values.dtype == object else values.dtype
    if old.dtype == dtype and old.shape == values.shape:
        old[...] = values
        return
    attributes = dict(old.attrs)
    storage = {"compression": old.compression, "compression_opts": old.compression_opts}
    del group[name]
    new = group.create_dataset(
        name, data=values, dtype=dtype, chunks=True, maxshape=(None, *values.shape[1:]), **storage
    )
    new.attrs.update(attributes)


class MemoryBudget:
    """What may still be taken; shared by all arrays of a dataset."""

    def __init__(self) -> None:
        self._left = ALWAYS_BYTES
        self._where = ""

    def add_file(self, path: Path) -> None:
        """Count in what a file explains, before its arrays are taken.

        Raises:
            DatasetError: If nearly all of the file is nowhere.
        """
        status = path.stat()
        # A sparse file of a terabyte takes no room on the disk.
        stored = min(status.st_size, status.st_blocks * _BLOCK_BYTES)
        self._left += MAX_GROWTH * stored
        self._where = f"{path}, of which {stored:,} bytes are stored"
        if status.st_size > self._left:
            raise DatasetError(f"{self._where}: calls itself {status.st_size:,} bytes long")

    def spend(self, size_bytes: int, what: str) -> None:
        """Count an array in, before it is read.

        Raises:
            DatasetError: If there is no room left for it.
        """
        if not 0 <= size_bytes <= self._left:
            raise DatasetError(
                f"{self._where}: {what} is {size_bytes:,} bytes in memory: the file is damaged or "
                f"made to fill it"
            )
        self._left -= size_bytes
