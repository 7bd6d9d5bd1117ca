"""Puts the parts of a conversion together: the dataset and the report."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from dql_core.atomic import whole_directory, write_text
from dql_core.data.dataset import Episode, write_dataset
from dql_core.errors import BagError
from dql_core.spec import PolicySpec
from dql_ros.bag.bag_job import BagJob
from dql_ros.bag.bag_part import BagPart
from dql_ros.bag.field_statistics import DatasetStatistics
from dql_ros.bag.parts import Parts
from dql_ros.bag.report_document import make_report
from dql_ros.bag.report_page import render
from dql_ros.bag.request import Source
from dql_ros.bag.writer import CONTRACT_KEY
from dql_ros.contract import Contract

REPORT_JSON = "report.json"
REPORT_HTML = "report.html"


def assemble(
    source: Source,
    parts: Parts,
    jobs: Sequence[BagJob],
    converted: Sequence[BagPart],
    out: Path | None,
) -> dict[str, Any]:
    """Write the dataset and the report, and return the report.

    Args:
        source: What was converted.
        parts: The folders of the jobs.
        jobs: The bags in the dataset's order.
        converted: What became of them.
        out: The folder to make; it appears whole or not at all. ``None`` to write nothing.

    Raises:
        BagError: If no bag has an episode.
        FileExistsError: If ``out`` already holds something.
    """
    if not any(part.episodes for part in converted):
        parts.discard()  # to resume would end here again
        raise BagError(_nothing(converted))
    spec = _spec(source.contract, converted)
    report = make_report(
        source.contract,
        source.contract_name,
        source.namespace,
        converted,
        DatasetStatistics.of(spec, lambda: parts.episodes(jobs, converted)),
        contract_text=source.contract_text,
    )
    if out is not None:
        with whole_directory(out) as directory:
            _write(directory, source, spec, parts.episodes(jobs, converted), report)
    return report


def _write(
    directory: Path,
    source: Source,
    spec: PolicySpec,
    episodes: Iterable[Episode],
    report: dict[str, Any],
) -> None:
    write_dataset(
        directory,
        episodes,
        spec,
        description=f"Recorded from {source.contract.robot} and converted by dql convert.",
        extra_metadata={
            CONTRACT_KEY: source.contract_text,
            "dql_inputs": json.dumps(report["bags_sha256"]),
        },
    )
    write_text(directory / REPORT_JSON, json.dumps(report, indent=2) + "\n")
    write_text(directory / REPORT_HTML, render(report))


def _spec(contract: Contract, parts: Sequence[BagPart]) -> PolicySpec:
    """What the dataset's vectors mean: the contract's, with the bounds widened if it says so."""
    spec = contract.policy_spec()
    if contract.beyond_bounds != "widen":
        return spec
    low = np.min([part.action_min for part in parts if part.action_min], axis=0)
    high = np.max([part.action_max for part in parts if part.action_max], axis=0)
    fields = tuple(
        replace(field, low=min(field.low, float(least)), high=max(field.high, float(most)))
        for field, least, most in zip(spec.action, low, high, strict=True)
    )
    return replace(spec, action=fields)


def _nothing(parts: Sequence[BagPart]) -> str:
    """Say why no bag has an episode."""
    failed = [part.error for part in parts if part.error is not None]
    if failed:
        return f"no bag could be converted; the first: {failed[0]}"
    reasons = "; ".join(
        f"{span.reason} from {span.from_s:.1f} s to {span.to_s:.1f} s"
        for span in parts[0].left_out[:3]
    )
    return (
        f"{parts[0].bag}: no episode could be made ({reasons or 'no message'}); check the "
        f"contract's max_age_s and episode rules against the recording"
    )
