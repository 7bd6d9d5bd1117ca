"""What docs/explanation/security.md says of limits and tests is so."""

import re
from pathlib import Path

from dql_core.data import hdf5_arrays, metadata
from dql_core.documents import MAX_DEPTH, MAX_JSON_BYTES
from dql_core.strict_yaml import MAX_NUMBER_LENGTH, MAX_VALUES, MAX_YAML_BYTES
from dql_ros.bag.storage import definition_text, folder
from dql_ros.contract.field import MAX_ENTRIES

ROOT = Path(__file__).parents[2]
PAGE = " ".join((ROOT / "docs/explanation/security.md").read_text().split())


def test_the_tests_that_it_names_exist() -> None:
    named = re.findall(r"`(?:tests/)?((?:core|ros|architecture)/[\w/]+\.py)`", PAGE)
    assert len(named) > 20
    assert [name for name in named if not (ROOT / "tests" / name).is_file()] == []


def test_the_limits_that_it_states_are_those_of_the_code() -> None:
    for limit in (
        f"{MAX_YAML_BYTES >> 20} MiB; {MAX_VALUES:,} values",
        f"{MAX_DEPTH} deep; numbers of {MAX_NUMBER_LENGTH} characters",
        f"slices of {MAX_ENTRIES:,} elements together",
        f"{folder.MAX_METADATA_BYTES >> 20} MiB; {folder.MAX_VALUES:,} values",
        f"{definition_text.MAX_DEFINITION_BYTES >> 20} MiB, {definition_text.MAX_FIELDS:,} fields",
        f"{definition_text.MAX_ELEMENTS:,} elements in arrays of texts and messages",
        f"{MAX_JSON_BYTES >> 20} MiB, {MAX_DEPTH} deep; known keys",
        f"Tuples of {metadata.MAX_FIELDS:,} numbers",
        f"{hdf5_arrays.ALWAYS_BYTES >> 30} GiB and {hdf5_arrays.MAX_GROWTH} times what is stored",
    ):
        assert limit in PAGE
