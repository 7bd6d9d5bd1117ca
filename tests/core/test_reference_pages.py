"""The reference pages that a script writes say what the code says."""

import ast
import re
from pathlib import Path

import numpy as np
import pytest

from dql_core.config import TrainConfig
from dql_core.rewards import LoggedEpisode
from dql_core.rewards import __all__ as names
from dql_core.spec import FieldSpec, PolicySpec
from scripts.write_reference import pages

PAGES = {path.name: path for path in pages()}


@pytest.mark.parametrize("path", pages(), ids=lambda path: path.name)
def test_a_page_is_what_the_script_writes(path: Path) -> None:
    assert path.read_text() == pages()[path], "run: python scripts/write_reference.py"


def test_every_training_key_has_a_row() -> None:
    text = PAGES["training.md"].read_text()
    for section, keys in TrainConfig().model_dump().items():
        if isinstance(keys, dict):
            part = text.split(f"\n## {section}\n")[1].split("\n## ")[0]
            assert re.findall(r"^\| `(\w+)` \|", part, re.MULTILINE) == list(keys)
        else:
            assert f"\n| `{section}` |" in text


def test_every_function_of_the_package_is_on_the_page() -> None:
    text = PAGES["rewards.md"].read_text()
    shown = re.findall(r"^### dql_core.rewards:(\w+)$", text, re.MULTILINE)
    assert sorted(shown) == sorted(set(names) - {"LoggedEpisode"})


def test_the_example_of_a_reward_function_works() -> None:
    code = re.findall(r"```python\n(.*?)```", PAGES["rewards.md"].read_text(), re.DOTALL)[0]
    namespace: dict[str, object] = {}
    exec(compile(ast.parse(code), "example", "exec"), namespace)
    smooth = namespace["smooth"]
    assert callable(smooth)
    spec = PolicySpec("arm", 10.0, (FieldSpec("q"),), (FieldSpec("u", "", -1.0, 1.0),))
    states, actions = np.array([[0.0], [1.0], [-1.0]], np.float32), np.zeros((2, 1), np.float32)
    rewards = smooth(LoggedEpisode(states, actions, spec), joint="q", scale=2.0)
    np.testing.assert_array_equal(rewards, [-2.0, -4.0])
