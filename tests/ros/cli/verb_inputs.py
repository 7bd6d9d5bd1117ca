"""What the verbs of the command line take: a dataset, a run, a file to import, a configuration."""

from pathlib import Path

import numpy as np

from dql_core.data.dataset import write_dataset
from tests.core.conftest import TINY_SPEC, save_untrained, tiny_episode

ROOT = Path(__file__).parents[3]
CONTRACT = ROOT / "config" / "contracts" / "scara.yaml"
CONFIG = """
run: {steps: 10, batch_size: 8, num_threads: 1}
policy: {width: 8}
critic: {width: 8}
"""


def make_inputs(folder: Path, length: int) -> None:
    """Make ``data``, ``run``, ``flat.npz`` and ``tiny.yaml``, of one episode of a length."""
    episode = tiny_episode(np.random.default_rng(0), length, terminated=False)
    write_dataset(folder / "data", [episode], TINY_SPEC)
    save_untrained(folder, folder / "data", "diffusion_ql")
    np.savez(
        folder / "flat.npz",
        obs=episode.observations,
        acts=episode.actions,
        rews=episode.rewards,
        terminal=np.array([False]),
        indices=np.array([], np.int64),
    )
    (folder / "tiny.yaml").write_text(CONFIG)
