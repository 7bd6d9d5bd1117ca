import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from dql_core.data.dataset import load_dataset, write_dataset
from dql_core.data_config import InitConfig
from dql_core.errors import ConfigError, DatasetError, DqlError
from dql_core.evaluation.offline.fitted_q import FittingSettings
from dql_core.evaluation.offline.judging import judge, meets
from dql_core.export.candidates import Policies, held_out_episodes
from dql_core.training.checkpoint import load_checkpoint, save_checkpoint
from dql_core.training.run_files import config_hashes, read_config, write_run_info
from tests.core.conftest import TINY_SPEC, save_untrained, tiny_episode

QUICK = FittingSettings(members=5, width=8, warm_up=10, updates=100)


def test_a_run_is_judged_and_told_that_it_was_trained_on_the_episodes(
    tmp_path: Path, tiny_dataset: Path
) -> None:
    run = save_untrained(tmp_path, tiny_dataset, "diffusion_ql")
    dataset = load_dataset(tiny_dataset)
    found = judge(Policies([run]).for_episodes(dataset), dataset, 0.9, settings=QUICK)
    document = found.to_json()
    assert json.loads(json.dumps(document, allow_nan=False)) == document
    (policy,) = document["policies"]
    assert "it was trained on 3 of these 3 episodes, which flatters it" in policy["objections"]
    assert document["remarks"][0] == "all rests on 3 episodes only"
    assert policy["agreement"]["steps"] == 19
    nearest, chosen = policy["agreement"]["nearest"], policy["agreement"]["chosen"]
    assert nearest < chosen  # the best of 8 candidates is nearer than one of them
    assert policy["worth"]["verdict"] != "better"
    assert not meets(found, better=True)


def test_a_checkpoint_that_is_not_there_is_named(tmp_path: Path, tiny_dataset: Path) -> None:
    run = save_untrained(tmp_path, tiny_dataset, "diffusion_bc")
    with pytest.raises(ConfigError, match=r"--checkpoints names '7': it must be all, last"):
        Policies([run], "7")


def test_what_a_run_was_begun_from_has_learned_counts(tmp_path: Path, tiny_dataset: Path) -> None:
    dataset, rng = load_dataset(tiny_dataset), np.random.default_rng(7)
    write_dataset(tmp_path / "new", [tiny_episode(rng, 5, terminated=True)], TINY_SPEC)
    first = save_untrained(tmp_path / "first", tiny_dataset, "diffusion_bc")
    run = load_checkpoint(save_untrained(tmp_path / "on", tmp_path / "new", "diffusion_bc"))

    def remarks(begun_from: str) -> tuple[str, ...]:
        init = {"init": InitConfig(run=begun_from)}
        later = dataclasses.replace(run, config=run.config.model_copy(update=init))
        folder = tmp_path / f"begun from {begun_from.replace('/', ' ')}"
        save_checkpoint(folder, later)
        (found,) = Policies([folder]).for_episodes(dataset)
        return found.remarks

    assert remarks("") == ()
    flattered = "it was trained on 3 of these 3 episodes, which flatters it"
    assert remarks(str(first)) == (flattered,)
    (unknown,) = remarks("/nowhere")
    assert unknown.startswith("whether it was trained on these episodes is unknown: ")
    assert "/nowhere" in unknown


def run_of(folder: Path, rewards: Sequence[float | None]) -> Path:
    """Return a run without held-out episodes, of truncated ones with these rewards, or random."""
    rng, episodes = np.random.default_rng(0), []
    for each in rewards:
        episode = tiny_episode(rng, 10, terminated=False)
        equal = episode.rewards if each is None else np.full(10, each)
        episodes.append(dataclasses.replace(episode, rewards=equal))
    write_dataset(folder / "data", episodes, TINY_SPEC)
    keep_config(folder, "0")
    return folder


def keep_config(run: Path, held_out: str) -> None:
    """Write what a run keeps of its configuration."""
    (run / "config.yaml").write_text(
        f"agent: diffusion_bc\ndata: {{dataset: {run / 'data'}}}\n"
        f"validation: {{held_out: {held_out}}}\n"
    )
    hashes = config_hashes(run / "config.yaml", read_config(run / "config.yaml"))
    write_run_info(run, {"dataset": {}, "versions": {}, "q_alarms": [], **hashes})


@pytest.mark.parametrize(("count", "share"), [(4, "0.4"), (20, "0.1")])
def test_where_none_are_held_out_a_share_that_can_be_is_named(
    tmp_path: Path, count: int, share: str
) -> None:
    run = run_of(tmp_path, [None] * count)
    with pytest.raises(ConfigError, match=f"train again with --set .*held_out={share}"):
        held_out_episodes([run])
    keep_config(run, share)
    with pytest.raises(DqlError, match="has changed since"):  # so it was split
        held_out_episodes([run])


@pytest.mark.parametrize(
    ("rewards", "told"),
    [
        ([None], r"held out no episodes .* record more episodes \(.*data has too few .*: 1\)"),
        ([0.0, 0.0, 0.0], "every reward is 0, by which"),
        ([0.0], "every reward is 0, by which"),
        ([-4.0], "every reward is -4 and no episode terminates"),
    ],
)
def test_what_no_share_mends_is_named_first(
    tmp_path: Path, rewards: list[float | None], told: str
) -> None:
    run = run_of(tmp_path, rewards)
    with pytest.raises(DqlError, match=told):
        held_out_episodes([run])


def test_one_episode_is_refused_before_anything_is_fitted(
    tmp_path: Path, tiny_dataset: Path
) -> None:
    found = Policies([save_untrained(tmp_path, tiny_dataset, "diffusion_ql")])
    dataset = load_dataset(tiny_dataset)
    alone = dataclasses.replace(dataset, episodes=dataset.episodes[:1])
    with pytest.raises(DatasetError, match=r"holds one episode, .* at least two are needed"):
        judge(found.for_episodes(alone), alone, 0.9, report=lambda stage, _: pytest.fail(stage))
