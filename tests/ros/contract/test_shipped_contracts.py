"""The contracts that are shipped describe the simulated robots that they are named after."""

from pathlib import Path

import numpy as np
import pytest

from dql_core.errors import SpecMismatchError
from dql_ros.contract import load_contract
from dql_ros.sim.episodes import BUNDLED_ENVIRONMENT, open_environment

CONTRACTS = Path(__file__).parents[3] / "config" / "contracts"
SIMULATED = {
    "scara": "dql_core/ScaraReach-v0",
    "hopper": "Hopper-v5",
    "half_cheetah": "HalfCheetah-v5",
    "reacher": "Reacher-v5",
    "pusher": "Pusher-v5",
}


@pytest.mark.parametrize("robot", SIMULATED)
def test_the_environment_has_the_contracts_rate_and_bounds(robot: str) -> None:
    contract = load_contract(CONTRACTS / f"{robot}.yaml")
    assert contract.robot == robot
    environment = open_environment(SIMULATED[robot], contract)
    spec = contract.policy_spec()
    space = environment.action_space
    np.testing.assert_array_equal(space.low, spec.action_low)  # type: ignore[attr-defined]
    np.testing.assert_array_equal(space.high, spec.action_high)  # type: ignore[attr-defined]
    environment.close()


def test_another_robot_than_the_one_that_is_simulated_by_default_is_told_why() -> None:
    hopper = load_contract(CONTRACTS / "hopper.yaml")
    with pytest.raises(
        SpecMismatchError, match=r"does not fit 'hopper'.*demo's arm.*unless 'env'"
    ):
        open_environment(BUNDLED_ENVIRONMENT, hopper)
    with pytest.raises(SpecMismatchError, match=r"are needed$"):
        open_environment("Reacher-v5", hopper)
