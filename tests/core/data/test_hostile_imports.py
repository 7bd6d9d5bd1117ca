"""Files for `dql import` of somebody who wants to read other files or fill the memory."""

import io
import os
import struct
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest

from dql_core.data import hdf5_arrays
from dql_core.data.importers.formats import FileFormat
from dql_core.data.importers.importing import import_file
from dql_core.errors import DatasetError
from tests.core.data.hostile_hdf5 import SECRET, Edit, put, replaced

pytestmark = pytest.mark.slow

ROWS = 20


@pytest.fixture
def d4rl(tmp_path: Path) -> Path:
    with h5py.File(tmp_path / "set.hdf5", "w") as file:
        file["observations"] = np.random.default_rng(0).normal(size=(ROWS, 3)).astype("f4")
        file["actions"] = np.linspace(-1, 1, 2 * ROWS, dtype="f4").reshape(ROWS, 2)
        file["rewards"] = np.ones(ROWS)
        file["terminals"] = np.arange(ROWS) == 9
        file["timeouts"] = np.arange(ROWS) == ROWS - 1
    return tmp_path / "set.hdf5"


def virtual(file: h5py.File) -> None:
    layout = h5py.VirtualLayout((ROWS, 3), "f4")
    layout[:] = h5py.VirtualSource("secret.hdf5", "x", (ROWS, 3))
    del file["observations"]
    file.create_virtual_dataset("observations", layout)


PIPE = h5py.ExternalLink("pipe", "/x")

HDF5: dict[str, tuple[Edit, str]] = {
    "external storage": (
        replaced("observations", shape=(ROWS, 3), dtype="f4", external=SECRET),
        "'observations' has external storage, which reads other files",
    ),
    "virtual": (virtual, "'observations' is a virtual dataset, which reads other files"),
    "external link": (put("rewards", PIPE), "'rewards' is a link, which can lead anywhere"),
    "optional link": (put("timeouts", PIPE), "'timeouts' is a link, which can lead anywhere"),
    "soft link": (put("rewards", h5py.SoftLink("/terminals")), "'rewards' is a link"),
    "two names": (
        lambda file: put("actions", file["observations"])(file),
        "is under several names",
    ),
    "sparse": (
        replaced("observations", shape=(10**12, 3), dtype="f4"),
        "bytes in memory: the file is damaged",
    ),
    "a chunk a number": (
        replaced("rewards", shape=(10**7,), dtype="f8", chunks=(1,)),
        "bytes in memory: the file is damaged",
    ),
    "wide": (replaced("actions", shape=(ROWS, 10**6), dtype="f4"), "has 1000000 numbers"),
    "no rows": (replaced("observations", shape=(0, 10**12), dtype="f4"), "no observations"),
    "a number": (replaced("actions", data=1.0), "holds no actions"),
    "a flag": (replaced("terminals", data=True), "'terminals' has 1 rows where 20 are needed"),
    "no flags": (replaced("terminals", data=np.full(ROWS, np.nan)), "'terminals' has a nan"),
    "texts": (replaced("rewards", data=[b"x"] * ROWS), "'rewards' is not an array of numbers"),
    "a group": (put("rewards", np.dtype("f8")), "'rewards' is not an array"),
    "two rewards a step": (
        replaced("rewards", data=np.ones((ROWS, 2))),
        "'rewards' has 2 numbers in each row, and one is needed",
    ),
    "next of another width": (
        lambda file: file.create_dataset("next_observations", data=np.ones((ROWS, 4))),
        r"'next_observations' has the shape \(20, 4\), and as flat rows",
    ),
    "beyond float32": (
        replaced("observations", data=np.full((ROWS, 3), 1e39)),
        "'observations' has a 1e\\+39, beyond what float32 can hold",
    ),
    "nothing but NaN": (
        replaced("actions", data=np.full((ROWS, 2), np.nan)),
        "the actions hold no number in place 0, but NaN only",
    ),
    "large numbers": (
        replaced("actions", data=np.full((ROWS, 1), 2**64 - 1, "u8")),
        "the action space is Discrete",
    ),
}


@pytest.mark.parametrize("name", HDF5)
def test_hdf5_leads_to_no_other_file_and_to_no_more_memory(d4rl: Path, name: str) -> None:
    (d4rl.parent / "secret").write_bytes(b"A" * 4096)
    os.mkfifo(d4rl.parent / "pipe")
    edit, words = HDF5[name]
    with h5py.File(d4rl, "r+") as file:
        edit(file)
    refused(d4rl, "d4rl", words)


def refused(path: Path, file_format: FileFormat, words: str) -> None:
    with pytest.raises(DatasetError, match=words) as caught:
        import_file(path, file_format, path.parent / "out")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 700
    assert not (path.parent / "out").exists()


def npz(path: Path, **members: object) -> Path:
    """Trajectories of two episodes; a member may be replaced by an array or by raw bytes."""
    rng = np.random.default_rng(0)
    contents: dict[str, object] = {
        "obs": rng.normal(size=(12, 3)).astype("f4"),
        "acts": rng.uniform(-1, 1, (10, 2)).astype("f4"),
        "rews": np.ones(10),
        "indices": np.array([5]),
        "terminal": np.array([True, False]),
    }
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in (contents | members).items():
            buffer = io.BytesIO()
            if isinstance(content, bytes):
                buffer.write(content)
            else:
                np.lib.format.write_array(buffer, np.asarray(content))
            archive.writestr(f"{name}.npy", buffer.getvalue())
    return path


def member(header: str, content: bytes = b"", version: int = 1) -> bytes:
    length = struct.pack("<H" if version == 1 else "<I", len(header))
    return b"\x93NUMPY" + bytes([version, 0]) + length + header.encode() + content


def of_shape(shape: str, kind: str = "'<f4'") -> bytes:
    header = f"{{'descr': {kind}, 'fortran_order': False, 'shape': {shape}, }}"
    return member(header, bytes(120))


NPZ: dict[str, tuple[str, object, str]] = {
    "objects": ("obs", np.array([1, "a"], dtype=object), "cannot be read as numbers .* pickle"),
    "named objects": ("obs", of_shape("(3,)", "'|O'"), "cannot be read as numbers .* pickle"),
    "many": ("obs", of_shape("(1000000000000, 3)"), r"shape \(1000000000000, 3\) needs others"),
    "none of many": ("obs", of_shape("(0, 1000000000000)"), "needs others"),
    "negative": ("obs", of_shape("(-10, -3)"), "needs others"),
    "digits": ("obs", of_shape(f"({'9' * 5000},)"), "not a readable .npz file"),
    "no shape": ("obs", of_shape("None"), "not a readable .npz file"),
    "deep": ("obs", member("(" * 9000), "not a readable .npz file"),
    "long": ("obs", member("{" + " " * 60_000 + "}"), "not a readable .npz file"),
    "code": ("obs", member("__import__('os').system('true')"), "not a readable .npz file"),
    "structure": ("obs", of_shape("(3,)", "[('a', '<f4')]"), "not an array of numbers"),
    "large texts": ("obs", of_shape("(1,)", "'S2000000000'"), "not an array of numbers"),
    "empty": ("obs", b"", "not a readable .npz file"),
    "a number": ("acts", np.array(1.0), "holds no actions"),
    "negative split": ("indices", np.array([-5]), "'indices' are not rising numbers from 0 to 10"),
    "late split": ("indices", np.array([11]), "'indices' are not rising numbers"),
    "falling splits": ("indices", np.array([7, 3]), "'indices' are not rising numbers"),
    "half a split": ("indices", np.array([2.5]), "'indices' are not rising numbers"),
    "table of flags": ("terminal", np.ones((2, 3), bool), "'terminal' has 3 numbers in each row"),
    "no flags": ("terminal", np.array([0.5, 1.0]), "'terminal' has a 0.5 where only 0 and 1"),
}


@pytest.mark.parametrize("name", NPZ)
def test_npz_is_numbers_of_the_size_that_is_there(tmp_path: Path, name: str) -> None:
    replaced_name, content, words = NPZ[name]
    refused(npz(tmp_path / "set.npz", **{replaced_name: content}), "npz", words)


def test_an_archive_that_grows_a_thousandfold_is_not_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hdf5_arrays, "ALWAYS_BYTES", 1 << 20)
    path = npz(tmp_path / "set.npz", obs=np.zeros((1_000_000, 3), "f4"))
    assert path.stat().st_size < 20_000
    refused(path, "npz", "'obs' is 12,000,000 bytes in memory: .* made to fill it")


def test_damage_is_told_however_a_member_is_packed(tmp_path: Path) -> None:
    for method in (zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        path = tmp_path / "set.npz"
        with zipfile.ZipFile(npz(tmp_path / "sound.npz")) as sound:
            members = {name: sound.read(name) for name in sound.namelist()}
        with zipfile.ZipFile(path, "w", method) as archive:
            for name, content in members.items():
                archive.writestr(name, content)
        damaged = bytearray(path.read_bytes())
        damaged[60:90] = bytes(30)
        path.write_bytes(damaged)
        refused(path, "npz", "not a readable .npz file")


def test_encrypted_members_are_refused(tmp_path: Path) -> None:
    path = npz(tmp_path / "set.npz")
    content = bytearray(path.read_bytes())
    content[content.find(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(content)
    refused(path, "npz", "is encrypted")


@pytest.mark.parametrize("name", ["pipe", "/dev/zero", ".", "x" * 5000])
def test_what_is_no_file_is_refused(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(DatasetError, match="no such file"):
        import_file(tmp_path / name, "npz", tmp_path / "out")


@pytest.mark.parametrize("file_format", ["d4rl", "npz"])
def test_damaged_bytes_are_told_in_one_line(
    tmp_path: Path, d4rl: Path, file_format: FileFormat
) -> None:
    path = d4rl if file_format == "d4rl" else npz(tmp_path / "set.npz")
    sound, random, lines = path.read_bytes(), np.random.default_rng(1), []
    for index in range(150):
        content = np.frombuffer(sound, np.uint8).copy()
        places = random.integers(len(content), size=random.integers(1, 5))
        content[places] = random.integers(256, size=len(places))
        path.write_bytes(content.tobytes())
        try:
            import_file(path, file_format, tmp_path / f"out{index}")
        except DatasetError as error:
            lines.append(str(error))
    assert 0 < len(lines) < 150
    assert not any("\n" in line for line in lines)
