"""The calls on users, roles and authentication."""

from urllib.parse import quote

from kvstore.client.answers import decode, decode_role, decode_roles, decode_users
from kvstore.client.attempts import Request
from kvstore.client.credentials import login_body
from kvstore.client.keys import Keys
from kvstore.client.requests import range_fields
from kvstore.client.results import AuthStatus, IssuedToken, RoleStatus, UserStatus
from kvstore.errors import InvalidArgument


class UserCalls(Keys):
    """What `Client` can do with users, roles and authentication. A change raises
    AuthChangeRefused where it cannot be, PermissionDenied to who may not."""

    async def auth_status(self) -> AuthStatus:
        """Whether authentication is on, and who this client is."""
        answer = await self._attempts.send(Request("GET", "/v1/auth"))
        return decode(answer.body, AuthStatus)

    async def auth_enable(self) -> None:
        """Switch it on: from then on every request needs a user. There must be a user root that
        has the role root."""
        await self._post("/v1/auth/enable", {})

    async def auth_disable(self) -> None:
        """Switch it off: everybody may do everything, and all tokens end."""
        await self._post("/v1/auth/disable", {})

    async def auth_rotate(self) -> None:
        """Sign tokens with a new secret: all that were issued end, and what a backup or a lost disk
        tells of the old one is worth nothing."""
        await self._post("/v1/auth/rotate", {})

    async def log_in(self, user: str, password: str, *, ttl_s: int | None = None) -> IssuedToken:
        """A token that lasts `ttl_s` seconds without being used. Raises Unauthenticated."""
        body = login_body(user, password, ttl_s)
        answer = await self._attempts.send(
            Request("POST", "/v1/auth/login", body=body, only_reads=True)
        )
        return decode(answer.body, IssuedToken)

    async def users(self) -> tuple[UserStatus, ...]:
        """All users, in the order of their names."""
        answer = await self._attempts.send(Request("GET", "/v1/users"))
        return decode_users(answer.body)

    async def user(self, name: str) -> UserStatus:
        """One user: this client's own, or as an administrator any."""
        answer = await self._attempts.send(Request("GET", _user(name)))
        return decode(answer.body, UserStatus)

    async def add_user(self, name: str, password: str | None = None) -> None:
        """A user that may do nothing yet. Without a password it can only show a certificate."""
        await self._send("PUT", _user(name), {} if password is None else {"password": password})

    async def delete_user(self, name: str) -> None:
        """The user and its tokens end."""
        await self._send("DELETE", _user(name))

    async def set_password(self, name: str, password: str, *, current: str | None = None) -> None:
        """Another password; the user's tokens end. With `current` users change their own."""
        fields = {"password": password} | ({} if current is None else {"current": current})
        await self._send("PUT", f"{_user(name)}/password", fields)

    async def log_out(self, name: str) -> None:
        """All tokens of a user end."""
        await self._post(f"{_user(name)}/logout", {})

    async def grant_role(self, name: str, role: str) -> None:
        """Give a user a role."""
        await self._post(f"{_user(name)}/grant", {"role": role})

    async def revoke_role(self, name: str, role: str) -> None:
        """Take a role from a user."""
        await self._post(f"{_user(name)}/revoke", {"role": role})

    async def roles(self) -> tuple[str, ...]:
        """The names of all roles, in order."""
        answer = await self._attempts.send(Request("GET", "/v1/roles"))
        return decode_roles(answer.body)

    async def role(self, name: str) -> RoleStatus:
        """What a role permits: one of this client's own, or as an administrator any."""
        answer = await self._attempts.send(Request("GET", _role(name)))
        return decode_role(answer.body)

    async def add_role(self, name: str) -> None:
        """A role that permits nothing yet."""
        await self._send("PUT", _role(name))

    async def delete_role(self, name: str) -> None:
        """A role ends; its users lose it."""
        await self._send("DELETE", _role(name))

    async def grant_permission(
        self,
        role: str,
        right: str,
        *,
        key: str | bytes | None = None,
        prefix: str | bytes | None = None,
        start: str | bytes | None = None,
        end: str | bytes | None = None,
    ) -> None:
        """Let a role "read", "write" or "readwrite" one key, a prefix or a range."""
        fields = {"right": right, **range_fields(key, prefix, start, end)}
        await self._post(f"{_role(role)}/grant", fields)

    async def revoke_permission(
        self,
        role: str,
        *,
        key: str | bytes | None = None,
        prefix: str | bytes | None = None,
        start: str | bytes | None = None,
        end: str | bytes | None = None,
    ) -> None:
        """Take what a role was granted on the very same key, prefix or range."""
        await self._post(f"{_role(role)}/revoke", range_fields(key, prefix, start, end))

    async def grant_scope(self, role: str, scope: str) -> None:
        """Let a role do what has nothing to do with keys: "cluster", "backup", "users", "watch" or
        "metrics"."""
        await self._post(f"{_role(role)}/grant", {"scope": scope})

    async def revoke_scope(self, role: str, scope: str) -> None:
        """Take a scope from a role."""
        await self._post(f"{_role(role)}/revoke", {"scope": scope})


def _user(name: str) -> str:
    return f"/v1/users/{_quoted(name)}"


def _role(name: str) -> str:
    return f"/v1/roles/{_quoted(name)}"


def _quoted(name: str) -> str:
    if not name:
        raise InvalidArgument("name", "name: must not be empty")
    quoted = quote(name, safe="")
    return quoted.replace(".", "%2E") if name in (".", "..") else quoted
