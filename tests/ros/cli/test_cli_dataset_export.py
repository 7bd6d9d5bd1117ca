"""`dql dataset export`: from a bag by way of LeRobot's format to the same dataset."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dql_core.data.dataset import load_dataset
from dql_ros.contract import load_contract
from dql_ros.convert.convert import Source, convert
from tests.cli_process import dql
from tests.ros.convert.test_convert import ARM, Robot


@pytest.fixture(name="converted")
def _converted(tmp_path: Path, record: Callable[..., Path], blank: Callable[[str], Any]) -> Path:
    """What a bag of three episodes becomes, of which one terminates."""
    endings = {"terminated": 8, "truncated": 6, "truncated again": 7}
    bag = record(tmp_path / "bag", Robot(blank).run(endings))
    convert(Source(load_contract(ARM), [bag]), tmp_path / "converted")
    return tmp_path / "converted"


def test_a_bag_comes_through_lerobots_format_to_the_bit(tmp_path: Path, converted: Path) -> None:
    exported = dql("dataset", "export", converted, "--format", "lerobot", "--out", tmp_path / "l")
    assert exported.returncode == 0, exported.stderr
    contract_hash = load_dataset(converted).spec.contract_hash[:12]
    for words in (
        "lerobot v3.0",
        "at 20 Hz",
        "not carried: bounds of the actions and observations",
        "not carried: units of 8 fields",
        f"not carried: the contract {contract_hash}",
        "not carried: the dataset's metadata: ",
    ):
        assert words in exported.stdout
    bounds = "--low=-2", "--high=2"
    imported = dql(
        "import", tmp_path / "l", "--format", "lerobot", *bounds, "--out", tmp_path / "back"
    )
    assert imported.returncode == 0, imported.stderr
    found, expected = load_dataset(tmp_path / "back"), load_dataset(converted)
    for mine, its in zip(found.episodes, expected.episodes, strict=True):
        for name in ("observations", "actions", "rewards"):
            arrays = getattr(mine, name), getattr(its, name)
            assert arrays[0].dtype == arrays[1].dtype
            np.testing.assert_array_equal(arrays[0].view(np.uint8), arrays[1].view(np.uint8))
        assert (mine.terminated, mine.truncated) == (its.terminated, its.truncated)
    assert sorted(episode.terminated for episode in expected.episodes) == [False, False, True]
    for key in ("robot", "rate_hz"):
        assert getattr(found.spec, key) == getattr(expected.spec, key)
    for kind in ("observation", "action"):
        fields = [getattr(each.spec, kind) for each in (found, expected)]
        assert [field.name for field in fields[0]] == [field.name for field in fields[1]]
    np.testing.assert_array_equal(found.spec.action_low, expected.spec.action_low)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nothing", "--format", "lerobot"], "nothing: neither a folder nor a local Minari id"),
        (["{converted}", "--format", "rlds"], "'rlds' is not"),
        (
            ["{converted}", "--format", "lerobot", "--fps", "5"],
            "is recorded at 20 Hz; leave --fps",
        ),
    ],
)
def test_a_mistake_is_one_line_and_leaves_nothing(
    tmp_path: Path, converted: Path, arguments: list[str], words: str
) -> None:
    given = [each.format(converted=converted) for each in arguments]
    result = dql("dataset", "export", *given, "--out", tmp_path / "out", cwd=tmp_path)
    assert result.returncode == 2
    assert words in result.stderr
    assert result.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()
