"""Sessions admit each bundle once, in any order, above its floor, of the latest process."""

from kvstore.commands.batches import Bundle
from kvstore.state.sessions import Sessions


def test_once_in_any_order_and_after_restore() -> None:
    sessions = Sessions()
    assert all(sessions.admit(Bundle(1, 1, number, 1, ())) for number in (2, 1, 3))
    again = Sessions()
    again.restore(sessions.encode())
    for kept in (sessions, again):
        assert not kept.admit(Bundle(1, 1, 2, 1, ()))
        assert kept.admit(Bundle(1, 1, 9, 9, ()))
        assert not kept.admit(Bundle(1, 1, 8, 1, ())), "given up"
        assert kept.admit(Bundle(1, 2, 1, 1, ())), "a new process"
        assert not kept.admit(Bundle(1, 1, 10, 1, ())), "an earlier process"
    assert sessions.encode() == again.encode()
