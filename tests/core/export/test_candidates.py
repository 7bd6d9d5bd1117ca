import dataclasses
import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from dql_core.data.dataset import Episode, LoadedDataset, load_dataset, write_dataset
from dql_core.data_config import InitConfig
from dql_core.errors import ConfigError, DatasetError, DqlError
from dql_core.evaluation.offline.fitted_q import FittingSettings
from dql_core.evaluation.offline.judging import judge, meets
from dql_core.export.bundle import export_bundle
from dql_core.export.candidates import Policies, held_out_episodes
from dql_core.normalize import Normalizer
from dql_core.training.checkpoint import load_checkpoint, save_checkpoint
from dql_core.training.preparation import load_training_data
from dql_core.training.run_files import config_hashes, read_config, write_run_info
from dql_core.training.run_folder import fingerprint
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


FLATTERED = "it was trained on 3 of these 3 episodes, which flatters it"


def test_a_run_whose_data_was_exchanged_is_not_judged_by_the_new_ones_name(
    tmp_path: Path, tiny_dataset: Path
) -> None:
    shutil.copytree(tiny_dataset, tmp_path / "data")
    run = save_untrained(tmp_path, tmp_path / "data", "diffusion_bc")
    config = load_checkpoint(next((run / "checkpoints").iterdir())).config
    data = {"sha256": fingerprint(load_training_data(config).recorded)}
    info = {"dataset": data, "versions": {}, "q_alarms": [], "config_hash": config.hash()}
    write_run_info(run, info)
    bundle = bundle_with_extent(run, tmp_path / "bundle", load_dataset(tiny_dataset))

    def remarks(dataset: Path) -> set[str]:
        found = Policies([run, bundle]).for_episodes(load_dataset(dataset))
        return {remark for each in found for remark in each.remarks}

    assert remarks(tiny_dataset) == {FLATTERED}
    shutil.move(tmp_path / "data", tmp_path / "old")
    write_dataset(
        tmp_path / "data", [tiny_episode(np.random.default_rng(7), 5, terminated=True)], TINY_SPEC
    )
    unknown = (
        f"whether it was trained on these episodes is unknown: {tmp_path / 'data'} has changed"
    )
    for dataset in ("old", "data"):
        (told,) = remarks(tmp_path / dataset)
        assert told.startswith(unknown)
    shutil.rmtree(tmp_path / "data")
    (told,) = remarks(tmp_path / "old")
    assert told.endswith(f"{tmp_path / 'data'} cannot be read")
    moved = Policies([run, bundle], dataset=str(tmp_path / "old"))
    assert {each.remarks for each in moved.for_episodes(load_dataset(tiny_dataset))} == {
        (FLATTERED,)
    }


def bundle_with_extent(run: Path, folder: Path, dataset: LoadedDataset) -> Path:
    """Export a run as if its normaliser had been fitted to a dataset."""
    checkpoint = load_checkpoint(next((run / "checkpoints").iterdir()))
    normalizer = Normalizer.fit(
        np.concatenate([each.observations for each in dataset.episodes]), TINY_SPEC
    )
    fitted = save_checkpoint(
        folder / "run", dataclasses.replace(checkpoint, normalizer=normalizer)
    )
    export_bundle(fitted, folder / "exported")
    return folder / "exported"


def test_episodes_are_known_again_by_most_of_their_steps(
    tmp_path: Path, tiny_dataset: Path
) -> None:
    run = save_untrained(tmp_path, tiny_dataset, "diffusion_bc")
    dataset = load_dataset(tiny_dataset)

    def remarks(episodes: Sequence[Episode]) -> tuple[str, ...]:
        changed = dataclasses.replace(dataset, episodes=tuple(episodes))
        (found,) = Policies([run]).for_episodes(changed)
        return found.remarks

    def part(episode: Episode, steps: slice) -> Episode:
        rows = slice(steps.start, None if steps.stop is None else steps.stop + 1)
        return dataclasses.replace(
            episode,
            observations=episode.observations[rows],
            actions=episode.actions[steps],
            rewards=episode.rewards[steps],
        )

    assert remarks([part(each, slice(1, None)) for each in dataset.episodes]) == (FLATTERED,)
    assert remarks([part(each, slice(0, 2)) for each in dataset.episodes]) == (FLATTERED,)
    clipped = [
        dataclasses.replace(each, actions=each.actions / np.float32(2))
        for each in dataset.episodes
    ]
    assert remarks(clipped) == (FLATTERED,)
    rng = np.random.default_rng(9)
    fresh = [tiny_episode(rng, 8, terminated=True) for _ in range(3)]
    assert remarks(fresh) == ()
    for one, other in zip(fresh, dataset.episodes, strict=True):
        one.observations[:4] = other.observations[:4]  # not most of it
    assert remarks(fresh) == ()


def test_that_robots_stand_still_alike_makes_no_episode_one_that_was_learned(
    tmp_path: Path,
) -> None:
    rng = np.random.default_rng(0)

    def waiting(count: int) -> list[Episode]:
        episodes = [tiny_episode(rng, 10, terminated=True) for _ in range(count)]
        for each in episodes:
            each.observations[:8] = 0.5
        return episodes

    write_dataset(tmp_path / "data", waiting(3), TINY_SPEC)
    write_dataset(tmp_path / "new", waiting(3), TINY_SPEC)
    policies = Policies([save_untrained(tmp_path, tmp_path / "data", "diffusion_bc")])
    (old,) = policies.for_episodes(load_dataset(tmp_path / "data"))
    (new,) = policies.for_episodes(load_dataset(tmp_path / "new"))
    assert (old.remarks, new.remarks) == ((FLATTERED,), ())


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


def test_equal_episodes_are_counted_and_nothing_rests_on_one_alone(
    tmp_path: Path, tiny_dataset: Path
) -> None:
    found = Policies([save_untrained(tmp_path, tiny_dataset, "diffusion_ql")])
    dataset = load_dataset(tiny_dataset)
    alone = dataclasses.replace(dataset, episodes=dataset.episodes[:1] * 50)
    with pytest.raises(DatasetError, match=r"holds one episode 50 times, .* two are needed"):
        judge(found.for_episodes(alone), alone, 0.9, report=lambda stage, _: pytest.fail(stage))
    again = dataclasses.replace(dataset, episodes=dataset.episodes[:2] * 6)
    judgement = judge(found.for_episodes(again), again, 0.9, settings=QUICK)
    assert judgement.remarks[0].startswith("10 of the 12 episodes are equal to others")
