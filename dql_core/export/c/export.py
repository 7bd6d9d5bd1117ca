"""A policy as a bundle, in C, or both, of what a user points at: a run, a checkpoint, a bundle."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from dql_core.errors import BundleError, ConfigError
from dql_core.export.bundle import bundle_files, make_bundle, write_folders
from dql_core.export.c.folder import CPolicy, write_c
from dql_core.files import is_free, require_free
from dql_core.runtime.manifest import MANIFEST_FILE, Manifest, read_bundle
from dql_core.runtime.policy import Choice, Selection, resolve_choice
from dql_core.training.run_files import CheckpointName


def is_bundle(path: Path) -> bool:
    """Whether a folder is a bundle, sound or not."""
    return os.path.lexists(path / MANIFEST_FILE)


def export_policy(
    source: Path,
    *,
    out: Path | None = None,
    c: Path | None = None,
    prefix: str | None = None,
    num_candidates: int | None = None,
    selection: Selection | None = None,
    dataset: str | None = None,
    which: CheckpointName | None = None,
    execute: int | None = None,
) -> tuple[Manifest, CPolicy | None]:
    """Export a policy as a bundle, as C, or as both; nothing appears if one cannot be made.

    Args:
        source: A bundle, or as in `dql_core.export.bundle.make_bundle`.
        out: Folder for the bundle, which must not exist yet; of a run or checkpoint only.
        c: Folder for the C, likewise.
        prefix: What all names in C begin with.
        num_candidates: K; the policy's own by default.
        selection: How one is chosen; the policy's own way by default.
        dataset: As in `make_bundle`; of a run or checkpoint only.
        which: Likewise.
        execute: Likewise.

    Returns:
        The bundle's manifest, and the C if there is any.

    Raises:
        BundleError: If a folder exists, the bundle is damaged, or no C can be written of it.
        ConfigError: If an option does not go with ``source``, or the policy cannot choose so.
        OutputError: If a folder cannot be written.
        DqlError: As `make_bundle` does.
    """
    if out is not None:
        require_free(out, BundleError)
    if c is not None and not is_free(c):
        raise BundleError(f"{c}: already exists; name another --c folder or remove it")
    if out is not None and c is not None and _is_within(out, c):
        raise ConfigError(f"{out} and {c}: one lies in the other; name two folders side by side")
    if is_bundle(source):
        options = {"--out": out, "--dataset": dataset, "--checkpoint": which}
        _require_none(source, options | {"--execute": execute})
        manifest, contents = read_bundle(source)
        own = Choice(manifest.num_candidates, manifest.selection)
        choice = resolve_choice(own, manifest.has_critic, num_candidates, selection)
        _require_possible(source, manifest, choice)
    else:
        manifest, contents = make_bundle(
            source,
            num_candidates=num_candidates,
            selection=selection,
            dataset=dataset,
            which=which,
            execute=execute,
        )
        choice = Choice(manifest.num_candidates, manifest.selection)
    files: dict[Path, Mapping[str, bytes]] = {}
    if out is not None:
        files[out] = bundle_files(manifest, contents)
    written = None
    if c is not None:
        try:
            written = write_c(manifest, contents, choice, prefix)
        except BundleError as cause:
            raise BundleError(f"{source}: {cause}") from cause
        files[c] = {name: text.encode() for name, text in written.files.items()}
    write_folders(files)
    return manifest, written


def _require_none(bundle: Path, options: Mapping[str, object]) -> None:
    for option, value in options.items():
        if value is not None:
            instead = "; its C goes to --c DIR" if option == "--out" else ""
            raise ConfigError(
                f"{bundle} is a bundle already: {option} is for a run; leave it out{instead}"
            )


def _require_possible(source: Path, manifest: Manifest, choice: Choice) -> None:
    try:
        manifest.model_copy(update=vars(choice)).require_possible()
    except ValueError as cause:
        raise ConfigError(f"{source}: {cause}: choose among fewer") from cause


def _is_within(one: Path, other: Path) -> bool:
    first, second = one.resolve(), other.resolve()
    return first == second or first in second.parents or second in first.parents
