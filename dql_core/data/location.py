"""Where a dataset lies: a folder, its `data` folder, or a Minari id."""

from __future__ import annotations

from pathlib import Path

from minari.storage.datasets_root_dir import get_dataset_path

from dql_core.errors import DatasetError, did_you_mean

DATA_FOLDER = "data"


def find_dataset(source: str | Path) -> Path:
    """Return the data folder of a dataset.

    Args:
        source: The folder that holds ``data/``, the data folder itself, or a local Minari id.

    Raises:
        DatasetError: If there is no such dataset.
    """
    folder = Path(source)
    for candidate in (folder / DATA_FOLDER, folder):
        if (candidate / "metadata.json").is_file():
            return candidate
    if folder.exists():
        raise DatasetError(
            f"{source}: holds no Minari dataset (no {DATA_FOLDER}/metadata.json); "
            f"make one with 'dql convert' or 'dql import'"
        )
    if not folder.is_absolute():
        stored: Path = get_dataset_path(str(source)) / DATA_FOLDER
        if stored.is_dir():
            return stored
    siblings = [path.name for path in folder.parent.glob("*/")] if folder.parent.is_dir() else []
    raise DatasetError(
        f"{source}: neither a folder nor a local Minari id{did_you_mean(folder.name, siblings)}"
    )
