import hashlib
import json
from pathlib import Path

import pytest
import yaml

from dql_core.config import TrainConfig, load_config
from dql_core.errors import ConfigError

SHIPPED = sorted((Path(__file__).parents[2] / "config" / "train").rglob("*.yaml"))


@pytest.fixture
def config_file(tmp_path: Path) -> Path:
    path = tmp_path / "reach.yaml"
    path.write_text("agent: diffusion_ql\nrun: {steps: 500}\npolicy: {eta: 2.5}\n")
    return path


def test_a_file_states_only_what_differs_from_the_defaults(config_file: Path) -> None:
    config = load_config(config_file)
    assert (config.run.steps, config.policy.eta) == (500, 2.5)
    assert config.critic == TrainConfig().critic


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.name)
def test_every_configuration_that_is_shipped_is_valid(path: Path) -> None:
    load_config(path)


def test_overrides_are_read_as_yaml(config_file: Path) -> None:
    overrides = ["run.steps=7", "critic.learning_rate=1e-3", "critic.layer_norm=true"]
    config = load_config(config_file, [*overrides, "policy.gradient_clip=null"])
    assert config.run.steps == 7
    assert config.critic.learning_rate == 1e-3
    assert config.critic.layer_norm is True
    assert config.policy.gradient_clip is None
    assert config.policy.eta == 2.5


def test_the_resolved_configuration_reads_back_equal(tmp_path: Path, config_file: Path) -> None:
    config = load_config(config_file, ["selection.rule=greedy"])
    resolved = tmp_path / "config.yaml"
    resolved.write_text(config.to_yaml())
    assert load_config(resolved) == config
    assert set(yaml.safe_load(config.to_yaml())) == set(TrainConfig.model_fields)


def test_the_hash_depends_on_meaning_not_on_writing(tmp_path: Path, config_file: Path) -> None:
    rewritten = tmp_path / "other.yaml"
    rewritten.write_text("# a comment\npolicy:\n  eta: 2.50\nrun:\n  steps: 500\n")
    config = load_config(config_file)
    assert load_config(rewritten).hash() == config.hash()
    assert load_config(config_file, ["run.seed=1"]).hash() != config.hash()


def test_a_later_key_changes_the_hash_only_where_it_changes_the_training(
    config_file: Path,
) -> None:
    noise, loss = "diffusion.prediction=epsilon", "diffusion.loss=prediction"
    told = [
        load_config(config_file, overrides)
        for overrides in ([], ["data.previous_action_dropout=0.5"], [noise], [loss])
    ]
    assert len({each.hash() for each in told}) == len(told)
    for same in (*told[2:], load_config(config_file, [noise, loss])):
        document = same.model_dump(mode="json")
        del document["data"]["previous_action_dropout"], document["policy"]["horizon"]
        del document["diffusion"]["loss"]
        text = json.dumps(document, sort_keys=True)  # as before there were the keys
        assert same.hash() == hashlib.sha256(text.encode()).hexdigest()


def test_a_key_of_earlier_versions_that_changed_no_result_is_left_out(config_file: Path) -> None:
    earlier = config_file.with_name("earlier.yaml")
    earlier.write_text("run: {steps: 500, needless_gradients: true}\npolicy: {eta: 2.5}\n")
    assert load_config(earlier) == load_config(config_file)
    assert "needless" not in load_config(earlier).to_yaml()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("run: {step: 3}", r"reach.yaml: unknown key 'run.step' \(did you mean 'steps'\?\)"),
        ("polcy: {}", r"unknown key 'polcy' \(did you mean 'policy'\?\)"),
        ("run: {steps: 0}", "key 'run.steps' is 0: .*greater than or equal to 1"),
        ("agent: sac", "key 'agent' is 'sac': .*'diffusion_ql', 'diffusion_bc' or 'td3_bc'"),
        ("run: {device: gpu}", "key 'run.device' is 'gpu'"),
        ("- 1", "must hold a mapping"),
    ],
)
def test_a_wrong_key_or_value_is_one_line_that_names_it(
    config_file: Path, text: str, words: str
) -> None:
    config_file.write_text(text)
    with pytest.raises(ConfigError, match=words) as caught:
        load_config(config_file)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("run.step=3", r"--set run.step=3: unknown key 'run.step' \(did you mean 'steps'\?\)"),
        ("steps=10", r"unknown key 'steps' \(did you mean 'run.steps'\?\)"),
        ("width=10", r"unknown key 'width' \(known: "),
        ("rum.steps=3", r"unknown key 'rum' \(did you mean 'run'\?\)"),
        ("run.steps=many", "key 'run.steps' is 'many'"),
        ("run.steps", "must have the form section.key=value"),
        ("=3", "must have the form section.key=value"),
        ("run.steps.x=3", "'steps' is a value and has no keys"),
        ("run.steps=[", "the value is not valid yaml"),
    ],
)
def test_a_wrong_override_is_one_line_that_names_it(
    config_file: Path, override: str, words: str
) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        load_config(config_file, [override])
    assert "\n" not in str(caught.value)


def test_a_missing_file_suggests_the_nearest(config_file: Path) -> None:
    with pytest.raises(ConfigError, match=r"no such file \(did you mean '.*/reach.yaml'\?\)"):
        load_config(config_file.with_name("raech.yaml"))


def test_only_all_overrides_together_must_fit(config_file: Path) -> None:
    together = ["validation.rule=td_error", "validation.held_out=0.2"]
    assert load_config(config_file, together).validation.rule == "td_error"
    with pytest.raises(ConfigError, match=r"--set validation.rule=td_error: .*set held_out"):
        load_config(config_file, together[:1])
    with pytest.raises(
        ConfigError, match="which diffusion_bc does not learn: use judge or bc_loss"
    ):
        load_config(config_file, [*together, "agent=diffusion_bc"])


def test_a_lower_bound_needs_critics_that_differ() -> None:
    with pytest.raises(ValueError, match="lower_bound: 1 is of several critics: set num_critics"):
        TrainConfig.model_validate({"critic": {"lower_bound": 1.0, "num_critics": 1}})


def test_a_mode_needs_candidates_that_can_agree(config_file: Path) -> None:
    few, mode = "selection.num_candidates=4", "selection.rule=mode"
    with pytest.raises(ConfigError, match=r"selection.num_candidates: 4 are too few .* least 5"):
        load_config(config_file, [few, mode])
    for fit in ([few], [mode], [few, mode, "agent=td3_bc"], [few, mode, few[:-1] + "5"]):
        load_config(config_file, fit)


def test_many_large_critics_are_refused_before_they_are_made() -> None:
    TrainConfig.model_validate({"critic": {"width": 8192, "num_critics": 2}})
    with pytest.raises(ValueError, match=r"depth: 3 and critic.num_critics: 3 makes .* at most"):
        TrainConfig.model_validate({"critic": {"width": 8192, "num_critics": 3}})


def test_every_critic_needs_its_room_in_a_file_of_weights() -> None:
    for number in (1, 2, 7):
        config = TrainConfig.model_validate({"critic": {"num_critics": number, "depth": 1}})
        needed = 4 * 256 * (5 + 2 * 256 + number * 5)
        config.require_room(3, 2, needed)
        with pytest.raises(ValueError, match="its networks need"):
            config.require_room(3, 2, needed - 1)
