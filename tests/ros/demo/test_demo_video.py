from pathlib import Path

import pytest

from dql_core.data.dataset import write_dataset
from dql_ros.config_files import installed_config
from dql_ros.contract import load_contract
from dql_ros.demo.film import make_video
from tests.ros.demo.demo_data import recorded_episode


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    spec = load_contract(installed_config("contracts/scara.yaml")).policy_spec()
    write_dataset(tmp_path / "dataset", [recorded_episode("collision", 0.2)], spec)
    return tmp_path / "dataset"


def test_without_an_opengl_driver_there_is_a_reason_instead_of_a_film(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("__EGL_VENDOR_LIBRARY_FILENAMES", "/nonexistent")
    reason = make_video(tmp_path / "robot.mp4", {"Diffusion-QL": dataset}, 1)
    assert reason
    assert "\n" not in reason
    assert [path.name for path in tmp_path.iterdir()] == ["dataset"]
