"""`/v1/auth`: the switch of authentication, tokens, and the secret that signs them."""

import secrets
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from http_api.callers.tokens import TTL_S, TTL_S_MAX
from http_api.core.calls import Ask, Call, Doc, Need
from http_api.core.responses import Answer, json_answer
from http_api.v1.accounts import (
    BODY_BYTES_MAX,
    CHANGE_PROBLEMS,
    CHANGED,
    READ_PROBLEMS,
    REVISION,
    change,
)
from kvstore.commands.accounts import Disable, Enable, RotateSecret
from kvstore.errors import Overloaded, SlowDown, Unauthenticated

SECRET_BYTES = 32


class LoginRequest(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """`ttl_s`: seconds that the token lasts without being used."""

    user: str
    password: str
    ttl_s: Annotated[int, Meta(ge=1, le=TTL_S_MAX)] = TTL_S


async def status(ask: Ask[None]) -> Answer:
    """Whether it is on, and who asks."""
    ask.options()
    session = ask.session
    await session.read_barrier(ask.config.request_timeout_s)
    caller = session.caller
    return json_answer(
        {
            "enabled": session.auth_enabled,
            "revision": session.auth_revision,
            "user": None if caller is None else caller.user,
        }
    )


async def enable(ask: Ask[None]) -> Answer:
    """Switch it on."""
    ask.options()
    return await change(ask, Enable(secrets.token_bytes(SECRET_BYTES)))


async def disable(ask: Ask[None]) -> Answer:
    """Switch it off."""
    ask.options()
    return await change(ask, Disable())


async def rotate(ask: Ask[None]) -> Answer:
    """Sign with a new secret: all tokens end."""
    ask.options()
    return await change(ask, RotateSecret(secrets.token_bytes(SECRET_BYTES)))


async def log_in(ask: Ask[LoginRequest]) -> Answer:
    """A token for a name and its password."""
    ask.options()
    wanted = await ask.read()
    ask.session.logs_in(wanted.user)
    logins = ask.facilities.logins
    token = await logins.log_in(wanted.user, wanted.password, ask.address, wanted.ttl_s)
    return json_answer({"token": token, "ttl_s": wanted.ttl_s})


_STATUS_PROPERTIES: dict[str, Any] = {
    "enabled": {"type": "boolean"},
    "revision": REVISION,
    "user": {"type": ["string", "null"], "description": "Who asks, while it is on"},
}
_STATUS = Doc(
    "Whether authentication is on, and who asks",
    answers={200: {"description": "So it is", "properties": _STATUS_PROPERTIES}},
    problems=READ_PROBLEMS,
)
_ENABLE = Doc("Switch authentication on", answers=CHANGED, problems=CHANGE_PROBLEMS)
_DISABLE = Doc("Switch authentication off", answers=CHANGED, problems=CHANGE_PROBLEMS)
_ROTATE = Doc(
    "Sign tokens with a new secret; all that were issued end",
    answers=CHANGED,
    problems=CHANGE_PROBLEMS,
)
_LOGIN = Doc(
    "A token, for a user's name and password",
    answers={
        200: {
            "description": "Send it as `Authorization: Bearer TOKEN`",
            "properties": {
                "token": {"type": "string"},
                "ttl_s": {"type": "integer", "description": "Seconds it lasts unused"},
            },
        }
    },
    problems=(Unauthenticated, SlowDown, Overloaded, *CHANGE_PROBLEMS),
)

CALLS = (
    Call("GET", "/v1/auth", status, Need.CALLER, _STATUS),
    Call("POST", "/v1/auth/enable", enable, Need.ROOT, _ENABLE),
    Call("POST", "/v1/auth/disable", disable, Need.ROOT, _DISABLE),
    Call("POST", "/v1/auth/rotate", rotate, Need.ROOT, _ROTATE),
    Call("POST", "/v1/auth/login", log_in, Need.OPEN, _LOGIN, BODY_BYTES_MAX, LoginRequest),
)
