"""`preset: paper` is the published behaviour, in exactly the keys that it names."""

from pathlib import Path
from typing import Any

import pytest

from dql_core.config import TrainConfig, load_config
from dql_core.errors import ConfigError
from dql_core.presets import with_preset

PAPER = {
    ("run", "learning_rate_decay"): "cosine_every_50_epochs",
    ("data", "normalize_observations"): False,
    ("data", "reward_boundaries"): "termination",
    ("data", "n_step"): 1,
    ("diffusion", "schedule"): "vp",
    ("diffusion", "prediction"): "epsilon",
    ("policy", "learning_rate"): 3e-4,
    ("policy", "max_imitation_ratio"): None,
    ("policy", "ema_start"): 1000,
    ("critic", "layer_norm"): False,
    ("critic", "learning_rate"): 3e-4,
    ("critic", "bound_targets"): False,
    ("selection", "rule"): "softmax",
    ("selection", "temperature_scale"): "raw",
    ("selection", "weights"): "online",
    ("validation", "bc_loss_ranking"): "paper_code",
}


def flat(config: TrainConfig) -> dict[tuple[str, str], Any]:
    """Return every key of every section."""
    sections = {
        name: section for name, section in config.model_dump().items() if isinstance(section, dict)
    }
    return {(name, key): value for name, keys in sections.items() for key, value in keys.items()}


def write(folder: Path, text: str) -> Path:
    path = folder / "task.yaml"
    path.write_text(text)
    return path


def test_it_sets_the_papers_behaviour_and_nothing_else() -> None:
    defaults, paper = flat(TrainConfig()), flat(TrainConfig(preset="paper"))
    assert {key: paper[key] for key in paper if paper[key] != defaults[key]} == PAPER


def test_the_rest_of_the_papers_common_settings_are_the_defaults() -> None:
    config = TrainConfig(preset="paper")
    assert (config.diffusion.num_diffusion_steps, config.diffusion.schedule) == (5, "vp")
    assert (config.diffusion.prediction, config.diffusion.variance) == ("epsilon", "posterior")
    assert config.diffusion.clip_denoised
    assert (config.run.batch_size, config.critic.discount, config.critic.tau) == (256, 0.99, 0.005)
    assert (config.policy.ema_rate, config.policy.ema_every) == (0.005, 5)
    assert (config.policy.learning_rate, config.critic.learning_rate) == (3e-4, 3e-4)
    assert (config.policy.width, config.policy.depth) == (256, 3)
    assert (config.critic.width, config.critic.depth) == (256, 3)
    assert (config.selection.num_candidates, config.selection.rule) == (50, "softmax")
    assert (config.selection.temperature, config.selection.critics) == (1.0, "target")
    assert config.data.n_step == 1


def test_a_files_own_keys_win(tmp_path: Path) -> None:
    text = "preset: paper\npolicy: {ema_start: 0, eta: 2.0}\nselection: {weights: ema}\n"
    config = load_config(write(tmp_path, text))
    assert (config.policy.ema_start, config.policy.eta) == (0, 2.0)
    assert (config.selection.weights, config.selection.temperature_scale) == ("ema", "raw")


def test_an_override_wins_and_may_name_the_preset_itself(tmp_path: Path) -> None:
    path = write(tmp_path, "policy: {eta: 2.0}\n")
    config = load_config(path, ["preset=paper", "selection.temperature_scale=relative"])
    assert (config.selection.temperature_scale, config.selection.weights) == ("relative", "online")


def test_the_resolved_configuration_reads_back_equal(tmp_path: Path) -> None:
    config = TrainConfig(preset="paper")
    again = load_config(write(tmp_path, config.to_yaml()))
    assert again == config
    assert again.hash() == config.hash() != TrainConfig().hash()


def test_sections_that_are_already_validated_keep_what_was_set() -> None:
    partly = TrainConfig.model_validate(
        {"preset": "paper", "policy": TrainConfig().policy.model_copy(update={"eta": 7.0})}
    )
    assert (partly.policy.eta, partly.policy.ema_start) == (7.0, 1000)


def test_an_unknown_preset_is_one_line_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"key 'preset' is 'papre': .*'paper'") as caught:
        load_config(write(tmp_path, "preset: papre\n"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("document", [None, 3, [], {}, {"preset": None}, {"preset": ["paper"]}])
def test_what_names_no_preset_is_left_as_it_is(document: object) -> None:
    assert with_preset(document) is document


def test_a_section_that_is_no_mapping_is_refused_with_its_name(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="'policy'"):
        load_config(write(tmp_path, "preset: paper\npolicy: 3\n"))
