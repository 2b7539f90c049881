"""What the resources of users, roles and authentication share."""

from typing import Any

from http_api.core import params
from http_api.core.calls import Ask
from http_api.core.problems import refusal
from http_api.core.responses import Answer, json_answer
from http_api.v1.kv import BODY_PROBLEMS
from kvstore.commands.accounts import NAME_BYTES_MAX, AuthChange
from kvstore.commands.commands import Administer
from kvstore.commands.results import Administered
from kvstore.errors import (
    AuthChangeRefused,
    InvalidArgument,
    KvError,
    NoQuorum,
    OutcomeUnknown,
    Overloaded,
    Stopping,
)

BODY_BYTES_MAX = 16 << 10
CHANGE_PROBLEMS: tuple[type[KvError], ...] = (
    InvalidArgument, AuthChangeRefused, NoQuorum, Overloaded, Stopping, OutcomeUnknown,
    *BODY_PROBLEMS,
)  # fmt: skip
READ_PROBLEMS: tuple[type[KvError], ...] = (
    InvalidArgument, AuthChangeRefused, NoQuorum, Overloaded, Stopping,
)  # fmt: skip
REVISION = {"type": "integer", "description": "Of users and roles; counts their changes"}
CHANGED: dict[int, dict[str, Any]] = {
    200: {"description": "Done", "properties": {"revision": REVISION}}
}


def named(ask: Ask[Any]) -> str:
    """The user or role in the path. Raises InvalidArgument."""
    octets = params.percent_decode(ask.parameter, "name")
    try:
        return checked_name(octets.decode(), "name")
    except UnicodeDecodeError:
        raise InvalidArgument("name", "name: is no UTF-8") from None


def checked_name(name: str, field: str) -> str:
    """A name of a length that can be. Raises InvalidArgument."""
    size = len(name.encode("utf-8", "surrogatepass"))
    if not 1 <= size <= NAME_BYTES_MAX:
        raise InvalidArgument(field, f"{field}: {size} bytes; names have 1 to {NAME_BYTES_MAX}")
    return name


async def change(ask: Ask[Any], wanted: AuthChange) -> Answer:
    """Make a change of users and roles; the answer. Raises the KvError that a refusal means."""
    result = await ask.session.execute(Administer(wanted), ask.config.request_timeout_s)
    if not isinstance(result, Administered):
        raise refusal(result)
    return json_answer({"revision": result.auth_revision})
