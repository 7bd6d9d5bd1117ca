import subprocess
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from dql_core.data.dataset import load_dataset
from dql_core.data.metadata import has_rewards
from tests.cli_process import dql

pytestmark = pytest.mark.slow


@pytest.fixture
def d3rlpy_file(tmp_path: Path) -> Path:
    """Return a file of two episodes of four steps, the second of which terminates."""
    flags = np.zeros((2, 8))
    flags[0, 7], flags[1, [3, 7]] = 1, 1
    with h5py.File(tmp_path / "two.h5", "w") as file:
        file["observations"] = np.arange(8, dtype=np.float32)[:, None]
        file["actions"] = np.linspace(-0.5, 0.5, 8)[:, None]
        file["rewards"] = np.ones(8)
        file["terminals"], file["episode_terminals"] = flags
        file["version"] = "1.0"
    return tmp_path / "two.h5"


def dql_import(file: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return dql("import", file, *options)


def test_the_dataset_is_written_and_told(tmp_path: Path, d3rlpy_file: Path) -> None:
    out = tmp_path / "out"
    options = ["--format", "d3rlpy", "--out", str(out), "--low=-1", "--high", "1"]
    result = dql_import(d3rlpy_file, *options)
    assert result.returncode == 0, result.stderr
    for words in ("2 (1 terminated, 1 truncated)", "-1 to 1", "note: 1 of 8 rows make no trans"):
        assert words in result.stdout
    assert load_dataset(out).num_transitions == 7


def test_a_file_without_rewards_has_no_returns(tmp_path: Path) -> None:
    file, out = tmp_path / "two.npz", tmp_path / "out"
    steps = np.arange(5.0)[:, None]
    arrays: dict[str, Any] = {
        "obs": steps,
        "acts": steps[:4],
        "indices": np.zeros(0, int),
        "terminal": [False],
    }
    options = ("--format", "npz", "--low=-1", "--high", "9", "--out")
    for has_returns in (False, True):
        if has_returns:
            arrays["rews"] = np.zeros(4)
        np.savez(file, **arrays)
        folder = str(out / str(has_returns))
        imported = dql_import(file, *options, folder)
        assert imported.returncode == 0, imported.stderr
        assert ("mean return" in imported.stdout) == has_returns
        assert has_rewards(load_dataset(folder).metadata) == has_returns
        again = dql("import", folder, *("--format", "minari", *options[2:]), f"{folder}-again")
        assert ("mean return" in again.stdout) == has_returns


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--low", "-1;1", "--high", "1"], "--low is '-1;1'; give numbers between commas"),
        (["--time-limit", "3"], "has 4 steps, and --time-limit is 3"),
    ],
)
def test_a_mistake_is_one_line_and_leaves_nothing(
    tmp_path: Path, d3rlpy_file: Path, options: list[str], words: str
) -> None:
    out = tmp_path / "out"
    result = dql_import(d3rlpy_file, "--format", "d3rlpy", "--out", str(out), *options)
    assert result.returncode == 2
    assert words in result.stderr
    assert result.stderr.count("\n") == 1
    assert not out.exists()
