from pathlib import Path

import pytest

from dql_core.data.dataset import write_dataset
from dql_core.errors import DqlError
from dql_core.training.run_files import read_records
from dql_core.training.saved_config import saved_config
from dql_ros.config_files import installed_config
from dql_ros.contract import load_contract
from dql_ros.demo.training import CURVE_FILE, configured_training, run_trainings
from tests.ros.demo.demo_data import recorded_episode

pytestmark = pytest.mark.slow


def test_a_line_that_is_still_being_written_is_left_out(tmp_path: Path) -> None:
    assert read_records(tmp_path / "none") == []
    (tmp_path / "lines").write_text('{"step": 1}\n{"ste')
    assert read_records(tmp_path / "lines") == [{"step": 1}]


def test_a_training_leaves_its_checkpoints_and_their_rollouts(tmp_path: Path) -> None:
    spec = load_contract(installed_config("contracts/scara.yaml")).policy_spec()
    episodes = [recorded_episode("success", x) for x in (0.2, 0.5)]
    write_dataset(tmp_path / "dataset", episodes, spec)
    home = tmp_path / "later"
    training = configured_training("diffusion_bc", tmp_path, 0, curve_seed=0, steps=2, home=home)
    run_trainings([training])
    assert saved_config(training.run).data.datasets == (str(home / "dataset"),)
    assert training.done() == training.amount
    points = read_records(training.run / CURVE_FILE)
    assert [point["step"] for point in points] == [1, 2]
    assert (training.run / "checkpoints" / "step-00000002").is_dir()


def test_a_failing_training_ends_the_others_and_says_why(tmp_path: Path) -> None:
    trainings = [
        configured_training(key, tmp_path, seed=0, curve_seed=0)
        for key in ("diffusion_bc", "diffusion_ql")
    ]
    with pytest.raises(DqlError, match=r"training diffusion_.* code 2: dataset: neither a folder"):
        run_trainings(trainings)
