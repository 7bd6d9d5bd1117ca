from dql_core.errors import did_you_mean


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
