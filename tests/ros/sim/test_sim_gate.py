from dql_ros.sim.run import StepGate


def test_it_is_open_until_paused_and_after() -> None:
    gate = StepGate()
    assert gate.is_open
    gate.pass_through()
    gate.pause(True)
    assert not gate.is_open
    gate.pause(False)
    assert gate.is_open


def test_while_paused_as_many_steps_pass_as_were_allowed() -> None:
    gate = StepGate()
    gate.pause(True)
    gate.allow(2)
    gate.allow(1)
    passed = 0
    while gate.is_open:
        assert not gate.pass_through()
        passed += 1
    assert passed == 3


def test_steps_that_were_not_taken_end_with_the_pause() -> None:
    gate = StepGate()
    gate.pause(True)
    gate.allow(5)
    gate.pause(False)
    gate.pause(True)
    assert not gate.is_open


def test_a_reset_ends_the_episode_and_begins_the_next_also_while_paused() -> None:
    gate = StepGate()
    gate.pause(True)
    gate.request_reset()
    assert gate.is_open
    assert gate.pass_through()
    assert gate.is_open
    assert not gate.pass_through()
    assert not gate.is_open
