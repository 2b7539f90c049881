"""The caller of a request as a context variable: to be removed by the merge."""

from contextvars import ContextVar

from kvstore.commands.accounts import Right
from kvstore.errors import auth_error
from kvstore.state.rights import Auth, Caller, Demand

caller: ContextVar[Caller | None] = ContextVar("caller", default=None)
"""On whose behalf the running task works. The HTTP API sets it for each request while
authentication is on; `Replica` sends it along with commands."""


def check_read(auth: Auth, start: bytes, end: bytes | None) -> None:
    """Raise Unauthenticated or PermissionDenied unless the caller may read the whole range now.

    To be called on the state that is about to be read, after any wait for it.
    """
    if auth.enabled:
        reason = auth.denial(caller.get(), (Demand(Right.READ, start, end),))
        if reason is not None:
            raise auth_error(reason)
