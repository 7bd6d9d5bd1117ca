"""Shards of a conversion: what is merged of them is what one process makes."""

import itertools
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from dql_core.data.curation.operations import choose_episodes, merge_datasets
from dql_core.data.curation.rules import Rules
from dql_core.data.curation.shards import Shard
from dql_core.data.dataset import load_dataset
from dql_core.errors import BagError, ConfigError, DatasetError
from dql_ros.contract import Contract, load_contract
from dql_ros.convert import convert as convert_module
from dql_ros.convert.convert import ConvertOptions, Source, convert
from tests.ros.convert.held_conversion import contents
from tests.ros.convert.test_convert import ARM, COMMANDS, Robot, run_dql
from tests.ros.convert.test_outcomes import Lever, rules

LENGTHS = (4, 6, 3, 5, 2)
WIDENING = ARM.read_text() + "\nbeyond_bounds: widen\n"


@pytest.fixture
def bags(tmp_path: Path, blank: Callable[[str], Any], record: Callable[..., Path]) -> list[Path]:
    """Five bags, of which the fourth has no episode and the last commands beyond the bounds."""
    robot, made = Robot(blank), []
    for seed, length in enumerate(LENGTHS):
        # The episodes of the first are terminated and truncated in one step.
        truncated = length + (seed > 0)
        messages = robot.run({"terminated": length, "truncated": truncated}, seed)
        if seed == 3:
            messages = [each for each in messages if each[1] != COMMANDS] + [
                robot.command(60 * 10**9, np.zeros(2))
            ]
            messages.sort(key=lambda message: message[2])
        if seed == 4:
            next(each for each in messages if each[1] == COMMANDS)[3].data = np.array([5.0, -7.0])
        made.append(record(tmp_path / f"bag{seed}", messages))
    return made


@pytest.fixture
def contract(tmp_path: Path) -> Path:
    path = tmp_path / "contract.yaml"
    path.write_text(WIDENING)
    return path


def shard(contract: Path, bags: list[Path], out: Path, number: int, of: int) -> dict[str, Any]:
    source = Source(load_contract(contract), bags, contract_text=contract.read_text())
    return convert(source, out, ConvertOptions(shard=Shard(number, of)))


@pytest.mark.parametrize("of", range(1, 6))
def test_all_shards_merged_are_what_one_process_makes(
    tmp_path: Path, bags: list[Path], contract: Path, of: int
) -> None:
    source = Source(load_contract(contract), bags, contract_text=contract.read_text())
    convert(source, tmp_path / "whole")
    parts = [tmp_path / f"part{number}" for number in range(1, of + 1)]
    counts = [
        shard(contract, bags, part, number, of)["totals"]["bags"]
        for number, part in enumerate(parts, start=1)
    ]
    assert sum(counts) == len(bags)
    assert max(counts) - min(counts) <= 1
    # In any order: the numbers say how they belong together.
    made = merge_datasets([*parts[1:], parts[0]], tmp_path / "merged")
    assert contents(tmp_path / "merged" / "data") == contents(tmp_path / "whole" / "data")
    assert (made.episodes, made.transitions) == (8, sum(2 * each + 1 for each in (4, 6, 3, 2)) - 1)
    assert load_dataset(tmp_path / "merged").spec.action[0].high == 5.0


def test_what_people_said_is_in_the_shards_too(
    tmp_path: Path, blank: Callable[[str], Any], record: Callable[..., Path]
) -> None:
    bags = []
    for word in ("success", "failure"):
        lever = Lever(blank, record)
        lever.drive(0.0, 4.0)
        lever.label(2.0, word)
        bags.append(lever.bag(tmp_path / word))
    source = Source(rules(), bags)
    convert(source, tmp_path / "whole")
    for number in (1, 2):
        convert(source, tmp_path / str(number), ConvertOptions(shard=Shard(number, 2)))
    merge_datasets([tmp_path / "1", tmp_path / "2"], tmp_path / "merged")
    assert contents(tmp_path / "merged" / "data") == contents(tmp_path / "whole" / "data")
    episodes = load_dataset(tmp_path / "merged", infos=("success",)).episodes
    assert [bool(each.infos["success"][-1]) for each in episodes] == [True, False]


def test_a_shard_is_an_ordinary_dataset_and_the_report_is_of_it_alone(
    tmp_path: Path, bags: list[Path], contract: Path
) -> None:
    report = shard(contract, bags, tmp_path / "part", 2, 2)
    assert [Path(row["bag"]).name for row in report["bags"]] == ["bag2", "bag3", "bag4"]
    assert report == json.loads((tmp_path / "part" / "report.json").read_text())
    assert [len(each) for each in load_dataset(tmp_path / "part").episodes] == [3, 4, 2, 3]


def test_a_shard_without_an_episode_is_a_part_that_cannot_be_learned_from(
    tmp_path: Path, bags: list[Path], contract: Path
) -> None:
    report = shard(contract, bags, tmp_path / "part", 4, 5)
    assert report["totals"]["episodes"] == 0
    assert (tmp_path / "part" / "report.html").is_file()
    with pytest.raises(DatasetError, match="holds no episode"):
        load_dataset(tmp_path / "part")


def test_what_are_not_all_shards_as_they_were_is_merged_as_anything_else(
    tmp_path: Path, bags: list[Path], contract: Path
) -> None:
    """And says what is missing."""
    parts = [tmp_path / f"part{number}" for number in (1, 2, 3)]
    for number, part in enumerate(parts, start=1):
        shard(contract, bags, part, number, 3)
    made = merge_datasets(parts[1:], tmp_path / "two")
    assert "of the conversion's 3 shards not here: 1" in made.notes
    document = json.loads((tmp_path / "two" / "data" / "metadata.json").read_text())
    assert len(json.loads(document["dql_lineage"])) == 1

    choose_episodes(parts[0], Rules(episodes="0"), tmp_path / "kept", drop=True)
    made = merge_datasets([tmp_path / "kept", *parts[1:]], tmp_path / "curated")
    document = json.loads((tmp_path / "curated" / "data" / "metadata.json").read_text())
    assert [each["operation"] for each in json.loads(document["dql_lineage"])] == ["drop", "merge"]


def test_a_shard_without_an_episode_does_not_hinder_a_merge_of_some(
    tmp_path: Path, bags: list[Path], contract: Path
) -> None:
    parts = [tmp_path / f"part{number}" for number in range(1, 6)]
    for number, part in enumerate(parts, start=1):
        shard(contract, bags, part, number, 5)
    empty = parts[3]
    made = merge_datasets([empty, *parts[:2]], tmp_path / "three")
    assert made.episodes == 4
    assert f"{empty}: a shard without an episode, which adds nothing" in made.notes
    assert "of the conversion's 5 shards not here: 3, 5" in made.notes
    shutil.copytree(empty, tmp_path / "copy")
    with pytest.raises(DatasetError, match="part4: neither this shard nor another one has"):
        merge_datasets([empty, tmp_path / "copy"], tmp_path / "none")
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("steps", [None, 0])
@pytest.mark.parametrize("count", [3, 2])
def test_a_shard_that_wrongly_says_it_is_empty_is_refused_not_left_out(
    tmp_path: Path, bags: list[Path], contract: Path, steps: int | None, count: int
) -> None:
    parts = [tmp_path / f"part{number}" for number in (1, 2, 3)]
    for number, part in enumerate(parts, start=1):
        shard(contract, bags, part, number, 3)
    path = parts[1] / "data" / "metadata.json"
    says = {"total_episodes": 0} | ({} if steps is None else {"total_steps": steps})
    path.write_text(json.dumps(json.loads(path.read_text()) | says))
    with pytest.raises(DatasetError, match=r"part2.*: damaged: 'total_episodes' .* is 0, .*"):
        merge_datasets(parts[:count], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_what_is_missing_is_named_also_where_a_shard_is_there_twice(
    tmp_path: Path, bags: list[Path], contract: Path
) -> None:
    parts = [tmp_path / f"part{number}" for number in (1, 2)]
    for number, part in enumerate(parts, start=1):
        shard(contract, bags, part, number, 3)
    shutil.copytree(parts[0], tmp_path / "copy")
    made = merge_datasets([*parts, tmp_path / "copy"], tmp_path / "out")
    assert "of the conversion's 3 shards not here: 3" in made.notes
    convert(Source(load_contract(contract), bags[3:]), tmp_path / "other")
    made = merge_datasets([*parts, tmp_path / "other"], tmp_path / "more")
    assert "of the conversion's 3 shards not here: 3" in made.notes


def test_a_shard_that_is_done_may_be_submitted_again(
    tmp_path: Path, bags: list[Path], contract: Path
) -> None:
    """As by a cluster that was not told of its end, which may have come before the last step."""
    source = Source(load_contract(contract), bags, contract_text=contract.read_text())
    part, again = tmp_path / "part", ConvertOptions(shard=Shard(2, 5), resume=True)
    report = convert(source, part, again)
    made = contents(part)
    (tmp_path / ".part.parts" / "left").mkdir(parents=True)
    assert convert(source, part, again) == json.loads(json.dumps(report))
    assert contents(part) == made
    assert not (tmp_path / ".part.parts").exists()

    others = [
        (source, replace(again, resume=False)),
        (source, replace(again, shard=Shard(3, 5))),
        (source, replace(again, shard=Shard(1, 3))),
        (source, replace(again, shard=None)),
        (replace(source, bags=bags[::-1]), again),
        (replace(source, contract_text=source.contract_text + "\n"), again),
    ]
    for other, options in others:
        with pytest.raises(DatasetError, match="part: already exists"):
            convert(other, part, options)
    (file,) = bags[1].glob("*.mcap")
    content = file.read_bytes()
    file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))  # of the same size
    with pytest.raises(DatasetError, match="part: already exists"):
        convert(source, part, again)
    assert contents(part) == made


def test_a_bag_that_is_named_to_two_shards_is_refused_as_in_one_process(
    tmp_path: Path, bags: list[Path], contract: Path
) -> None:
    (tmp_path / "link").symlink_to(bags[0])
    for twice in (bags[0], tmp_path / "link"):
        with pytest.raises(BagError, match="is named twice; name each bag once"):
            shard(contract, [*bags[:2], twice], tmp_path / "part", 2, 3)
    assert not (tmp_path / "part").exists()


@pytest.mark.parametrize("change", ["namespace", "version", "function"])
def test_shards_that_were_made_in_another_manner_are_no_single_process(
    tmp_path: Path,
    blank: Callable[[str], Any],
    record: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
    change: str,
) -> None:
    (tmp_path / f"manner_{change}.py").write_text("def reward(episode):\n    return [1.0]\n")
    monkeypatch.syspath_prepend(tmp_path)
    document = yaml.safe_load(ARM.read_text())
    document["reward"] = {"function": f"manner_{change}:reward"}
    contract = Contract.model_validate(document)
    bags = [
        record(
            tmp_path / f"bag{seed}",
            [
                message
                for namespace in ("", "/left")
                for message in Robot(blank, namespace).run({"terminated": 1}, seed)
            ],
        )
        for seed in range(2)
    ]
    source = Source(contract, bags)
    convert(source, tmp_path / "one", ConvertOptions(shard=Shard(1, 2)))
    if change == "namespace":
        source = Source(contract, bags, "/left")
    elif change == "version":
        monkeypatch.setattr(convert_module, "__version__", "0.0.1")
    else:
        with (tmp_path / f"manner_{change}.py").open("a") as file:
            file.write("# changed\n")
    convert(source, tmp_path / "two", ConvertOptions(shard=Shard(2, 2)))
    made = merge_datasets([tmp_path / "one", tmp_path / "two"], tmp_path / "out")
    assert any("shards of several conversions" in note for note in made.notes), made.notes


@pytest.mark.parametrize(
    "text", ['{"number": 1, "of": 2, "list": []}', '{"number": 1, "of": 2, "list": {"a": 1}}']
)
def test_what_is_said_of_a_shard_may_be_damaged(
    tmp_path: Path, bags: list[Path], contract: Path, text: str
) -> None:
    parts = [tmp_path / f"part{number}" for number in (1, 2)]
    for number, part in enumerate(parts, start=1):
        shard(contract, bags, part, number, 2)
    path = parts[0] / "data" / "metadata.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"dql_shard": text}))
    made = merge_datasets(parts, tmp_path / "out")
    assert any("shards of several conversions" in note for note in made.notes), made.notes


def test_a_bag_that_two_divisions_have_is_named(
    tmp_path: Path, bags: list[Path], contract: Path
) -> None:
    shard(contract, bags, tmp_path / "half", 1, 2)
    shard(contract, bags, tmp_path / "fifth", 2, 5)
    made = merge_datasets([tmp_path / "half", tmp_path / "fifth"], tmp_path / "out")
    twice = [note for note in made.notes if "count twice" in note]
    (note,) = twice
    assert "bag1 is in " in note


def test_a_bag_is_known_under_another_path_and_in_what_was_merged(
    tmp_path: Path, bags: list[Path], contract: Path
) -> None:
    copy = tmp_path / "copy" / "other name"
    shutil.copytree(bags[0], copy)
    for name, paths in {"one": bags[:1], "two": bags[1:3], "copied": [copy, bags[4]]}.items():
        shard(contract, paths, tmp_path / name, 1, 1)
    one, two, copied, both = (tmp_path / name for name in ("one", "two", "copied", "both"))

    def twice(*parts: Path) -> list[str]:
        made = merge_datasets(parts, tmp_path / f"out {'-'.join(each.name for each in parts)}")
        return [note for note in made.notes if "count twice" in note]

    again = ": its episodes count twice"
    assert twice(one, two) == []
    assert twice(one, copied) == [
        f"{copy} is in {one} and in {copied}, there from {bags[0]}{again}"
    ]
    merge_datasets([one, two], both)
    assert twice(both, two) == [f"{bag} is in {both} and in {two}{again}" for bag in bags[1:3]]
    assert len(twice(both, one, two)) == 3
    choose_episodes(both, Rules(episodes="0"), tmp_path / "kept", drop=False)
    (note,) = twice(two, tmp_path / "kept", one)
    assert (
        note == f"1 of the 2 episodes of {one} are in {tmp_path / 'kept'}, too: they count twice"
    )


def test_shards_of_lists_in_another_order_do_not_belong_together(
    tmp_path: Path, bags: list[Path], contract: Path
) -> None:
    """The third bag would be in both, and the second in none."""
    shard(contract, bags, tmp_path / "one", 1, 2)
    shard(contract, bags[::-1], tmp_path / "two", 2, 2)
    made = merge_datasets([tmp_path / "one", tmp_path / "two"], tmp_path / "out")
    assert not any("single process" in note for note in made.notes)
    assert any("shards of several conversions" in note for note in made.notes), made.notes


def test_bags_of_the_same_names_elsewhere_are_another_list(
    tmp_path: Path, bags: list[Path], contract: Path
) -> None:
    other = tmp_path / "other"
    for bag, twin in zip(bags, reversed(bags), strict=True):
        shutil.copytree(twin, other / bag.name)
    shard(contract, bags, tmp_path / "one", 1, 2)
    for number, twins in enumerate(([other / bag.name for bag in bags], bags)):
        shard(contract, twins, tmp_path / f"two{number}", 2, 2)
        made = merge_datasets(
            [tmp_path / "one", tmp_path / f"two{number}"], tmp_path / f"m{number}"
        )
        assert any("single process" in note for note in made.notes) == (twins is bags)
    # And so are other bags at the same place, as on another machine.
    shutil.rmtree(bags[0])
    shutil.copytree(bags[1], bags[0])
    shard(contract, bags, tmp_path / "three", 2, 2)
    made = merge_datasets([tmp_path / "one", tmp_path / "three"], tmp_path / "m3")
    assert any("shards of several conversions" in note for note in made.notes), made.notes


@pytest.mark.parametrize(
    "text", ["", "1", "0/2", "3/2", "1/2/3", "-1/2", "a/b", "1/0", "\u00b2/2"]
)
def test_what_is_no_shard_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=r"--shard .*: is not NUMBER/OF"):
        Shard.parse(text)


def test_every_item_is_in_one_shard() -> None:
    for count, of in itertools.product(range(1, 12), range(1, 12)):
        items = list(range(count))
        parts = [Shard(number, of).part(items) for number in range(1, of + 1)]
        assert list(itertools.chain(*parts)) == items
        assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_the_commands_make_one_dataset_of_shards(
    tmp_path: Path,
    bags: list[Path],
    contract: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    parts = [tmp_path / f"part{number}" for number in (1, 2)]
    for number, part in enumerate(parts, start=1):
        command = ("convert", contract, *bags, "--shard", f"{number}/2", "--out", part)
        assert run_dql(monkeypatch, *command) == 0
    assert run_dql(monkeypatch, "dataset", "merge", *parts, "--out", tmp_path / "merged") == 0
    assert "all shards of one conversion" in " ".join(capsys.readouterr().out.split())
    command = ("convert", contract, *bags, "--shard", "1/6", "--out", tmp_path / "none")
    assert run_dql(monkeypatch, *command) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line == (
        "dql: --shard 1/6: there are only 5 bags; divide into as many shards at most, and name "
        "all bags to each"
    )
