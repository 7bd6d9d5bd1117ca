"""Where a dataset lies: a folder, its `data` folder, or a Minari id."""

from __future__ import annotations

import os
import re
from pathlib import Path

from dql_core.errors import DatasetError, did_you_mean

DATA_FOLDER = "data"
# A dataset's name within Minari's folder, which leads nowhere else.
_MINARI_ID = re.compile(r"[-\w]+(/[-\w]+)*")


def find_dataset(source: str | Path) -> Path:
    """Return the data folder of a dataset.

    Args:
        source: The folder that holds ``data/``, the data folder itself, or a local Minari id.

    Raises:
        DatasetError: If there is no such dataset.
    """
    try:
        return _found(source)
    except (OSError, ValueError) as cause:
        # A name that is too long, or not to be looked at.
        raise DatasetError(f"{source}: no dataset: {getattr(cause, 'strerror', cause)}") from cause


def _found(source: str | Path) -> Path:
    folder = Path(source)
    for candidate in (folder / DATA_FOLDER, folder):
        if (candidate / "metadata.json").is_file():
            if candidate.is_symlink() and candidate != folder:
                raise DatasetError(
                    f"{candidate}: is a link; name the folder that it leads to instead of {source}"
                )
            return candidate
    if folder.exists():
        raise DatasetError(
            f"{source}: holds no Minari dataset (no {DATA_FOLDER}/metadata.json); "
            f"make one with 'dql convert' or 'dql import'"
        )
    if _MINARI_ID.fullmatch(str(source)):
        stored = _minari_folder() / str(source) / DATA_FOLDER
        if stored.is_dir():
            return stored
    siblings = [path.name for path in folder.parent.glob("*/")] if folder.parent.is_dir() else []
    raise DatasetError(
        f"{source}: neither a folder nor a local Minari id{did_you_mean(folder.name, siblings)}"
    )


def _minari_folder() -> Path:
    """Where Minari keeps datasets; unlike with Minari's own function, it is not made."""
    return Path(os.environ.get("MINARI_DATASETS_PATH") or Path.home() / ".minari" / "datasets")
