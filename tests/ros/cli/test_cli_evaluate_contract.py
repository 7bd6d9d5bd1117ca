"""Policies of contracts that say more of the robot than an environment keeps."""

from pathlib import Path

import pytest

from dql_core.cli.evaluate import evaluate
from dql_core.errors import SpecMismatchError
from dql_core.sim import SCARA_ID
from tests.printed import words
from tests.ros.untrained import untrained_bundle

ARM = Path(__file__).parents[3] / "config" / "contracts" / "scara.yaml"


def test_the_past_is_not_observed_in_an_environment(tmp_path: Path) -> None:
    contract = tmp_path / "arm.yaml"
    contract.write_text(ARM.read_text() + "\nprevious_action: 1\n")
    with pytest.raises(
        SpecMismatchError,
        match=r"where 6 observation fields are needed, the past among them \(history, "
        r"previous_action\), which 'dql closed-loop' keeps",
    ):
        evaluate(untrained_bundle(tmp_path, contract), SCARA_ID, episodes=1)


def test_an_environment_that_is_quicker_than_the_contract_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stream = "  - topic: velocity_controller/commands\n"
    text = ARM.read_text()
    assert stream in text
    contract = tmp_path / "arm.yaml"
    for delay_s, is_told in ((0.1, True), (0.0, False)):
        contract.write_text(text.replace(stream, f"{stream}    delay_s: {delay_s}\n"))
        (tmp_path / str(delay_s)).mkdir()
        bundle = untrained_bundle(tmp_path / str(delay_s), contract)
        evaluate(bundle, SCARA_ID, episodes=1)
        told = (
            "'/velocity_controller/commands' takes effect after 0.1 s (delay_s), but in an "
            "environment at once, so that the policy drives another robot than it learned: take "
            "'dql closed-loop --faults command_latency_ms=100'"
        )
        assert (told in words(capsys.readouterr().out)) == is_told
