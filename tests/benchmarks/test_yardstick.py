"""What the yardstick's work is in our agent's settings."""

import pytest

from benchmarks.yardstick import with_the_papers_work
from dql_core.config import TrainConfig


@pytest.mark.parametrize("sections", [{}, {"diffusion": {"num_diffusion_steps": 20}}], ids=str)
def test_our_agent_does_the_papers_work_whatever_its_defaults_are(
    sections: dict[str, dict[str, int]],
) -> None:
    config = TrainConfig.model_validate(with_the_papers_work(sections))
    paper = TrainConfig.model_validate({"preset": "paper", **sections})
    assert config.diffusion.prediction == paper.diffusion.prediction
    assert config.diffusion.num_diffusion_steps == paper.diffusion.num_diffusion_steps
    assert config.policy.max_imitation_ratio == paper.policy.max_imitation_ratio
    assert config.critic.layer_norm == paper.critic.layer_norm
    assert config.selection.rule == paper.selection.rule
