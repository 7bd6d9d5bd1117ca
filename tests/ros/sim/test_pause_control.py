from dql_ros.sim.run import PauseControl


def test_it_is_open_until_paused_and_after() -> None:
    control = PauseControl()
    assert control.may_step
    control.take_step()
    control.pause(True)
    assert not control.may_step
    control.pause(False)
    assert control.may_step


def test_while_paused_as_many_steps_pass_as_were_allowed() -> None:
    control = PauseControl()
    control.pause(True)
    control.allow(2)
    control.allow(1)
    passed = 0
    while control.may_step:
        assert not control.take_step()
        passed += 1
    assert passed == 3


def test_steps_that_were_not_taken_end_with_the_pause() -> None:
    control = PauseControl()
    control.pause(True)
    control.allow(5)
    control.pause(False)
    control.pause(True)
    assert not control.may_step


def test_a_reset_ends_the_episode_and_begins_the_next_also_while_paused() -> None:
    control = PauseControl()
    control.pause(True)
    control.request_reset()
    assert control.may_step
    assert control.take_step()
    assert control.may_step
    assert not control.take_step()
    assert not control.may_step
