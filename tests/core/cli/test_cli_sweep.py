"""`dql sweep` refuses what cannot become a sweep in one line, before anything is written."""

import json
from pathlib import Path

import pytest

from tests.cli_process import dql
from tests.core.training.test_sweep_on_ray import CONFIG, _dataset

__all__ = ["_dataset"]
pytest.importorskip("ray")
pytestmark = pytest.mark.slow
SPACE = "policy.eta: [0.5, 1.0, 2.0]\n"


@pytest.fixture(name="place")
def _place(tmp_path: Path) -> Path:
    (tmp_path / "config.yaml").write_text(CONFIG)
    (tmp_path / "space.yaml").write_text(SPACE)
    return tmp_path


def refused(place: Path, dataset: Path, text: str) -> str:
    """Run a command that is refused; return what it says."""
    ended = dql(*text.format(data=dataset).split(), cwd=place)
    assert ended.returncode == 2, ended
    (line,) = ended.stderr.splitlines()
    return line


NEW = "sweep space.yaml --config config.yaml --dataset {data} --out out"


@pytest.mark.parametrize(
    ("command", "space", "wrong"),
    [
        (f"{NEW} --trials 1", SPACE, "--trials"),
        ("sweep --dataset {data} --out out", SPACE, "name a space to search: dql sweep SPACE"),
        (NEW.replace("space.", "spase."), SPACE, "no such file (did you mean 'space.yaml'?)"),
        (NEW, "policy.etta: [0.5, 1.0]\n", "policy.etta"),
        (NEW, "policy.eta: [0.5, -1.0]\n", "policy.eta=-1.0"),
        (f"{NEW} --set validation.rule=bc_loss", SPACE, "set it to judge, td_error or"),
        (f"{NEW} --set validation.held_out=0.2", SPACE, "holds out 1 episode, by which trials"),
        ("sweep space.yaml --dataset {data} --out out", SPACE, "--set validation.held_out=0.3"),
        ("sweep spase.yaml --dataset {data} --out out", SPACE, "spase.yaml: no such file"),
        (f"{NEW} --eval-env Nowhere-v0", SPACE, "Nowhere"),
        ("sweep space.yaml --dataset nowhere --out out", SPACE, "nowhere"),
        (f"{NEW} --set run.steps=0", SPACE, "run.steps"),
    ],
)
def test_what_cannot_begin_writes_nothing(
    place: Path, dataset: Path, command: str, space: str, wrong: str
) -> None:
    (place / "space.yaml").write_text(space)
    assert wrong in refused(place, dataset, command)
    assert not (place / "out").exists()


def test_a_folder_that_holds_something_is_not_touched(place: Path, dataset: Path) -> None:
    (place / "out").mkdir()
    (place / "out/note").write_text("mine")
    assert "out: already exists; name another --out folder" in refused(place, dataset, NEW)
    assert [path.name for path in (place / "out").iterdir()] == ["note"]


def sweep_folder(place: Path, **keys: object) -> Path:
    folder = place / "begun"
    folder.mkdir()
    (folder / "space.yaml").write_text(SPACE)
    config = {"validation": {"held_out": 0.4, "rule": "td_error"}}
    document = {"config": config, "trials": 2, "prune": True, "seed": 0} | keys
    (folder / "sweep.json").write_text(json.dumps(document))
    return folder


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("{", "begun/sweep.json: damaged"),
        ("{}", "begun/sweep.json: damaged: key 'config'"),
    ],
)
def test_a_damaged_sweep_is_named(place: Path, dataset: Path, text: str, wrong: str) -> None:
    (sweep_folder(place) / "sweep.json").write_text(text)
    assert wrong in refused(place, dataset, "sweep --resume begun")


@pytest.mark.parametrize(
    ("keys", "wrong"),
    [
        ({"prune": 1.5}, "damaged: key 'prune'"),
        ({"trials": 1}, "damaged: key 'trials'"),
        ({"config": 3}, "damaged: key 'config'"),
        ({"config": {}}, "compares trials neither by"),
        ({"config": {"validation": {"held_out": 0.4, "rule": "bc_loss"}}}, "neither by"),
    ],
)
def test_a_damaged_value_of_a_sweep_is_named(
    place: Path, dataset: Path, keys: dict[str, object], wrong: str
) -> None:
    sweep_folder(place, **keys)
    assert wrong in refused(place, dataset, "sweep --resume begun")


def test_what_goes_on_goes_on_as_it_began(place: Path, dataset: Path) -> None:
    folder = sweep_folder(place)
    assert "leave all away but --trials" in refused(
        place, dataset, "sweep --resume begun --seed 1"
    )
    assert "not a folder of 'dql sweep'" in refused(place, dataset, "sweep --resume .")
    assert "was begun without one" in refused(
        place, dataset, "sweep --resume begun --eval-env Pendulum-v1"
    )
    (folder / "space.yaml").unlink()
    assert "begun/space.yaml: no such file" in refused(place, dataset, "sweep --resume begun")
    (folder / "space.yaml").write_text(SPACE)
    trial = folder / "trial-00000000"
    trial.mkdir()
    (trial / "trial.json").write_text('{"parameters": {"policy.eta": 0.5}}')
    assert "not those of this folder's name" in refused(place, dataset, "sweep --resume begun")


def test_a_dataset_that_changed_is_not_gone_on_with(place: Path, dataset: Path) -> None:
    validation = {"held_out": 0.4, "rule": "td_error"}
    config = {"data": {"dataset": str(dataset)}, "validation": validation}
    begun = sweep_folder(place, config=config, data_sha256="0" * 64) / "sweep.json"
    before = begun.read_text()
    line = refused(place, dataset, "sweep --resume begun --trials 3")
    assert f"begun: the dataset {dataset} has changed since the sweep began (it has " in line
    assert "make a new sweep with --out, or restore the data" in line
    assert begun.read_text() == before


def test_somebody_elses_sweep_imports_no_module_unasked(place: Path, dataset: Path) -> None:
    env = {"env": "evil:Robot-v0"}
    config = {"evaluation": env}
    sweep_folder(place, config=config)
    (place / "evil.py").write_text("open('imported', 'w')\n")
    assert "if you trust it, say so again: --eval-env evil:Robot-v0" in refused(
        place, dataset, "sweep --resume begun"
    )
    assert not (place / "imported").exists()
