from pathlib import Path

from dql_core.errors import did_you_mean, did_you_mean_path


def test_nearest_known_name_is_suggested() -> None:
    assert did_you_mean("elbwo", ["shoulder", "elbow"]) == " (did you mean 'elbow'?)"


def test_without_a_near_name_all_known_ones_are_listed() -> None:
    assert did_you_mean("zzz", ["b", "a"]) == " (known: a, b)"


def test_nothing_known_gives_no_hint() -> None:
    assert did_you_mean("zzz", []) == ""


def test_a_long_list_of_known_names_is_cut_and_says_so() -> None:
    known = [f"{letter}{letter}{letter}" for letter in "abcdefghijklmnop"]
    hint = did_you_mean("xyz", known)
    assert hint.startswith(" (known: aaa, bbb, ")
    assert hint.endswith(", lll, and 4 more)")


def test_a_path_is_suggested_as_it_can_be_given_and_by_what_its_name_says() -> None:
    known = [Path("data/turtle.yaml"), Path("data/arm.yaml")]
    hint = did_you_mean_path(Path("data/turtel.yaml"), known)
    assert hint == " (did you mean 'data/turtle.yaml'?)"
    # The ending is no likeness.
    hint = did_you_mean_path(Path("data/nocontract.yaml"), known)
    assert hint == " (known: arm.yaml, turtle.yaml)"
    alike = [Path("arm.yaml"), Path("arm.yml")]
    assert did_you_mean_path(Path("arn.yml"), alike) == " (did you mean 'arm.yml'?)"
    assert did_you_mean_path(Path("arm"), []) == ""
    # What is hidden is nobody's dataset or bag, unless it is asked for.
    hidden = [Path("data/.ci"), Path("data/.armm.partial-1"), Path("data/arm")]
    assert did_you_mean_path(Path("data/nothing"), hidden) == " (known: arm)"
    assert did_you_mean_path(Path("data/.cy"), hidden) == " (did you mean 'data/.ci'?)"
