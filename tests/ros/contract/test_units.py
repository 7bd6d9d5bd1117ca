import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dql_ros.contract.units import UNITS, conversion, half_turn

NUMBERS = st.floats(-1e6, 1e6).filter(lambda value: value == 0 or abs(value) > 1e-6)


@pytest.mark.parametrize(
    ("value", "source", "target", "expected"),
    [
        (180.0, "deg", "rad", math.pi),
        (1500.0, "mm", "m", 1.5),
        (36.0, "km/h", "m/s", 10.0),
        (90.0, "deg/s", "rad/s", math.pi / 2),
        (60.0, "rpm", "rad/s", 2 * math.pi),
        (1.0, "rev/min", "rpm", 1.0),
        (2.0, "g0", "m/s^2", 19.6133),
        (25.0, "degC", "K", 298.15),
        (32.0, "degF", "degC", 0.0),
        (212.0, "degF", "degC", 100.0),
        (3.0, "N*m", "N m", 3.0),
        (1.0, "J", "N m", 1.0),
        (50.0, "%", "1", 0.5),
        (4.0, "1/s", "Hz", 4.0),
        (4.0, "s^-1", "Hz", 4.0),
        (2.0, "mm^2", "m^2", 2e-6),
        (7.0, "rad", "rad", 7.0),
    ],
)
def test_values_are_converted(value: float, source: str, target: str, expected: float) -> None:
    converted = conversion(source, target)(np.array([value]))
    np.testing.assert_allclose(converted, [expected], rtol=1e-15, atol=1e-12)


@given(value=st.integers(-(10**9), 10**9))
def test_powers_of_ten_are_rounded_once(value: int) -> None:
    assert conversion("mm", "m")(np.array(float(value))) == value / 1000


@given(
    value=NUMBERS,
    pair=st.sampled_from(sorted(UNITS)).flatmap(
        lambda name: st.tuples(
            st.just(name),
            st.sampled_from(
                [other for other in UNITS if UNITS[other].powers == UNITS[name].powers]
            ),
        )
    ),
)
def test_converting_back_gives_the_value_again(value: float, pair: tuple[str, str]) -> None:
    convert = conversion(*pair)
    again = convert.inverse(convert(np.array([value])))
    np.testing.assert_allclose(again, [value], rtol=1e-12, atol=1e-9)
    back = conversion(*pair[::-1])(convert(np.array([value])))
    np.testing.assert_allclose(back, [value], rtol=1e-12, atol=1e-9)


def test_half_a_turn() -> None:
    assert half_turn("rad") == math.pi
    assert half_turn("deg") == 180.0


@pytest.mark.parametrize(
    ("source", "target", "error"),
    [
        ("deg", "m", "'deg' cannot be converted to 'm': one is in rad, the other in m"),
        ("1/s", "rad/s", "one is in s\\^-1, the other in s\\^-1 rad"),
        ("m", "1", "the other in no unit"),
        ("dgr", "rad", "unknown unit 'dgr'"),
        ("radd", "rad", r"unknown unit 'radd' \(did you mean 'rad'\?\)"),
        ("Radians", "rad", r"unknown unit 'Radians' \(did you mean 'rad'\?\)"),
        ("metres/s", "m/s", r"unknown unit 'metres' \(did you mean 'm'\?\)"),
        ("Nm", "N m", r"unknown unit 'Nm' \(did you mean 'N m'\?\)"),
        ("m//s", "m/s", "'m//s' is not a unit"),
        ("m^^2", "m", "'m\\^\\^2' is not a unit"),
        ("degC/s", "K/s", "'degC' has a zero of its own"),
    ],
)
def test_what_cannot_be_converted_is_named(source: str, target: str, error: str) -> None:
    with pytest.raises(ValueError, match=error):
        conversion(source, target)
