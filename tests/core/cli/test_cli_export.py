import json
import shutil
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


def test_a_run_alone_makes_no_environment_of_the_dataset_that_it_names(
    tiny_run_without_data: Path,
    tiny_dataset: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    shutil.copytree(tiny_dataset, tmp_path / "gone")  # where the run looks
    metadata = tmp_path / "gone/data/metadata.json"
    document = json.loads(metadata.read_text())
    del document["action_space"]
    spec = {"id": "X-v0", "entry_point": "os:system", "kwargs": {"command": f"touch {tmp_path}/m"}}
    metadata.write_text(json.dumps(document | {"env_spec": json.dumps(spec)}))
    export(tiny_run_without_data, tmp_path / "bundle")
    assert "'action_space' is missing in metadata.json" in caplog.text
    assert not (tmp_path / "m").exists()
    assert load_policy(tmp_path / "bundle").spec.robot == "tiny"


def test_an_absurd_number_of_candidates_is_refused_before_any_is_sampled(
    tiny_run: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=r"num_candidates is 1000000000, .*: choose among fewer"):
        export(tiny_run, tmp_path / "bundle", candidates=10**9)
    assert list(tmp_path.iterdir()) == []
