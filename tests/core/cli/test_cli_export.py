import json
import shlex
import shutil
from pathlib import Path
from typing import Any

import pytest

from dql_core.cli.export import export
from dql_core.errors import BundleError, ConfigError, DqlError
from dql_core.export.c import source
from dql_core.export.c.folder import CHECK, FILES
from dql_core.runtime.bundle_policy import load_policy
from dql_core.runtime.manifest import MANIFEST_FILE, read_manifest
from tests.core.conftest import save_untrained


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


def test_c_beside_the_bundle_and_c_of_the_bundle_are_the_same(
    tiny_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    export(tiny_run, tmp_path / "bundle", c=tmp_path / "one")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"exported {tmp_path / 'bundle'}: diffusion_ql after 0 updates")
    assert lines[1].startswith(
        f"written {tmp_path / 'one'}: C99, tiny_decide, 8 candidates, softmax"
    )
    assert lines[1].endswith(f"cd {tmp_path / 'one'} && {CHECK}")
    assert len(lines) == 2
    export(tmp_path / "bundle", c=tmp_path / "two")
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    assert sorted(contents(tmp_path / "two")) == sorted(FILES)
    assert load_policy(tmp_path / "bundle").spec.robot == "tiny"


def test_the_command_that_compares_c_takes_any_folder(
    tiny_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    export(tiny_run, c=tmp_path / "my robot's policy")
    command = capsys.readouterr().out.rpartition("is to run: ")[2]
    words = shlex.split(command)
    assert words[:3] == ["cd", str(tmp_path / "my robot's policy"), "&&"]


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_c_has_the_choice_and_the_names_that_are_asked_for(
    tiny_run: Path, tiny_bundle: Path, tmp_path: Path
) -> None:
    export(tiny_bundle, candidates=3, selection="greedy", c=tmp_path / "c", c_prefix="left_arm")
    header = (tmp_path / "c/policy.h").read_text()
    assert "#define LEFT_ARM_NUM_CANDIDATES 3" in header
    assert "#define LEFT_ARM_USES_SELECTION 0" in header
    assert read_manifest(tiny_bundle).sha256 in header
    export(tiny_run, candidates=3, selection="greedy", c=tmp_path / "run", c_prefix="left_arm")
    for name in ("policy.h", "check.c"):
        one, other = ((tmp_path / folder / name).read_text() for folder in ("c", "run"))
        assert one.split("#ifndef")[-1] == other.split("#ifndef")[-1]


def test_what_c_cannot_be_written_of_leaves_no_bundle_either(
    tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source, "MAX_WEIGHTS", 100)
    with pytest.raises(BundleError, match=r"run: the policy has more than 100 weights"):
        export(tiny_run, tmp_path / "bundle", c=tmp_path / "c")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "name a folder, by --c for C"),
        ({"c_prefix": "arm", "out": "b"}, "--c-prefix is 'arm', but no C is written"),
        ({"c": "c", "c_prefix": "Arm"}, "the prefix 'Arm' is none for C"),
        ({"c": "c", "out": "b"}, "is a bundle already: --out is for a run; leave it out"),
        ({"out": "b"}, "--out is for a run; leave it out; its C goes to --c DIR"),
        ({"c": "c", "dataset": "d"}, "is a bundle already: --dataset is for a run"),
        ({"c": "c", "which": "last"}, "is a bundle already: --checkpoint is for a run"),
        ({"c": "c", "candidates": 10**8}, "num_candidates is 100000000, .*: choose among fewer"),
        ({"c": "c", "candidates": 1, "selection": "mode"}, "sample at least 5"),
        ({"c": "c", "out": "c/b"}, "one lies in the other; name two folders side by side"),
        ({"c": "."}, "already exists; name another --c folder or remove it"),
    ],
    ids=str,
)
def test_options_that_do_not_go_together_are_refused(
    tiny_bundle: Path,
    tmp_path: Path,
    options: dict[str, Any],
    words: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "here/mine").touch()
    monkeypatch.chdir(tmp_path / "here")
    paths = {name: Path(value) for name, value in options.items() if name in ("c", "out")}
    with pytest.raises(DqlError, match=words) as raised:
        export(tiny_bundle, **(options | paths))
    assert "\n" not in str(raised.value)
    assert [path.name for path in (tmp_path / "here").iterdir()] == ["mine"]


def test_how_much_of_a_chunk_is_executed_is_in_the_bundle(
    tiny_dataset: Path, tmp_path: Path
) -> None:
    run = save_untrained(tmp_path / "run", tiny_dataset, "diffusion_ql", horizon=4)
    export(run, tmp_path / "quarter")
    export(run, tmp_path / "three", execute=3)
    quarter, three = (read_manifest(tmp_path / name) for name in ("quarter", "three"))
    assert (quarter.execute, three.execute) == (None, 3)
    assert (quarter.executed, three.executed) == (1, 3)
    assert "execute" not in json.loads((tmp_path / "quarter" / MANIFEST_FILE).read_text())
    assert quarter.sha256 != three.sha256
    with pytest.raises(ConfigError, match=r"execute is 5, more than the actions of .*horizon 4"):
        export(run, tmp_path / "five", execute=5)
    assert not (tmp_path / "five").exists()
