"""The shipped D4RL settings against the table in the paper's code (`main.py`), written anew."""

from pathlib import Path
from typing import NamedTuple

import pytest

from dql_core.config import TrainConfig, load_config

FOLDER = Path(__file__).parents[3] / "config" / "train" / "d4rl"


class Row(NamedTuple):
    learning_rate: float
    eta: float
    max_q: bool
    reward_tune: str
    epochs: int
    gradient_norm: int
    top_k: int


TABLE = {
    "halfcheetah-medium-v2": Row(3e-4, 1.0, False, "no", 2000, 9, 1),
    "hopper-medium-v2": Row(3e-4, 1.0, False, "no", 2000, 9, 2),
    "walker2d-medium-v2": Row(3e-4, 1.0, False, "no", 2000, 1, 1),
    "halfcheetah-medium-replay-v2": Row(3e-4, 1.0, False, "no", 2000, 2, 0),
    "hopper-medium-replay-v2": Row(3e-4, 1.0, False, "no", 2000, 4, 2),
    "walker2d-medium-replay-v2": Row(3e-4, 1.0, False, "no", 2000, 4, 1),
    "halfcheetah-medium-expert-v2": Row(3e-4, 1.0, False, "no", 2000, 7, 0),
    "hopper-medium-expert-v2": Row(3e-4, 1.0, False, "no", 2000, 5, 2),
    "walker2d-medium-expert-v2": Row(3e-4, 1.0, False, "no", 2000, 5, 1),
    "antmaze-umaze-v0": Row(3e-4, 0.5, False, "cql_antmaze", 1000, 2, 2),
    "antmaze-umaze-diverse-v0": Row(3e-4, 2.0, True, "cql_antmaze", 1000, 3, 2),
    "antmaze-medium-play-v0": Row(1e-3, 2.0, True, "cql_antmaze", 1000, 2, 1),
    "antmaze-medium-diverse-v0": Row(3e-4, 3.0, True, "cql_antmaze", 1000, 1, 1),
    "antmaze-large-play-v0": Row(3e-4, 4.5, True, "cql_antmaze", 1000, 10, 2),
    "antmaze-large-diverse-v0": Row(3e-4, 3.5, True, "cql_antmaze", 1000, 7, 1),
    "pen-human-v1": Row(3e-5, 0.15, False, "normalize", 1000, 7, 2),
    "pen-cloned-v1": Row(3e-5, 0.1, False, "normalize", 1000, 8, 2),
    "kitchen-complete-v0": Row(3e-4, 0.005, False, "no", 250, 9, 2),
    "kitchen-partial-v0": Row(3e-4, 0.005, False, "no", 1000, 10, 2),
    "kitchen-mixed-v0": Row(3e-4, 0.005, False, "no", 1000, 10, 0),
}


def test_every_task_of_the_table_has_its_file_and_no_other_has_one() -> None:
    assert {path.stem for path in FOLDER.glob("*.yaml")} == set(TABLE)


@pytest.mark.parametrize("task", TABLE)
def test_a_task_has_the_table_s_values_and_the_paper_s_preset_elsewhere(task: str) -> None:
    row, paper = TABLE[task], TrainConfig(preset="paper").model_dump()
    paper["run"] |= {"steps": 1000 * row.epochs, "checkpoint_every": 50_000}
    paper["data"] |= {"reward_transform": "none" if row.reward_tune == "no" else row.reward_tune}
    paper["policy"] |= {"learning_rate": row.learning_rate, "eta": row.eta}
    paper["policy"] |= {"gradient_clip": row.gradient_norm}
    paper["critic"] |= {"gradient_clip": row.gradient_norm, "learning_rate": 3e-4}
    paper["critic"] |= {"max_q_samples": 10 if row.max_q else 1}
    paper["validation"] |= {"bc_loss_rank": row.top_k}
    assert load_config(FOLDER / f"{task}.yaml").model_dump() == paper
