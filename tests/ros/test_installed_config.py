from pathlib import Path

import pytest

from dql_core.errors import ConfigError
from dql_core.sim.scara import CONTROL_PERIOD_S
from dql_ros.config_files import installed_config
from dql_ros.contract import contract_path, load_contract


def test_the_demo_robots_contract_has_the_rate_of_its_simulation() -> None:
    contract = load_contract(installed_config("contracts/scara.yaml"))
    assert contract.period_ns == round(CONTROL_PERIOD_S * 1e9)


def test_a_file_is_found_in_a_sourced_workspace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "share/dql_ros/config/train/mine.yaml"
    file.parent.mkdir(parents=True)
    file.touch()
    monkeypatch.setenv("AMENT_PREFIX_PATH", f"/opt/none:{tmp_path}")
    assert installed_config("train/mine.yaml") == file


def test_a_missing_file_is_named_with_where_it_was_sought() -> None:
    with pytest.raises(ConfigError, match=r"config/train/no\.yaml: not found under /"):
        installed_config("train/no.yaml")


def test_a_bare_name_means_a_contract_of_the_package_unless_there_is_such_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("hopper.yaml", "hopper"):
        assert contract_path(Path(name)) == installed_config("contracts/hopper.yaml")
    for given in ("no.yaml", "config/hopper.yaml", str(tmp_path / "hopper.yaml")):
        assert contract_path(Path(given)) == Path(given)
    Path("hopper.yaml").touch()
    assert contract_path(Path("hopper.yaml")) == Path("hopper.yaml")
