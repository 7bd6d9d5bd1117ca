import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from dql_core.cli.bench import bench
from dql_core.cli.export import export
from dql_core.errors import BundleError, ConfigError
from dql_core.export.bundle import export_bundle
from dql_core.export.plain_torch import PlainSelection
from tests.core.conftest import save_untrained


def test_bench_shows_and_writes_a_row_for_each_number_of_candidates(
    tiny_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bench(tiny_bundle, rounds=1, json_file=tmp_path / "new" / "bench.json")
    text = capsys.readouterr().out
    assert "8 *" in text
    assert "for the contract's 20 Hz" in text
    document = json.loads((tmp_path / "new" / "bench.json").read_text())
    rows = document["measurements"]
    assert [row["num_candidates"] for row in rows] == [1, 8, 10, 50]
    for row in rows:
        assert 0 < row["p50_us"] <= row["p95_us"] <= row["p99_us"] <= row["max_us"]
        assert row["times_faster_than_plain_torch"] > 1.0
    assert document["backend"] == "auto"


def test_of_chunks_it_says_how_many_periods_a_decision_may_take(
    tiny_dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = save_untrained(tmp_path, tiny_dataset, "diffusion_ql", horizon=4)
    verdicts = []
    for execute in (None, 4):
        export(run, tmp_path / f"{execute}", execute=execute)
        bench(tmp_path / f"{execute}", rounds=1)
        verdicts.append(capsys.readouterr().out.splitlines()[-1])
    assert verdicts == [
        "fast enough for the contract's 20 Hz: the next 4 actions are decided after 1, and may "
        "take 2 periods, 100 ms",
        "too slow for the contract's 20 Hz: the next 4 actions are decided after 4, and may take "
        "0 periods, 0 ms; choose among fewer candidates, execute fewer, or train longer chunks",
    ]


def test_without_torch_nothing_is_compared_and_that_is_said(
    tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    bench(tiny_bundle, rounds=1)
    assert "not compared with plain torch: torch is not installed" in capsys.readouterr().out


def test_a_policy_without_critic_is_measured_with_its_only_candidate(
    tiny_bc_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    export_bundle(tiny_bc_run, tmp_path / "b")
    bench(tmp_path / "b", rounds=1, json_file=tmp_path / "bench.json")
    rows = json.loads((tmp_path / "bench.json").read_text())["measurements"]
    assert [row["num_candidates"] for row in rows] == [1]
    assert "1 *" in capsys.readouterr().out


def test_torch_can_be_measured_as_the_back_end(tiny_bundle: Path, tmp_path: Path) -> None:
    bench(tiny_bundle, backend="torch", rounds=1, json_file=tmp_path / "bench.json")
    assert json.loads((tmp_path / "bench.json").read_text())["backend"] == "torch"


def test_wrong_arguments_are_refused(tiny_bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="no such bundle; make one with 'dql export'"):
        bench(tmp_path / "none")
    with pytest.raises(ConfigError, match="device is 'gpu'"):
        bench(tiny_bundle, device="gpu")


@pytest.mark.parametrize("num_candidates", [1, 50])
def test_plain_selection_gives_an_action_within_the_bounds(num_candidates: int) -> None:
    torch.manual_seed(0)
    selection = PlainSelection(3, 2, policy=(16, 2), critic=(8, 3), num_steps=5)
    action = selection(np.zeros(3, np.float32), num_candidates)
    assert action.shape == (2,)
    assert (np.abs(action) <= 1.0).all()
