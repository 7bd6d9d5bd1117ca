"""What pages claim beside commands holds: files, a contract, the tests of the safety case."""

import re
from pathlib import Path

import pytest
import yaml

from dql_ros.contract import FaultRules
from tests.docs.shell_blocks import ROOT, blocks
from tests.ros.untrained import untrained_bundle

PAGES = sorted(
    page for kind in ("how-to", "tutorials") for page in (ROOT / "docs" / kind).glob("*.md")
)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_files_and_links_lead_somewhere(page: Path) -> None:
    text = page.read_text()
    for path in re.findall(r"\bconfig/[\w/.]+\w", text):
        assert (ROOT / path).exists(), path
    for target in re.findall(r"\]\(((?:\.\./)*[\w./-]+)(?:#[\w-]+)?\)", text):
        assert (page.parent / target).exists(), target


def test_the_contract_in_the_page_is_one() -> None:
    page = ROOT / "docs" / "how-to" / "run-it-on-my-robot.md"
    (text,) = re.findall(r"```yaml\n(.*?)```", page.read_text(), re.DOTALL)
    rules = FaultRules.model_validate(yaml.safe_load(text)["on_fault"])
    assert rules.deactivate_after_s == 5.0


def test_every_test_that_the_safety_case_names_exists() -> None:
    text = (ROOT / "docs" / "explanation" / "safety.md").read_text()
    rows = [line for line in text.splitlines() if line.startswith("| ") and "---" not in line]
    assert len(rows) > 20
    for row in rows[1:]:
        proofs = row.rsplit("|", 2)[1]
        names = re.findall(r"`([\w/.]+)`", proofs)
        assert names, f"no test: {row}"
        source = ""
        for name in names:
            if name.endswith(".py"):
                file, *_ = (ROOT / "tests" / "ros").rglob(name.removeprefix("tests/ros/"))
                source = file.read_text()
            elif name.startswith("test_"):
                assert f"def {name}(" in source, f"{name} is not where the row says: {row}"


def test_a_policy_acts_as_the_page_of_python_shows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = untrained_bundle(tmp_path, ROOT / "config" / "contracts" / "scara.yaml")
    (tmp_path / "runs" / "arm").mkdir(parents=True)
    bundle.rename(tmp_path / "runs" / "arm" / "bundle")
    monkeypatch.chdir(tmp_path)
    (code,) = (text for kind, text in blocks(ROOT / "docs/reference/api.md") if kind == "python")
    exec(compile(code, "api.md", "exec"), {})
    assert "shoulder_velocity" in capsys.readouterr().out
