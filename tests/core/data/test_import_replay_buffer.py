"""Replay buffers of the Diffusion Policy family, in zarr and Blosc."""

import base64
import json
import os
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zstandard
from numpy.typing import NDArray

from dql_core.data.dataset import load_dataset
from dql_core.data.importers.blosc import unpack_blosc
from dql_core.data.importers.importing import ImportResult, import_file
from dql_core.data.importers.zarr_arrays import open_zarr, read_zarr
from dql_core.errors import DatasetError

SAMPLE = Path(__file__).parents[4] / "shared" / "data" / "offline" / "pusht_human.zarr.zip"
FLOATS = (np.arange(100) // 7).astype("<f4")
# FLOATS, packed by numcodecs 0.16.6: compressor, kind of shuffle, size of a block.
PACKED = {
    ("lz4", 1, 160): (
        "AgExBJABAACgAAAAuAAAABwAAAB+AAAASwAAACsAAAAfAAEAQxKAAQADXQASQAEAAhQAIICgAQADGgASPwEA"
        "AiAACwIAUEBAQEBALwAAAB8AAQAU8BkwMDAwQEBAQEBAQFBQUFBQUFBgYEFBQUFBQUFBQUFBQUFBQUFBQUFB"
        "NgAAAB8AAQA88wGgoMDAwMDAwMDg4ODg4ODgYAASEAEAEiABAIcwMDBAQEBAQAUAHkEBAFBBQUFBQQ=="
    ),
    ("zstd", 1, 0): (
        "AgGRBJABAACQAQAAUgAAABQAAAA6AAAAKLUv/WCQAIUBAJgAAIBAoMDgABAgMEBQYGAAP0BBEqhQ9gaQQ+MQ"
        "vJX//93aAZCbb0tDDI3jbMo0SA=="
    ),
    ("zlib", 2, 160): (
        "AgF0BJABAACgAAAAhwAAAEUAAAAcAAAAbQAAACUAAAB4XmNgoAdosH/A/I/hwP8//4Gc///BYv+hNDbw/z9M"
        "FgA94hBRJAAAAHheY2CgI/jBwPCAn6HBnuHDfyDBwICTYDjw//9/sBYAZa8MzRYAAAB4XmNgMHBkQMEOeHAA"
        "HpwAxgCHCwqF"
    ),
}
# Eight times FLOATS in a row, by lz4 and bits, in a stream for each byte of a number.
PACKED_STREAMS = (
    "AgEkBIAMAACADAAA+gAAABQAAAAOAAAAHwABAP///wpQAAAAAAAOAAAAHwABAP///wpQAAAAAABmAAAAHwAB"
    "AP+EY4A/4A/4A50BYvgD/oA/AA0ADxkANZP4A/4AwP8PAAxUAF8A/P8AwBkAOgJUAHIAAPD/DwAAbQBPAAD/"
    "/xkAOHGAPwDw////GAFhAPgDAP//ZAAAJQEPGQAxUAAAAAAAVAAAAP8KgD8AAAAAAP//////D/gDAAAAAPD/"
    "/////xkAPwICACL4AwgAAAIAA30AAgIADxkA/7whAMBTAgECADUPAPwMAB//GQA5AjkCDwIARVAAAAAAAA=="
)
BLOSCLZ = (
    "AgERBJABAACQAQAAZAAAABQAAABMAAAAIwAAAADgwgMAgIAAoNEAQIAAgBMBgKCAAADAgAAA4IAAoCkAEIAA"
    "ACCAAAAwgACAPQFAUIAAAWBgoCsAP4AAoB3gGgEAQeAgAAFBQQ=="
)


@pytest.mark.parametrize("way", PACKED)
def test_blosc_unpacks_to_the_bytes_that_were_packed(way: tuple[str, int, int]) -> None:
    assert unpack_blosc(base64.b64decode(PACKED[way]), 400) == FLOATS.tobytes()


def test_a_stream_for_each_byte_of_a_number_is_put_together() -> None:
    packed = base64.b64decode(PACKED_STREAMS)
    assert unpack_blosc(packed, 3200) == np.tile(FLOATS, 8).tobytes()


@pytest.mark.parametrize("cname", ["lz4", "lz4hc", "zlib", "zstd"])
@pytest.mark.parametrize("shuffle", [0, 1, 2])
def test_blosc_is_the_inverse_of_numcodecs(cname: str, shuffle: int) -> None:
    blosc = pytest.importorskip("numcodecs.blosc", reason="numcodecs is not installed")
    rng = np.random.default_rng(0)
    for dtype in ("<f4", "<f8", "|u1", "<i2", ">f4"):
        for count in (1, 7, 500, 4001, 20_000):
            array = np.cumsum(rng.integers(-2, 3, size=count)).astype(dtype)
            packed = blosc.Blosc(cname, 5, shuffle, int(rng.choice([0, 256, 4096]))).encode(array)
            assert unpack_blosc(packed, array.nbytes) == array.tobytes()


def test_damaged_blosc_is_told_and_never_larger_than_it_must_be() -> None:
    rng, told = np.random.default_rng(1), 0
    for packed in [base64.b64decode(each) for each in PACKED.values()]:
        for _ in range(300):
            content = np.frombuffer(packed, np.uint8).copy()
            content[rng.integers(len(content), size=3)] = rng.integers(256, size=3)
            try:
                assert len(unpack_blosc(content.tobytes(), 400)) == 400
            except ValueError:
                told += 1
        for size in range(len(packed)):
            with pytest.raises(ValueError, match=r"chunk|part"):
                unpack_blosc(packed[:size], 400)
    assert told > 100


def test_blosc_of_another_compressor_is_named() -> None:
    with pytest.raises(ValueError, match="packed by blosclz; lz4, zlib and zstd are read"):
        unpack_blosc(base64.b64decode(BLOSCLZ), 400)


PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "zlib": zlib.compress,
    "zstd": lambda content: zstandard.ZstdCompressor().compress(content),
}


def write_array(folder: Path, name: str, array: NDArray[Any], **about: Any) -> None:
    """Write an array of zarr v2 in chunks of five rows."""
    place = folder / name
    place.mkdir(parents=True)
    chunk = (5, *array.shape[1:])
    document = {
        "zarr_format": 2,
        "shape": list(array.shape),
        "chunks": list(chunk),
        "dtype": array.dtype.str,
        "compressor": None,
        "fill_value": 0,
        "order": "C",
        "filters": None,
    } | about
    (place / ".zarray").write_text(json.dumps(document))
    for index in range(-(-len(array) // 5)):
        rows = np.zeros(chunk, array.dtype)
        part = array[5 * index : 5 * index + 5]
        rows[: len(part)] = part
        content, compressor = rows.tobytes(), about.get("compressor")
        if compressor:
            content = PACKERS[compressor["id"]](content)
        (place / ".".join([str(index)] + ["0"] * (array.ndim - 1))).write_bytes(content)


def arrays() -> dict[str, NDArray[Any]]:
    rng = np.random.default_rng(0)
    return {
        "data/state": rng.normal(size=(12, 3)).astype(np.float32),
        "data/action": rng.uniform(-1, 1, size=(12, 2)).astype(np.float32),
        "data/keypoint": rng.normal(size=(12, 4, 2)).astype(np.float32),
        "data/img": np.zeros((12, 8, 8, 3), np.uint8),
        "meta/episode_ends": np.array([5, 8, 12]),
    }


def buffer(folder: Path, contents: dict[str, NDArray[Any]] | None = None, **about: Any) -> Path:
    for name, array in (contents or arrays()).items():
        write_array(folder, name, array, **about)
    (folder / ".zgroup").write_text('{"zarr_format": 2}')
    return folder


def zipped(folder: Path, top: str = "") -> Path:
    path = folder.with_name(f"{folder.name}.zip")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(folder.rglob("*")):
            archive.write(file, f"{top}{file.relative_to(folder)}")
    return path


def imported(path: Path, **options: Any) -> ImportResult:
    return import_file(path, "zarr", path.parent / "out", **options)


@pytest.mark.parametrize("top", [None, "", "set.zarr/"])
@pytest.mark.parametrize(
    "compressor", [None, {"id": "zlib", "level": 1}, {"id": "zstd", "level": 0}]
)
def test_rows_are_cut_where_episodes_end(tmp_path: Path, top: str | None, compressor: Any) -> None:
    folder = buffer(tmp_path / "set.zarr", compressor=compressor)
    result = imported(folder if top is None else zipped(folder, top))
    stored = arrays()
    for episode, rows in zip(
        result.episodes, (slice(0, 5), slice(5, 8), slice(8, 12)), strict=True
    ):
        np.testing.assert_array_equal(episode.observations, stored["data/state"][rows])
        np.testing.assert_array_equal(episode.actions, stored["data/action"][rows][:-1])
        assert episode.truncated
    assert not result.has_rewards
    assert result.spec.robot == "set"
    assert result.notes[:3] == (
        "nothing says how an episode ended: all are truncated",
        "there are no rewards: all are 0, for agent: diffusion_bc; see dql relabel",
        "left out: img, keypoint; --observations names what is observed",
    )


def test_several_arrays_make_an_observation(tmp_path: Path) -> None:
    folder = buffer(tmp_path / "set.zarr")
    result = imported(folder, observations=["keypoint", "state"])
    stored = arrays()
    expected = np.concatenate(
        [stored["data/keypoint"].reshape(12, 8), stored["data/state"]], axis=1
    )
    np.testing.assert_array_equal(result.episodes[0].observations, expected[:5])
    assert result.spec.observation[3].name == "observation.keypoint[1,1]"
    assert result.spec.observation[8].name == "observation.state[0]"
    with pytest.raises(DatasetError, match=r"the space of 'observation' is Box.*uint8"):
        import_file(folder, "zarr", tmp_path / "no", observations=["img"])


def test_rewards_are_read_where_there_are_any(tmp_path: Path) -> None:
    rewards = np.arange(12, dtype=np.float64)
    result = imported(buffer(tmp_path / "set.zarr", arrays() | {"data/reward": rewards}))
    assert result.has_rewards
    assert result.episodes[1].rewards.tolist() == [5.0, 6.0]


def about(name: str, **keys: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        path = folder / name / ".zarray"
        path.write_text(json.dumps(json.loads(path.read_text()) | keys))

    return change


def without(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def cut(folder: Path) -> None:
    (folder / "data/state/1.0").write_bytes(b"1234")


def linked(folder: Path) -> None:
    (folder / "data/state/1.0").unlink()
    (folder / "data/state/1.0").symlink_to("/etc/passwd")


def piped(folder: Path) -> None:
    (folder / "data/state/1.0").unlink()
    os.mkfifo(folder / "data/state/1.0")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (without("data/action/.zarray"), "holds no array 'data/action'"),
        (without("data/state/.zarray"), "holds no 'data/state'.*with --observations"),
        (
            without("data/state/1.0"),
            "the chunk 'data/state/1.0' is missing: download .* write_empty_chunks=True",
        ),
        (cut, "'data/state/1.0' has 4 bytes, not 60"),
        (linked, "is a link; only regular files"),
        (piped, "is a named pipe; only regular files"),
        (about("data/state", dtype="|O"), "it is of object, not of numbers"),
        (about("data/state", order="F"), "not a plain array of zarr v2 in C order"),
        (about("data/state", filters=[{"id": "pickle"}]), "in C order without filters"),
        (
            about("data/state", compressor={"id": "pickle"}),
            "packed by 'pickle'; blosc, zlib, zstd",
        ),
        (about("data/state", compressor={"id": "blosc"}), "a chunk of version"),
        (about("data/state", chunks=[5, 1]), r"chunks of \(5, 1\), and only whole rows"),
        (about("data/state", shape=[10**12, 3]), "bytes in memory: the file is damaged"),
        (about("data/state", shape=["12", 3]), "it has the shape"),
        (about("data/state", shape=[11, 3]), "'state' has 11 rows where 12 are needed"),
        (about("meta/episode_ends", shape=[2]), "'episode_ends' are not rising numbers up to 12"),
        (about("data/action", dtype="<i4"), "the action space is"),
    ],
)
def test_what_is_damaged_or_hostile_is_refused(
    tmp_path: Path, change: Callable[[Path], None], words: str
) -> None:
    folder = buffer(tmp_path / "set.zarr")
    change(folder)
    with pytest.raises(DatasetError, match=words) as caught:
        imported(folder)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_what_zlib_packed_must_be_of_its_size_and_its_checksum(tmp_path: Path) -> None:
    folder = buffer(tmp_path / "set.zarr", compressor={"id": "zlib"})
    chunk = folder / "data/state/1.0"
    sound = chunk.read_bytes()
    for content in (sound[:-1] + bytes([sound[-1] ^ 1]), sound[:-2], zlib.compress(bytes(10**6))):
        chunk.write_bytes(content)
        with pytest.raises(DatasetError, match="not a readable zarr store"):
            imported(folder)


def test_only_files_that_were_read_are_hashed(tmp_path: Path) -> None:
    folder = buffer(tmp_path / "set.zarr")
    (folder / "data/link").symlink_to("/etc/passwd")
    (folder / "data/img/note").write_text("x")
    imported(folder)
    hashes = json.loads(load_dataset(tmp_path / "out").metadata["dql_inputs"])
    assert sorted(hashes) == sorted(
        [
            *(f"{name}/.zarray" for name in ("data/action", "data/state", "meta/episode_ends")),
            *(f"data/{name}/{index}.0" for name in ("action", "state") for index in range(3)),
            "meta/episode_ends/0",
        ]
    )


def test_what_is_no_store_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.zip").write_text("no zip")
    with zipfile.ZipFile(tmp_path / "empty.zip", "w") as store:
        store.writestr("data", "")
    with zipfile.ZipFile(tmp_path / "new.zip", "w") as store:
        store.writestr("data/state/zarr.json", "{}")
    for name, words in {
        "text.zip": "not a readable zarr store",
        "empty.zip": "holds no array 'data/state'",
        "new.zip": "is a store of zarr v3; save it with zarr_format=2",
        "missing.zip": "no such file or folder",
    }.items():
        with pytest.raises(DatasetError, match=words):
            read_zarr(tmp_path / name, ["data/state"])


@pytest.mark.realdata
@pytest.mark.skipif(not SAMPLE.is_file(), reason="no pusht_human.zarr.zip in ../shared/data")
def test_the_real_set_of_pusht_is_imported(tmp_path: Path) -> None:
    result = import_file(SAMPLE, "zarr", tmp_path / "out")
    assert len(result.episodes) == 206
    assert sum(map(len, result.episodes)) == 25_650 - 206
    assert "left out: keypoint" in result.notes[2]
    states, actions = (
        np.concatenate([getattr(each, name) for each in result.episodes])
        for name in ("observations", "actions")
    )
    # Of the 512 pixels of its plane and a full turn; the keypoints are drawn around the block.
    assert 0 <= states[:, :4].min() <= states[:, :4].max() <= 512
    assert 0 <= states[:, 4].min() <= states[:, 4].max() <= 2 * np.pi + 1e-6
    assert 0 <= actions.min() <= actions.max() <= 512
    with open_zarr(SAMPLE) as store:
        keypoints = store.array("data/keypoint")
        block = store.array("data/state")[:, 2:4]
    assert np.abs(keypoints.mean(axis=1) - block).max() < 60
