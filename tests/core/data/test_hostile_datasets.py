"""Datasets of somebody who wants to run code, read other files or fill the memory."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from minari.dataset.minari_storage import MinariStorage

from dql_core.data import hdf5_arrays
from dql_core.data.dataset import Episode, load_dataset, write_dataset
from dql_core.data.episode_reader import read_table
from dql_core.data.hdf5_arrays import MemoryBudget
from dql_core.data.relabel import relabel
from dql_core.errors import DatasetError
from dql_core.rewards.call import RewardFunction
from dql_core.spec import FieldSpec, PolicySpec
from tests.cli_process import dql
from tests.core.data.hostile_hdf5 import SECRET, Edit, put, replaced

pytestmark = pytest.mark.slow

LENGTH = 5
SPEC = PolicySpec(
    "rover", 10.0, (FieldSpec("x"), FieldSpec("y")), (FieldSpec("vx", "m/s", -1.0, 1.0),)
)
COST = [RewardFunction(function="dql_core.rewards:action_cost")]
FIRST = "episode_0"


def episodes() -> list[Episode]:
    rows = np.linspace(0, 1, LENGTH + 1, dtype=np.float32)
    one = Episode(
        np.stack([rows, -rows], axis=1), rows[1:, None] * 0.5, rows[1:].astype(float), False, True
    )
    return [one, one]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_dataset(tmp_path / "set", episodes(), SPEC)
    return tmp_path / "set"


def in_files(folder: Path, data_format: str) -> Path:
    """The same dataset, stored as Arrow or Parquet."""
    write_dataset(folder, episodes(), SPEC)
    source = MinariStorage.read(folder / "data")
    (folder / "files").mkdir()
    target = MinariStorage.new(
        folder / "files", source.observation_space, source.action_space, data_format=data_format
    )
    target.update_from_storage(source)
    old = json.loads((folder / "data/metadata.json").read_text())
    target.update_metadata({key: old[key] for key in ("dataset_id", "minari_version")})
    return folder / "files"


def change(folder: Path, **values: Any) -> Path:
    """Change the metadata; `...` removes a key."""
    path = (
        folder / "data/metadata.json" if (folder / "data").is_dir() else folder / "metadata.json"
    )
    document = json.loads(path.read_text()) | values
    path.write_text(json.dumps({k: v for k, v in document.items() if v is not ...}))
    return folder


def runs(mark: Path) -> str:
    """An environment whose making would leave a mark."""
    return json.dumps(
        {
            "id": "Rover-v0",
            "entry_point": "os:system",
            "reward_threshold": None,
            "nondeterministic": False,
            "max_episode_steps": None,
            "disable_env_checker": False,
            "kwargs": {"command": f"touch {mark}"},
            "additional_wrappers": [],
            "vector_entry_point": None,
        }
    )


@pytest.mark.parametrize("space", ["observation_space", "action_space"])
@pytest.mark.parametrize("verb", ["inspect", "train", "relabel"])
def test_no_verb_makes_the_environment_of_a_dataset(
    folder: Path, tmp_path: Path, verb: str, space: str
) -> None:
    mark = tmp_path / "mark"
    change(folder, **{space: ..., "env_spec": runs(mark)})
    config = tmp_path / "train.yaml"
    config.write_text("run: {steps: 1}\n")
    out = ["--out", str(tmp_path / "out")]
    arguments = {
        "inspect": [str(folder)],
        "train": [str(config), "--dataset", str(folder), *out],
        "relabel": [str(folder), "--reward", "dql_core.rewards:action_cost", *out],
    }
    done = dql(verb, *arguments[verb])
    assert done.returncode == 2
    assert f"'{space}' is missing in metadata.json" in done.stderr
    assert "write it again with both spaces" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not mark.exists()


def test_what_metadata_say_of_environments_and_code_is_never_looked_at(
    folder: Path, tmp_path: Path
) -> None:
    mark = tmp_path / "mark"
    spec = runs(mark)
    change(folder, env_spec=spec, eval_env_spec=spec, requirements=["evil; x"], code_permalink=5)
    assert load_dataset(folder).num_transitions == 2 * LENGTH
    change(folder, env_spec="no json", eval_env_spec=[1])
    assert load_dataset(folder).num_transitions == 2 * LENGTH
    assert not mark.exists()


BOX = {"type": "Box", "dtype": "float32", "shape": [1], "low": [-1.0], "high": [1.0]}


@pytest.mark.parametrize(
    "space",
    [
        None,
        BOX,  # no text
        "",
        "[]",
        "{}",
        "[" * 100_000,
        '{"type": "Tuple", "subspaces": [' * 1000,
        json.dumps(BOX | {"dtype": "O"}),
        json.dumps(BOX | {"dtype": "S100000000000"}),
        json.dumps(BOX | {"dtype": "uint8"}),
        json.dumps(BOX | {"low": -1, "high": 1}),
        json.dumps(BOX | {"shape": [10**12], "low": -1, "high": 1}),
        json.dumps(BOX | {"shape": [0, 10**12], "low": [], "high": []}),
        json.dumps(BOX | {"low": [[-1], 0]}),
        json.dumps(BOX | {"low": [float("nan")]}),
        json.dumps(BOX | {"low": [2.0]}),
        json.dumps({"type": "Dict", "subspaces": {"../x": BOX}}),
        json.dumps({"type": "Tuple", "subspaces": 3}),
        json.dumps({"type": "Text", "max_length": 10**12, "min_length": 1, "charset": "a"}),
        json.dumps({"type": "MultiBinary", "n": 10**12}),
        json.dumps({"type": ["Box"]}),
    ],
)
def test_a_space_that_is_none_is_refused(folder: Path, space: object) -> None:
    with pytest.raises(DatasetError) as caught:
        load_dataset(change(folder, action_space=space))
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("total_episodes", "2", "'total_episodes' is '2', not int"),
        ("total_episodes", -1, "holds no episode"),
        ("total_episodes", 10**15, "'episode_2' is missing"),
        ("total_steps", None, "'total_steps' is None, not int"),
        ("data_format", "os:system", "stored as 'os:system', none of hdf5"),
        ("dataset_id", ..., "'dataset_id' is missing in metadata.json"),
        ("dql_policy_spec", 5, "'dql_policy_spec' in metadata.json is not a text"),
        ("dql_policy_spec", "{}", "a spec's 'robot' is missing"),
        (
            "dql_policy_spec",
            json.dumps(SPEC.to_json() | {"observation": []}),
            "has 0 observation fields, and the observation space has 2",
        ),
        (
            "dql_policy_spec",
            json.dumps(SPEC.to_json() | {"rate_hz": float("nan")}),
            "a spec's 'rate_hz' is nan",
        ),
    ],
)
def test_metadata_of_another_kind_are_told(
    folder: Path, key: str, value: object, words: str
) -> None:
    with pytest.raises(DatasetError, match=words):
        load_dataset(change(folder, **{key: value}))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "Expecting value"),
        (b"[]", "must hold a mapping, not list"),
        (b"\xff\xfe", "can't decode"),
        (b"[" * 1_000_000, "nested more than 64 deep"),
        (b'{"a":' * 1_000_000, "nested more than 64 deep"),
        (b'{"a": 1, "a": 2}', "key 'a' appears twice"),
        (b"9" * 10_000, "damaged"),
        (b'"' + b"x" * (1 << 24) + b'"', "is larger than 16,777,216 bytes"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_damaged_metadata_are_one_line(folder: Path, content: bytes, words: str) -> None:
    (folder / "data/metadata.json").write_bytes(content)
    with pytest.raises(DatasetError, match=words) as caught:
        load_dataset(folder)
    assert "\n" not in str(caught.value)


def link_to(target: str) -> Callable[[Path], None]:
    return lambda path: path.symlink_to(target)


@pytest.mark.parametrize("name", ["metadata.json", "main_data.hdf5"])
@pytest.mark.parametrize(
    "make", [os.mkfifo, link_to("/dev/zero"), link_to("../elsewhere"), Path.mkdir]
)
def test_only_files_of_the_folder_itself_are_read(
    folder: Path, name: str, make: Callable[[Path], Any]
) -> None:
    path = folder / "data" / name
    path.rename(folder / "elsewhere")
    make(path)
    with pytest.raises(DatasetError):
        load_dataset(folder)


@pytest.mark.parametrize("data_format", ["arrow", "parquet"])
def test_only_files_of_an_episodes_own_folder_are_read(tmp_path: Path, data_format: str) -> None:
    folder = in_files(tmp_path / "set", data_format)
    assert load_dataset(folder).num_transitions == 2 * LENGTH
    part = folder / "0" / f"part-0.{data_format}"
    part.rename(tmp_path / "elsewhere")
    os.mkfifo(part)
    with pytest.raises(DatasetError, match="is a named pipe; only regular files"):
        load_dataset(folder)
    part.unlink()
    part.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(DatasetError, match="is a link; only regular files"):
        load_dataset(folder)
    (folder / "0").rename(tmp_path / "episode")
    (folder / "0").symlink_to(tmp_path / "episode")
    with pytest.raises(DatasetError, match="0: is a link; only regular files"):
        load_dataset(folder)


def test_a_data_folder_that_is_a_link_is_refused_with_the_way_round(
    folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other/data").symlink_to(folder / "data")
    with pytest.raises(DatasetError, match="is a link; name the folder that it leads to"):
        load_dataset(tmp_path / "other")
    (tmp_path / "by_link").symlink_to(folder)  # which the user names
    assert load_dataset(tmp_path / "by_link").num_transitions == 2 * LENGTH


@pytest.mark.parametrize("name", ["x\0y", "x" * 5000, "../../etc", "/proc/self", "/dev/stdin"])
def test_a_name_that_leads_nowhere_is_one_line(name: str) -> None:
    with pytest.raises(DatasetError) as caught:
        load_dataset(name)
    assert "\n" not in str(caught.value)


def virtual(file: h5py.File) -> None:
    layout = h5py.VirtualLayout((LENGTH,), "f8")
    layout[:] = h5py.VirtualSource("elsewhere.h5", "x", (LENGTH,))
    del file[f"{FIRST}/rewards"]
    file[FIRST].create_virtual_dataset("rewards", layout)


def twice(file: h5py.File) -> None:
    put("episode_1/rewards", file[f"{FIRST}/rewards"])(file)


def foreign_filter(file: h5py.File) -> None:
    del file[f"{FIRST}/rewards"]
    properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    properties.set_chunk((LENGTH,))
    properties.set_filter(32015, h5py.h5z.FLAG_OPTIONAL, ())
    space, kind = h5py.h5s.create_simple((LENGTH,)), h5py.h5t.NATIVE_DOUBLE
    h5py.h5d.create(file[FIRST].id, b"rewards", kind, space, properties)


REWARDS = f"{FIRST}/rewards"

HOSTILE: dict[str, tuple[Edit, str]] = {
    "external": (replaced(REWARDS, shape=(LENGTH,), dtype="f8", external=SECRET), "external stor"),
    "virtual": (virtual, "is a virtual dataset"),
    "external link": (put(FIRST, h5py.ExternalLink("pipe", "/x")), "'episode_0' is a link"),
    "external array": (put(REWARDS, h5py.ExternalLink("pipe", "/x")), "rewards' is a link"),
    "soft link": (put(REWARDS, h5py.SoftLink("/episode_1/rewards")), "rewards' is a link"),
    "looping link": (put(REWARDS, h5py.SoftLink(f"/{REWARDS}")), "rewards' is a link"),
    "two names": (twice, "is under several names"),
    "filter": (foreign_filter, "compressed by filter 32015"),
    "sparse": (
        replaced(REWARDS, shape=(10**12,), dtype="f8"),
        "bytes in memory: the file is damaged",
    ),
    "chunked": (
        replaced(REWARDS, shape=(10**12,), dtype="f8", chunks=(1024,), compression="gzip"),
        "bytes in memory: the file is damaged",
    ),
    "one chunk": (
        replaced(REWARDS, shape=(LENGTH,), dtype="f8", maxshape=(None,), chunks=(1 << 28,)),
        "bytes in memory: the file is damaged",
    ),
    "no rows": (replaced(REWARDS, shape=(0, 10**15), dtype="f8"), "have shape"),
    "wide": (
        replaced(f"{FIRST}/observations", shape=(6, 10**7), dtype="f4", chunks=(6, 1)),
        "bytes in memory: the file is damaged",
    ),
    "texts": (replaced(REWARDS, data=[b"x"] * LENGTH), "not an array of numbers"),
    "any length": (
        replaced(REWARDS, shape=(LENGTH,), dtype=h5py.vlen_dtype("f8")),
        "not an array of numbers",
    ),
    "compound": (
        replaced(REWARDS, data=np.zeros(LENGTH, [("x", "f8")])),
        "not an array of numbers",
    ),
    "references": (
        replaced(REWARDS, shape=(LENGTH,), dtype=h5py.ref_dtype),
        "not an array of numbers",
    ),
    "nothing": (replaced(REWARDS, data=h5py.Empty("f8")), "not an array of numbers"),
    "scalar": (replaced(REWARDS, data=1.0), "not a readable Minari dataset"),
    "a group": (put(REWARDS, np.dtype("f8")), "is not an array"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hdf5_leads_to_no_other_file_and_to_no_more_memory(folder: Path, name: str) -> None:
    (folder / "data/secret").write_bytes(b"A" * 4096)
    os.mkfifo(folder / "data/pipe")
    edit, words = HOSTILE[name]
    with h5py.File(folder / "data/main_data.hdf5", "r+") as file:
        edit(file)
    with pytest.raises(DatasetError, match=words) as caught:
        load_dataset(folder)
    assert "\n" not in str(caught.value)
    (folder / "data/pipe").unlink()
    with pytest.raises(DatasetError, match=words):
        relabel(folder, COST, folder / "out")
    assert (folder / "data/secret").read_bytes() == b"A" * 4096
    assert not (folder / "out").exists()


def test_a_sparse_file_is_not_read(folder: Path) -> None:
    os.truncate(folder / "data/main_data.hdf5", 10**13)
    with pytest.raises(DatasetError, match="calls itself 10,000,000,000,000 bytes long"):
        load_dataset(folder)


def rewritten(table: pa.Table, column: str, values: pa.Array) -> pa.Table:
    return table.set_column(table.column_names.index(column), column, values)


LISTS = [[1.0, 2.0]] * (LENGTH + 1)

ARROW: dict[str, tuple[Callable[[pa.Table], pa.Table], dict[str, Any], str]] = {
    "compressed": (lambda table: table, {"compression": "zstd"}, "holds a compressed part"),
    "old": (
        lambda table: table,
        {"metadata_version": pa.ipc.MetadataVersion.V4},
        "holds a compressed part",
    ),
    "dictionary": (
        lambda t: rewritten(t, "rewards", pa.array([1.0] * (LENGTH + 1)).dictionary_encode()),
        {},
        "or a dictionary",
    ),
    "null": (
        lambda table: pa.table(
            {
                name: pa.Array.from_buffers(pa.null(), 2**31 - 1, [None])
                for name in table.column_names
            }
        ),
        {},
        "not plain numbers",
    ),
    "some null": (
        lambda t: rewritten(t, "rewards", pa.array([None, *range(LENGTH)])),
        {},
        "with 1 nulls",
    ),
    "lists": (lambda t: rewritten(t, "observations", pa.array(LISTS)), {}, "its space a Box"),
    "texts": (
        lambda t: rewritten(t, "rewards", pa.array(["x"] * (LENGTH + 1))),
        {},
        "'rewards' is string",
    ),
    "missing": (lambda table: table.drop_columns(["actions"]), {}, "actions"),
}


@pytest.mark.parametrize("name", ARROW)
def test_arrow_files_hold_plain_numbers_and_no_more_than_they_are(
    tmp_path: Path, name: str
) -> None:
    make, options, words = ARROW[name]
    folder = in_files(tmp_path / "set", "arrow")
    path = folder / "0/part-0.arrow"
    table = make(pa.ipc.open_file(path).read_all())
    written = pa.ipc.IpcWriteOptions(**options)
    with pa.ipc.new_file(str(path), table.schema, options=written) as file:
        file.write_table(table)
    with pytest.raises(DatasetError, match=words) as caught:
        load_dataset(folder)
    assert "\n" not in str(caught.value)


def test_a_parquet_file_that_grows_a_thousandfold_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hdf5_arrays, "ALWAYS_BYTES", 1 << 20)
    folder = in_files(tmp_path / "set", "parquet")
    assert load_dataset(folder).num_transitions == 2 * LENGTH
    path, rows = folder / "0/part-0.parquet", 1 << 20
    table = pa.table({"rewards": np.zeros(rows), "actions": np.zeros(rows)})
    pa.parquet.write_table(table, path)
    assert path.stat().st_size < 20_000
    with pytest.raises(DatasetError, match="made to fill it"):
        load_dataset(folder)


@pytest.mark.parametrize("kind", [pa.string(), pa.binary(), pa.binary(1 << 16)])
@pytest.mark.parametrize("nest", ["plain", "list", "struct"])
def test_one_text_in_a_million_rows_does_not_fill_the_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: pa.DataType, nest: str
) -> None:
    monkeypatch.setattr(hdf5_arrays, "ALWAYS_BYTES", 1 << 20)
    size, rows, path = 1 << 16, 1000, tmp_path / "part-0.parquet"
    texts = pa.array([b"x" * size] * rows, pa.binary(size)).cast(kind)
    column = {
        "plain": lambda: texts,
        "list": lambda: pa.ListArray.from_arrays(np.arange(rows + 1, dtype=np.int32), texts),
        "struct": lambda: pa.StructArray.from_arrays([texts], ["text"]),
    }[nest]()
    pa.parquet.write_table(pa.table({"infos": column}), path, compression="zstd")
    assert path.stat().st_size < 8_000
    with pytest.raises(DatasetError, match=r"is 65,536,000 bytes in memory: .* made to fill it"):
        read_table(path, "parquet", MemoryBudget())


@pytest.mark.parametrize("data_format", ["hdf5", "arrow", "parquet"])
def test_damaged_bytes_are_told_in_one_line_or_change_nothing_but_numbers(
    tmp_path: Path, data_format: str
) -> None:
    folder = tmp_path / "set"
    if data_format == "hdf5":
        write_dataset(folder, episodes(), SPEC)
        path = folder / "data/main_data.hdf5"
    else:
        folder = in_files(folder, data_format)
        path = folder / f"0/part-0.{data_format}"
    sound, random, lines = path.read_bytes(), np.random.default_rng(0), []
    for _ in range(200):
        content = np.frombuffer(sound, np.uint8).copy()
        places = random.integers(len(content), size=random.integers(1, 6))
        content[places] = random.integers(256, size=len(places))
        path.write_bytes(content.tobytes())
        try:
            assert len(load_dataset(folder).episodes) == 2
        except DatasetError as error:
            lines.append(str(error))
    assert lines
    assert not any("\n" in line for line in lines)


@pytest.mark.parametrize("make", [os.mkfifo, link_to("/dev/zero"), link_to("/etc")])
def test_relabelling_copies_files_and_follows_nothing(
    folder: Path, make: Callable[[Path], None]
) -> None:
    make(folder / "data/README")
    with pytest.raises(DatasetError, match=r"README: is a .*; only regular files"):
        relabel(folder, COST, folder / "out")
    assert not (folder / "out").exists()


@pytest.mark.parametrize("history", [5, "5", "{", "[" * 9999, '1]}, {"entries": [2'])
def test_a_history_of_relabelling_that_is_none_is_told(folder: Path, history: object) -> None:
    change(folder, dql_relabelled=history)
    with pytest.raises(DatasetError, match=r"'dql_relabelled' in metadata.json"):
        relabel(folder, COST, folder / "out")
