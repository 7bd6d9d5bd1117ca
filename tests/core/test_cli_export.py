from pathlib import Path

import pytest

from dql_core.cli.export import export
from dql_core.errors import ConfigError
from dql_core.runtime.bundle_policy import load_policy


def test_export_writes_a_bundle_and_says_how_exact_it_is(
    tiny_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    export(tiny_run, tmp_path / "bundle", candidates=5, selection="greedy")
    assert load_policy(tmp_path / "bundle").choice.num_candidates == 5
    text = capsys.readouterr().out
    assert text.startswith(f"exported {tmp_path / 'bundle'}: diffusion_ql after 0 updates, ")
    assert "5 candidates, greedy; differs from the checkpoint by at most" in text
    assert text.count("\n") == 1


def test_impossible_choice_is_refused_and_nothing_is_written(
    tiny_bc_run: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="selection 'softmax' needs a critic"):
        export(tiny_bc_run, tmp_path / "bundle", selection="softmax")
    assert list(tmp_path.iterdir()) == []
