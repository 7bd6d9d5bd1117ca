import json
from pathlib import Path

import gymnasium as gym
import h5py
import numpy as np
import pytest

from benchmarks.suite.actors import load_actor
from benchmarks.suite.data import main
from benchmarks.suite.flat_file import read_rows
from benchmarks.suite.rollouts import record
from benchmarks.suite.sets import SETS, Share, find_set
from dql_core.data.dataset import load_dataset
from dql_core.errors import ConfigError, DatasetError

ROOT = Path(__file__).parents[2]
SHARED = ROOT.parent / "shared" / "data" / "agents"
NAME = "hopper-mixed"


def make(agents: Path, out: Path, *more: str) -> Path:
    main(["--agents", str(agents), "--sets", NAME, "--size", "300", "--out", str(out), *more])
    return out


def test_a_file_has_the_layout_of_d4rl(agents: Path, tmp_path: Path) -> None:
    out = make(agents, tmp_path / "out")
    with h5py.File(out / f"{NAME}.hdf5") as file:
        kinds = {name: (file[name].shape, file[name].dtype) for name in file}
        facts = json.loads(file.attrs["facts"])
    single = np.dtype(np.float32)
    assert kinds == {
        "observations": ((300, 11), single),
        "next_observations": ((300, 11), single),
        "actions": ((300, 3), single),
        "rewards": ((300,), single),
        "terminals": ((300,), np.dtype(bool)),
        "timeouts": ((300,), np.dtype(bool)),
    }
    assert [share["transitions"] for share in facts["shares"]] == [60] * 5


def test_an_episode_ends_once_and_what_followed_is_kept(agents: Path, tmp_path: Path) -> None:
    rows = read_rows(make(agents, tmp_path / "out") / f"{NAME}.hdf5")
    assert rows.terminals.any()
    assert not (rows.terminals & rows.timeouts).any()
    # The end of each share cuts an episode off, unless it terminated there.
    assert all((rows.terminals | rows.timeouts)[59::60])
    inside = ~(rows.terminals | rows.timeouts)[:-1]
    np.testing.assert_array_equal(
        rows.next_observations[:-1][inside], rows.observations[1:][inside]
    )
    cut = np.flatnonzero(rows.timeouts)
    assert (rows.next_observations[cut] != rows.observations[cut]).any(axis=1).all()


def test_a_time_limit_is_no_termination(agents: Path) -> None:
    env = gym.make("Pendulum-v1", max_episode_steps=7)
    actor = load_actor(agents / "hopper-a2c.npz")

    class Still:
        act = staticmethod(lambda observation, rng: np.zeros(1, np.float32))

    assert actor.squash == "clip"
    rows = record(env, Still(), Share("a2c"), 20, np.random.default_rng(0))  # type: ignore[arg-type]
    assert not rows.terminals.any()
    assert np.flatnonzero(rows.timeouts).tolist() == [6, 13, 19]


def test_equal_seeds_make_equal_bytes_and_others_do_not(agents: Path, tmp_path: Path) -> None:
    files = [
        (make(agents, tmp_path / name, "--seed", seed) / f"{NAME}.hdf5").read_bytes()
        for name, seed in (("a", "3"), ("b", "3"), ("c", "4"))
    ]
    assert files[0] == files[1]
    assert files[0] != files[2]


def test_the_imported_dataset_has_the_same_transitions_to_the_bit(
    agents: Path, tmp_path: Path
) -> None:
    out = make(agents, tmp_path / "out")
    rows, dataset = read_rows(out / f"{NAME}.hdf5"), load_dataset(out / NAME)
    spans = list(rows.episodes())
    assert len(dataset.episodes) == len(spans)
    assert dataset.num_transitions == len(rows)
    for episode, span in zip(dataset.episodes, spans, strict=True):
        np.testing.assert_array_equal(episode.observations[:-1], rows.observations[span])
        np.testing.assert_array_equal(episode.observations[1:], rows.next_observations[span])
        np.testing.assert_array_equal(episode.actions, rows.actions[span])
        np.testing.assert_array_equal(episode.rewards, rows.rewards[span])
        assert episode.terminated == rows.terminals[span.stop - 1]
        assert episode.truncated == rows.timeouts[span.stop - 1]


def test_a_subset_holds_whole_episodes_of_its_set(agents: Path, tmp_path: Path) -> None:
    out = make(agents, tmp_path / "out")
    make(agents, out, "--episodes", "4")
    whole, part = read_rows(out / f"{NAME}.hdf5"), read_rows(out / f"{NAME}-4.hdf5")
    starts = [whole.observations[span].tobytes() for span in whole.episodes()]
    chosen = [starts.index(part.observations[span].tobytes()) for span in part.episodes()]
    assert len(set(chosen)) == 4
    assert chosen == sorted(chosen)
    assert load_dataset(out / f"{NAME}-4").num_transitions == len(part)


def test_a_set_that_is_there_is_kept(agents: Path, tmp_path: Path) -> None:
    out = make(agents, tmp_path / "out")
    before = (out / f"{NAME}.hdf5").stat().st_mtime_ns
    make(agents, out, "--seed", "5")
    assert (out / f"{NAME}.hdf5").stat().st_mtime_ns == before


def test_a_mistake_is_one_line(agents: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, words in (
        (["--sets", "hoper-mixed"], "did you mean 'hopper-mixed'"),
        (["--sets", NAME, "--out", str(agents)], "--agents"),
        (["--sets", NAME, "--agents", str(agents / "no"), "--out", str(agents)], "not an actor"),
    ):
        with pytest.raises(SystemExit) as exit_:
            main(arguments)
        assert exit_.value.code == 2
        error = capsys.readouterr().err
        assert words in error
        assert error.count("\n") == 1


def test_an_actor_that_would_run_code_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "bad.npz", activation=np.array([object()]), squash="clip")
    with pytest.raises(DatasetError, match="is not an actor"):
        load_actor(tmp_path / "bad.npz")


def test_an_actor_computes_what_its_arrays_say(agents: Path) -> None:
    observation = np.linspace(-1.0, 20.0, 11)
    for algorithm, squash in (("a2c", lambda x: np.clip(x, -1, 1)), ("sac", np.tanh)):
        path = agents / f"hopper-{algorithm}.npz"
        arrays = dict(np.load(path, allow_pickle=False))
        seen = (
            np.clip(observation / np.sqrt(1 + 1e-8), -10, 10)
            if algorithm == "a2c"
            else observation
        )
        hidden = arrays["hidden_0_weight"].astype(np.float64) @ seen
        hidden = np.tanh(hidden) if algorithm == "a2c" else np.maximum(hidden, 0)
        mean = arrays["mean_weight"] @ hidden
        deviation = np.exp(
            arrays["log_std"]
            if algorithm == "a2c"
            else np.clip(arrays["log_std_weight"] @ hidden, -20, 2)
        )
        actor, noise = load_actor(path), np.random.default_rng(1).standard_normal(3)
        np.testing.assert_allclose(
            actor.act(observation, None), squash(mean), rtol=1e-4, atol=1e-5
        )
        np.testing.assert_allclose(
            actor.act(observation, np.random.default_rng(1)),
            squash(mean + deviation * noise),
            rtol=1e-4,
            atol=1e-5,
        )


def test_scores_are_normalised_by_d4rls_reference_returns() -> None:
    limits = {
        "hopper": (-20.272305, 3234.3),
        "halfcheetah": (-280.178953, 12135.0),
        "walker2d": (1.629008, 4592.3),
        "pusht": (-300.0, 0.0),
    }
    assert len(SETS) == 7
    for task_set in SETS.values():
        low, high = limits[task_set.task]
        scores = task_set.reference.scores([low, (low + high) / 2, high])
        np.testing.assert_allclose(scores, [0.0, 50.0, 100.0], atol=1e-9)


def test_half_of_medium_expert_is_the_experts() -> None:
    for task in ("hopper", "halfcheetah", "walker2d"):
        shares = find_set(f"{task}-medium-expert-25").shares
        expert = [share.weight for share in shares if share.algorithm == "tqc"]
        assert sum(expert) == sum(share.weight for share in shares) / 2
    with pytest.raises(ConfigError, match="no such set"):
        find_set("hopper")


@pytest.mark.realdata
@pytest.mark.skipif(not SHARED.is_dir(), reason="no actors in ../shared/data/agents")
def test_the_trained_actors_of_hopper_walk(tmp_path: Path) -> None:
    main(["--agents", str(SHARED), "--sets", NAME, "--size", "2500", "--out", str(tmp_path)])
    with h5py.File(tmp_path / f"{NAME}.hdf5") as file:
        facts = json.loads(file.attrs["facts"])
    assert {share["algorithm"] for share in facts["shares"]} == {
        "a2c",
        "sac",
        "ppo",
        "trpo",
        "tqc",
    }
    assert facts["score"] > 15.0  # a random actor scores about 1
