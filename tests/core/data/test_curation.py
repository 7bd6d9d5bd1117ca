"""New datasets out of finished ones: everything is carried over to the bit, or refused."""

import json
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import h5py
import minari
import numpy as np
import pytest
from minari.dataset.minari_storage import MinariStorage
from numpy.typing import NDArray

from dql_core.data.curation.lineage import dataset_sha256
from dql_core.data.curation.operations import (
    choose_episodes,
    merge_datasets,
    split_dataset,
    trim_episodes,
)
from dql_core.data.curation.rules import Rules
from dql_core.data.dataset import load_dataset, load_datasets, write_dataset
from dql_core.data.hdf5_arrays import replace_array
from dql_core.data.metadata import INPUTS_KEY, LINEAGE_KEY, NO_REWARDS_KEY
from dql_core.data.relabel import relabel
from dql_core.errors import ConfigError, DatasetError, DqlError, SpecMismatchError
from dql_core.rewards.call import RewardFunction
from dql_core.spec import CONTRACT_KEY, FieldSpec, PolicySpec
from tests.core.conftest import TINY_SPEC, tiny_episode
from tests.core.data.foreign import foreign_dataset

FORMATS = pytest.mark.parametrize("data_format", ["hdf5", "arrow", "parquet"])
EFFORT = [RewardFunction(function="dql_core.rewards:action_cost", arguments={"weights": 0.1})]


def files(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def metadata_of(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "data/metadata.json").read_text())
    return found


def stored(folder: Path, number: int) -> dict[str, NDArray[Any]]:
    """All arrays of an episode, by name."""
    found: dict[str, NDArray[Any]] = {}

    def look(name: str, node: Any) -> None:
        if isinstance(node, h5py.Dataset):
            found[name] = node[()]

    with h5py.File(folder / "data/main_data.hdf5") as file:
        file[f"episode_{number}"].visititems(look)
    return found


def attributes(folder: Path, number: int) -> dict[str, Any]:
    with h5py.File(folder / "data/main_data.hdf5") as file:
        return dict(file[f"episode_{number}"].attrs)


def content(values: NDArray[Any]) -> Any:
    """Bits of numbers, or texts."""
    return values.tolist() if values.dtype == object else values.tobytes()


def same(one: dict[str, NDArray[Any]], other: dict[str, NDArray[Any]]) -> bool:
    assert one.keys() == other.keys()
    return all(
        one[name].dtype == other[name].dtype
        and one[name].shape == other[name].shape
        and content(one[name]) == content(other[name])
        for name in one
    )


def tiny(folder: Path, lengths: tuple[int, ...] = (4, 7), seed: int = 0, **changes: Any) -> Path:
    """Episodes of random numbers; those of odd lengths terminate."""
    rng = np.random.default_rng(seed)
    episodes = [tiny_episode(rng, length, terminated=length % 2 == 1) for length in lengths]
    extra = changes.pop("extra_metadata", {})
    write_dataset(folder, episodes, replace(TINY_SPEC, **changes), extra_metadata=extra)
    return folder


def label(folder: Path, **infos: dict[int, Any]) -> Path:
    """Give episodes infos, by number."""
    with h5py.File(folder / "data/main_data.hdf5", "r+") as file:
        for name, by_episode in infos.items():
            for number, values in by_episode.items():
                file.create_dataset(f"episode_{number}/infos/{name}", data=values)
    return folder


def test_episodes_that_two_datasets_have_are_counted(tmp_path: Path) -> None:
    one, other = tiny(tmp_path / "one", (4, 7, 5)), tiny(tmp_path / "other", (6, 5), seed=1)
    choose_episodes(one, Rules(episodes="1-2"), tmp_path / "kept", drop=False)
    merge_datasets([tmp_path / "kept", other], tmp_path / "both")
    made = merge_datasets([one, tmp_path / "both"], tmp_path / "out")
    assert [note for note in made.notes if "count twice" in note] == [
        f"2 of the 4 episodes of {tmp_path / 'both'} are in {one}, too: they count twice"
    ]
    made = merge_datasets([one, other], tmp_path / "apart")
    assert not any("count twice" in note for note in made.notes)


@pytest.mark.parametrize("entries", ["[1]", '[{"operation": "merge", "inputs": [1]}]'])
def test_what_a_lineage_says_may_be_anything(tmp_path: Path, entries: str) -> None:
    one = tiny(tmp_path / "one", extra_metadata={LINEAGE_KEY: entries})
    made = merge_datasets([one, tiny(tmp_path / "two", seed=1)], tmp_path / "out")
    assert made.episodes == 4


def test_files_that_imports_share_are_no_episodes(tmp_path: Path) -> None:
    def imported(name: str, seed: int, **files: str) -> Path:
        inputs = json.dumps({"meta/tasks": "equal", **files})
        return tiny(tmp_path / name, seed=seed, extra_metadata={INPUTS_KEY: inputs})

    one, two = imported("one", 0, data="a"), imported("two", 1, data="b")
    again = imported("again", 2, data="a")
    made = merge_datasets([one, two, again], tmp_path / "out")
    (note,) = (note for note in made.notes if "count twice" in note)
    assert note.startswith(f"meta/tasks, data is in {one} and in {again}: ")


def test_merging_carries_every_array_to_the_bit_and_changes_no_input(tmp_path: Path) -> None:
    one = foreign_dataset(tmp_path / "one", "hdf5")
    two = foreign_dataset(tmp_path / "two", "hdf5", lengths=(2, 70), rewards=np.float64)
    label(two, note={0: np.array(["ä", "b"], dtype=h5py.string_dtype())}, odd={1: np.nan})
    before = files(one) | files(two)
    made = merge_datasets([one, two], tmp_path / "out")
    assert (made.episodes, made.transitions) == (5, 15 + 72)
    assert files(one) | files(two) == before
    sources = [(one, 0), (one, 1), (one, 2), (two, 0), (two, 1)]
    for number, (source, old) in enumerate(sources):
        assert same(stored(source, old), stored(tmp_path / "out", number))
        expected = attributes(source, old) | {"id": number}
        assert attributes(tmp_path / "out", number) == expected
    assert stored(tmp_path / "out", 3)["infos/note"].tolist() == ["ä".encode(), b"b"]
    document = metadata_of(tmp_path / "out")
    for key in ("observation_space", "action_space", "dataset_id", "author", "notes"):
        assert document[key] == metadata_of(one)[key]


@FORMATS
def test_minari_reads_what_was_merged(tmp_path: Path, data_format: str) -> None:
    one = foreign_dataset(tmp_path / "one", data_format)
    two = foreign_dataset(tmp_path / "two", "hdf5", lengths=(4,))
    made = merge_datasets([one, two], tmp_path / "out")
    assert [note for note in made.notes if "stored as hdf5" in note] == (
        [] if data_format == "hdf5" else [f"stored as hdf5, not {data_format}"]
    )
    new = minari.MinariDataset(tmp_path / "out/data")
    assert (new.total_episodes, new.total_steps) == (4, 19)
    old = list(minari.MinariDataset(one / "data").iterate_episodes())
    for before, after in zip(old, new.iterate_episodes(range(3)), strict=True):
        for part in ("state", "age"):
            np.testing.assert_array_equal(before.observations[part], after.observations[part])
            assert before.observations[part].dtype == after.observations[part].dtype
        np.testing.assert_array_equal(before.infos["heat"], after.infos["heat"])
        for name in ("actions", "rewards", "terminations", "truncations"):
            np.testing.assert_array_equal(getattr(before, name), getattr(after, name))
    described = list(new.storage.get_episode_metadata(range(4)))
    assert [each["seed"] for each in described] == [7, 8, 9, 7]
    assert [each["place"] for each in described] == ["hall 0", "hall 1", "hall 2", "hall 0"]
    assert isinstance(new.observation_space, gym.spaces.Dict)


def test_merging_gives_what_training_on_both_gives(tmp_path: Path) -> None:
    wide = tuple(replace(each, source={"topic": each.name}) for each in TINY_SPEC.action)
    observation = tuple(replace(each, source={"topic": "o"}) for each in TINY_SPEC.observation)
    narrow = (replace(wide[0], low=-1.0), replace(wide[1], high=0.5))
    one = tiny(tmp_path / "one", action=wide, observation=observation)
    two = tiny(tmp_path / "two", (5,), seed=1, action=narrow, observation=observation)
    made = merge_datasets([one, two], tmp_path / "out")
    assert "limits of fields differ: the looser ones hold" in made.notes
    merged, both = load_dataset(tmp_path / "out"), load_datasets([one, two])
    assert merged.spec == both.spec
    box = minari.MinariDataset(tmp_path / "out/data").action_space
    assert isinstance(box, gym.spaces.Box)
    np.testing.assert_array_equal(box.low, np.array([-2.0, 0.0], "f4"))
    np.testing.assert_array_equal(box.high, np.array([1.0, 0.5], "f4"))
    for old, new in zip(both.episodes, merged.episodes, strict=True):
        assert (old.terminated, old.truncated) == (new.terminated, new.truncated)
        for name in ("observations", "actions", "rewards"):
            assert getattr(old, name).tobytes() == getattr(new, name).tobytes()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"rate_hz": 10.0}, "rate_hz is 20.0 in the former and 10.0 in the latter"),
        ({"robot": "huge"}, "robot is 'tiny' in the former and 'huge' in the latter"),
        (
            {"action": (replace(TINY_SPEC.action[0], unit="mN m"), TINY_SPEC.action[1])},
            "unit is 'N m' in the former and 'mN m' in the latter",
        ),
        ({"observation": TINY_SPEC.observation[::-1]}, "name is 'elbow'"),
    ],
)
def test_merging_refuses_numbers_that_mean_other_things(
    tmp_path: Path, changes: dict[str, Any], words: str
) -> None:
    one, two = tiny(tmp_path / "one"), tiny(tmp_path / "two", **changes)
    with pytest.raises(SpecMismatchError, match=words) as refused:
        merge_datasets([one, two], tmp_path / "out")
    assert "convert both with one contract" in str(refused.value)
    assert not (tmp_path / "out").exists()


def test_merging_refuses_zeros_beside_rewards_and_names_rewards_of_other_origin(
    tmp_path: Path,
) -> None:
    one = tiny(tmp_path / "one")
    two = tiny(tmp_path / "two", seed=1, extra_metadata={NO_REWARDS_KEY: True})
    with pytest.raises(DatasetError, match=r"two has no rewards and .*one has"):
        merge_datasets([one, two], tmp_path / "out")
    relabel(two, EFFORT, tmp_path / "paid")
    made = merge_datasets([one, tmp_path / "paid"], tmp_path / "out")
    assert any("not of the same origin" in note for note in made.notes)
    assert load_dataset(tmp_path / "out").num_transitions == 22


def test_merging_needs_two_datasets_that_are_not_one(tmp_path: Path) -> None:
    one = tiny(tmp_path / "one")
    with pytest.raises(ConfigError, match="name another one"):
        merge_datasets([one], tmp_path / "out")
    with pytest.raises(DatasetError, match="named twice"):
        merge_datasets([one, one / "data"], tmp_path / "out")
    made = merge_datasets([one, tiny(tmp_path / "two")], tmp_path / "out")
    assert any("are equal: its episodes count twice" in note for note in made.notes)


def test_what_differs_is_in_the_lineage_and_the_rest_stays(tmp_path: Path) -> None:
    one = tiny(tmp_path / "one", extra_metadata={"operator": "Ann", CONTRACT_KEY: "robot: tiny"})
    two = tiny(tmp_path / "two", seed=1, extra_metadata={"operator": "Ben"})
    with pytest.raises(DatasetError, match="rewards"):  # a contract without them
        merge_datasets([one, two], tmp_path / "out")
    three = tiny(tmp_path / "three", seed=2, extra_metadata={"hall": 3})
    made = merge_datasets([two, three], tmp_path / "out")
    assert made.notes == ("metadata that differ are in the lineage: hall, operator",)
    document = metadata_of(tmp_path / "out")
    assert "operator" not in document
    assert document["dql_policy_spec"] == metadata_of(two)["dql_policy_spec"]
    (entry,) = json.loads(document[LINEAGE_KEY])
    assert [each["metadata"] for each in entry["inputs"]] == [{"operator": "Ben"}, {"hall": 3}]


def test_the_hash_of_a_dataset_is_what_the_shell_says(tmp_path: Path) -> None:
    folder = foreign_dataset(tmp_path / "set", "parquet") / "data"
    script = "find . -type f | sort | xargs sha256sum | sha256sum"
    environment = {"LC_ALL": "C", "PATH": "/usr/bin:/bin"}
    done = subprocess.run(
        ["sh", "-c", script],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert dataset_sha256(folder) == done.stdout.split()[0]


def test_lineage_tells_each_step_once_and_who_made_each_input(tmp_path: Path) -> None:
    source = tiny(tmp_path / "source", (4, 5, 6, 7, 8))
    split_dataset(source, {"a": 0.6, "b": 0.4}, tmp_path / "parts", seed=3)
    parts = [tmp_path / "parts/a", tmp_path / "parts/b"]
    merge_datasets(parts, tmp_path / "both")
    choose_episodes(tmp_path / "both", Rules(max_length=7), tmp_path / "kept", drop=False)
    entries = json.loads(metadata_of(tmp_path / "kept")[LINEAGE_KEY])
    assert [each["operation"] for each in entries] == ["split", "split", "merge", "keep"]
    assert entries[0]["inputs"][0]["sha256"] == dataset_sha256(source / "data")
    assert entries[0]["arguments"] == {"parts": {"a": 0.6, "b": 0.4}, "seed": 3, "part": "a"}
    assert [each["sha256"] for each in entries[2]["inputs"]] == [
        dataset_sha256(part / "data") for part in parts
    ]
    makers = [each["made_by"] for each in entries[2]["inputs"]]
    assert None not in makers
    assert makers[0] != makers[1]
    assert entries[3]["arguments"] == {"max_length": 7}
    again = merge_datasets([tmp_path / "kept", tmp_path / "parts/a"], tmp_path / "again")
    operations = [
        each["operation"] for each in json.loads(metadata_of(tmp_path / "again")[LINEAGE_KEY])
    ]
    assert operations == ["split", "split", "merge", "keep", "merge"]
    assert again.episodes == 7


def test_splitting_puts_each_whole_episode_into_one_part_by_the_seed(tmp_path: Path) -> None:
    source = foreign_dataset(tmp_path / "set", "hdf5", lengths=tuple(range(2, 12)))
    shares = {"train": 7.0, "test": 2.0, "rest": 1.0}
    made = split_dataset(source, shares, tmp_path / "out", seed=1)
    assert [each.episodes for each in made] == [7, 2, 1]
    lengths = {
        name: [len(e.rewards) for e in minari.MinariDataset(tmp_path / "out" / name / "data")]
        for name in shares
    }
    assert sorted(length for part in lengths.values() for length in part) == list(range(2, 12))
    assert all(each == sorted(each) for each in lengths.values())
    for number, length in enumerate(lengths["train"]):
        assert same(stored(source, length - 2), stored(tmp_path / "out/train", number))
    split_dataset(source, shares, tmp_path / "again", seed=1)
    split_dataset(source, shares, tmp_path / "other", seed=2)
    first = [path.read_bytes() for path in sorted((tmp_path / "out").rglob("*.hdf5"))]
    again = [path.read_bytes() for path in sorted((tmp_path / "again").rglob("*.hdf5"))]
    assert [len(each) for each in first] == [len(each) for each in again]
    drawn = [
        [len(e.rewards) for e in minari.MinariDataset(tmp_path / name / "train/data")]
        for name in ("again", "other")
    ]
    assert drawn[0] == lengths["train"]
    assert drawn[1] != lengths["train"]


def test_a_small_part_gets_one_episode_and_too_many_parts_are_refused(tmp_path: Path) -> None:
    source = tiny(tmp_path / "set", (4, 5, 6))
    made = split_dataset(source, {"most": 0.99, "few": 0.01}, tmp_path / "out")
    assert [each.episodes for each in made] == [2, 1]
    with pytest.raises(DatasetError, match=r"has 3 episodes, and .* 4 parts"):
        split_dataset(source, dict.fromkeys("abcd", 1.0), tmp_path / "four")
    for shares, words in (
        ({"../a": 1.0, "b": 1.0}, "cannot name a folder"),
        ({"a": 0.0, "b": 1.0}, "must be positive"),
        ({"a": float("inf"), "b": 1.0}, "must be positive"),
        ({"a": 1.0}, "fewer than two parts"),
    ):
        with pytest.raises(ConfigError, match=words):
            split_dataset(source, shares, tmp_path / "bad")
    assert not (tmp_path / "bad").exists()


@FORMATS
def test_trimming_cuts_every_row_of_time_and_leaves_the_rest(
    tmp_path: Path, data_format: str
) -> None:
    source = foreign_dataset(tmp_path / "set", data_format, lengths=(9, 6))
    plain = tmp_path / "plain"
    choose_episodes(source, Rules(max_length=99), plain, drop=False)
    label(plain, gain={0: np.arange(3.0), 1: 2.5}, mode={0: np.arange(9), 1: np.arange(6)})
    made = trim_episodes(plain, Rules(min_length=7), tmp_path / "out", begin=2, end=3)
    assert (made.episodes, made.transitions, made.of_transitions) == (2, 10, 15)
    assert made.notes == ("cut: 1 episode of 2",)
    old, new = stored(plain, 0), stored(tmp_path / "out", 0)
    for name, values in old.items():
        rows = {"obs": slice(2, 7), "inf": slice(2, 7)}.get(name[:3], slice(2, 6))
        if name == "infos/mode":
            rows = slice(2, 6)
        if name == "infos/gain":
            rows = slice(None)
        if name != "truncations":
            assert new[name].tobytes() == values[rows].tobytes(), name
        assert new[name].dtype == values.dtype
    assert new["truncations"].tolist() == [False, False, False, True]
    assert same(stored(plain, 1), stored(tmp_path / "out", 1))
    assert "seed" not in attributes(tmp_path / "out", 0)  # its reset is cut off
    assert attributes(tmp_path / "out", 0)["total_steps"] == 4
    assert attributes(tmp_path / "out", 1)["seed"] == 8
    new_set = minari.MinariDataset(tmp_path / "out/data")
    assert [len(each) for each in new_set.iterate_episodes()] == [4, 6]


@pytest.mark.parametrize("end", [0, 1])
def test_an_episode_that_is_cut_at_its_end_is_truncated(tmp_path: Path, end: int) -> None:
    source = tiny(tmp_path / "set", (5, 6))
    made = trim_episodes(source, Rules(), tmp_path / "out", begin=1, end=end)
    first, second = load_dataset(tmp_path / "out").episodes
    assert (first.terminated, first.truncated) == (end == 0, end == 1)
    assert (second.terminated, second.truncated) == (False, True)
    assert any("now count as truncated" in note for note in made.notes) == (end == 1)


def test_trimming_refuses_to_leave_nothing_with_a_remedy_that_works(tmp_path: Path) -> None:
    source = tiny(tmp_path / "set", (3, 5, 8))
    with pytest.raises(DatasetError, match="2 episodes of 5 steps or fewer") as refused:
        trim_episodes(source, Rules(), tmp_path / "out", begin=2, end=3)
    assert f"dql dataset drop {source} --max-length 5 --out DIR" in str(refused.value)
    choose_episodes(source, Rules(max_length=5), tmp_path / "long", drop=True)
    trim_episodes(tmp_path / "long", Rules(), tmp_path / "out", begin=2, end=3)
    assert load_dataset(tmp_path / "out").num_transitions == 3
    with pytest.raises(ConfigError, match="needs --begin or --end"):
        trim_episodes(source, Rules(), tmp_path / "none")


REFUSALS: list[tuple[Callable[[Path, Path], Any], str]] = [
    (lambda source, out: merge_datasets([source, source.parent / "no"], out), "neither a folder"),
    (
        lambda source, out: choose_episodes(source, Rules("0-1"), out, drop=True),
        "nothing would be",
    ),
    (lambda source, out: choose_episodes(source, Rules(), out, drop=True), "needs a rule"),
    (
        lambda source, out: choose_episodes(source, Rules("1"), source / "data/x", drop=True),
        "insi",
    ),
    (lambda source, out: choose_episodes(source, Rules("1"), source, drop=True), "already exists"),
]


@pytest.mark.parametrize(("act", "words"), REFUSALS)
def test_a_refusal_leaves_nothing(
    tmp_path: Path, act: Callable[[Path, Path], Any], words: str
) -> None:
    source = tiny(tmp_path / "set")
    before = files(source)
    with pytest.raises(DqlError, match=words) as refused:
        act(source, tmp_path / "out")
    assert "\n" not in str(refused.value)
    assert files(tmp_path) == before
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


def test_a_link_into_the_dataset_is_no_other_place(tmp_path: Path) -> None:
    source = tiny(tmp_path / "set")
    (tmp_path / "link").symlink_to(source / "data")
    with pytest.raises(DatasetError, match="link/x: lies inside the dataset"):
        choose_episodes(source, Rules("1"), tmp_path / "link/x", drop=True)


def test_a_damaged_input_is_refused_whole(tmp_path: Path) -> None:
    one, two = tiny(tmp_path / "one"), tiny(tmp_path / "two", seed=1)
    with h5py.File(two / "data/main_data.hdf5", "r+") as file:
        del file["episode_1"]
    with pytest.raises(DatasetError, match="episode_1"):
        merge_datasets([one, two], tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one", "two"]


def test_nothing_that_lies_elsewhere_is_copied(tmp_path: Path) -> None:
    """Infos are copied unread, so that links in them must be found."""
    (tmp_path / "secret").write_bytes(b"12345678")
    hard = np.zeros(4)
    edits: list[Callable[[h5py.Group], Any]] = [
        lambda infos: infos.__setitem__("x", h5py.ExternalLink("/etc/passwd", "/")),
        lambda infos: infos.__setitem__("x", h5py.SoftLink("/episode_0/actions")),
        lambda infos: infos.__setitem__("x", infos.create_dataset("y", data=hard)),
        lambda infos: infos.__setitem__("x", np.dtype("f4")),
        lambda infos: infos.create_dataset(
            "x", (8,), "u1", external=[(str(tmp_path / "secret"), 0, 8)]
        ),
    ]
    for number, edit in enumerate(edits):
        source = tiny(tmp_path / f"set{number}")
        with h5py.File(source / "data/main_data.hdf5", "r+") as file:
            edit(file.create_group("episode_0/infos/deep"))
        with pytest.raises(DatasetError, match=r"infos/deep/(x|y)"):
            choose_episodes(source, Rules("0"), tmp_path / "out", drop=False)
        assert not (tmp_path / "out").exists()


def test_an_info_that_is_stored_nowhere_does_not_fill_the_memory(tmp_path: Path) -> None:
    source = tiny(tmp_path / "set")
    with h5py.File(source / "data/main_data.hdf5", "r+") as file:
        file.create_dataset("episode_0/infos/big", (5, 10**10), "f8", chunks=(1, 1024))
    choose_episodes(source, Rules("0"), tmp_path / "whole", drop=False)
    with pytest.raises(DatasetError, match=r"'big' of episode 0 is .* made to fill it"):
        trim_episodes(source, Rules(), tmp_path / "out", begin=1)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("value", [[1, "a"], [[1], [1, 2]], 10**30, "a\0b", [None], [0] * 20_000])
def test_what_is_no_attribute_of_hdf5_is_named(tmp_path: Path, value: Any) -> None:
    source = foreign_dataset(tmp_path / "set", "arrow")
    path = source / "data/1/metadata.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"odd": value}))
    with pytest.raises(
        DatasetError, match=r"1/metadata.json: 'odd' cannot be written as an attri"
    ):
        choose_episodes(source, Rules("0-1"), tmp_path / "out", drop=False)
    assert not (tmp_path / "out").exists()


def test_a_dataset_without_a_transition_is_not_made(tmp_path: Path) -> None:
    source = tiny(tmp_path / "set")
    with h5py.File(source / "data/main_data.hdf5", "r+") as file:
        for name, keep in (("observations", 1), ("actions", 0), ("rewards", 0)):
            replace_array(file["episode_0"], name, file[f"episode_0/{name}"][:keep])
        for name in ("terminations", "truncations"):
            replace_array(file["episode_0"], name, file[f"episode_0/{name}"][:0])
    document = metadata_of(source)
    (source / "data/metadata.json").write_text(json.dumps(document | {"total_steps": 7}))
    with pytest.raises(DatasetError, match="nothing would be left but episodes without a trans"):
        choose_episodes(source, Rules("0"), tmp_path / "out", drop=False)
    assert not (tmp_path / "out").exists()


def test_the_largest_shares_divide_all_episodes(tmp_path: Path) -> None:
    source = tiny(tmp_path / "set", (3, 4, 5, 6))
    made = split_dataset(source, {"a": 1.5e308, "b": 1.5e308}, tmp_path / "out")
    assert [each.episodes for each in made] == [2, 2]


def test_many_episodes_are_copied_in_their_order(tmp_path: Path) -> None:
    """An HDF5 file is opened anew after 64 episodes."""
    spec = PolicySpec("slider", 0.0, (FieldSpec("x"),), (FieldSpec("v", "", -1.0, 1.0),))
    box = gym.spaces.Box(-1, 1, (1,))
    folder = tmp_path / "set"
    (folder / "data").mkdir(parents=True)
    storage = MinariStorage.new(folder / "data", gym.spaces.Box(-np.inf, np.inf, (1,)), box)
    storage.update_metadata({"dataset_id": spec.robot, "minari_version": minari.__version__})
    flags = np.zeros(1, dtype=bool)
    storage.update_episodes(
        minari.data_collector.EpisodeBuffer(
            None, None, None, np.full((2, 1), i, "f4"), np.zeros((1, 1), "f4"), flags, flags, flags
        )
        for i in range(150)
    )
    choose_episodes(folder, Rules("0-9"), tmp_path / "out", drop=True)
    firsts = [each.observations[0, 0] for each in load_dataset(tmp_path / "out").episodes]
    assert firsts == list(range(10, 150))
