"""Recordings that other tools wrote: what is odd in them does not matter to the dataset."""

import tarfile
from pathlib import Path

import numpy as np
import pytest

from dql_core.data.dataset import load_dataset
from dql_ros.bag.reader import Bag
from dql_ros.contract import load_contract
from dql_ros.convert.convert import Source, convert
from dql_ros.tools.contract_check import check_bag
from dql_ros.tools.contract_draft.topic_profile import profile_topics

FAULTS = Path(__file__).parents[4] / "shared" / "data" / "faults"
# The recording, and the contract where it is not called like the recording.
RECORDINGS = {
    "cdr_big_endian.mcap": "cdr_any",
    "cdr_empty_string_of_length_0.mcap": "cdr_any",
    "cdr_nonutf8_frame.mcap": "cdr_any",
    "definition_separator_glued_to_last_line.mcap": "definition_any",
    "definition_with_bom.mcap": "definition_any",
    "definition_with_crlf.mcap": "definition_any",
    "definition_with_crlf_of_joint_state.mcap": "",
    "definition_with_wstring.mcap": "definition_any",
    "idl_long_double__internal_error.mcap": "",
    "idl_only_type_with_include.mcap": "",
    "metadata_counts_zero.tgz": "metadata_any",
    "metadata_mac_copy_no_meta.tgz": "metadata_any",
    "ros1_bridge_empty_text.bag": "",
    "ros1_bridge_header_left_out.bag": "ros1_definition",
    "ros1_bridge_relative_left_out.bag": "",
    "ros1_bridge_webots_backslash.bag": "",
    "ros1_definition_crlf.bag": "ros1_definition",
    "topics_without_slash.mcap": "",
}
pytestmark = [
    pytest.mark.realdata,
    pytest.mark.skipif(not FAULTS.is_dir(), reason="no recordings in ../shared/data/faults"),
]


@pytest.mark.parametrize("name", RECORDINGS)
def test_every_observation_is_paired_with_its_command(tmp_path: Path, name: str) -> None:
    path = FAULTS / name
    if path.suffix == ".tgz":
        with tarfile.open(path) as archive:
            archive.extractall(tmp_path, filter="data")
        (path,) = (each for each in tmp_path.iterdir() if each.is_dir())
    contract = load_contract(FAULTS / f"{RECORDINGS[name] or Path(name).stem}.yaml")
    check = check_bag(path, contract)
    assert check.findings.problems == []
    assert check.transitions == 39
    convert(Source(contract, [path]), tmp_path / "out")
    (episode,) = load_dataset(tmp_path / "out").episodes
    assert np.array_equal(episode.observations[:, 0], np.arange(40))
    assert np.array_equal(episode.actions[:, 0] % 1000, np.arange(39))
    with Bag(path) as bag:
        assert all(profile.numbers is not None for profile in profile_topics(bag))


def test_topics_without_a_slash_are_named_with_and_without(tmp_path: Path) -> None:
    path, file = FAULTS / "topics_without_slash.mcap", tmp_path / "c.yaml"
    text = (FAULTS / "topics_without_slash.yaml").read_text()
    for topic, namespace in (("state", "/"), ("/state", "/"), ("/state", "/arm")):
        file.write_text(text.replace('"state"', topic).replace('"cmd"', "/cmd"))
        assert check_bag(path, load_contract(file), namespace).findings.problems == []
