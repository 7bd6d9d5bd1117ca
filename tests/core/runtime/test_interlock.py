import pytest

from dql_core.runtime.fallback import Interlock, StillStoppedError


def test_a_stop_stays_until_it_is_reset_after_its_release() -> None:
    interlock = Interlock()
    assert not interlock.set_button(False)
    assert interlock.set_button(True)
    assert not interlock.set_button(True)
    with pytest.raises(StillStoppedError, match="release the stop first"):
        interlock.reset()
    assert interlock.stopped
    assert not interlock.set_button(False)
    assert interlock.stopped
    assert interlock.reset()
    assert not interlock.stopped
    assert not interlock.reset()


def test_a_pulse_is_enough_to_stop() -> None:
    interlock = Interlock()
    interlock.set_button(True)
    interlock.set_button(False)
    assert interlock.stopped
