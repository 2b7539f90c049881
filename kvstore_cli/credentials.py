"""Who the command line is: flags, variables, files and the login that was kept.

A password is never an argument, which everybody on the machine can see: it is asked for, without
echo, or read from a file.
"""

import getpass
import json
import os
import sys
from argparse import ArgumentParser, Namespace
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from kvstore.client.attempts import parse_endpoints
from kvstore.client.credentials import Login
from kvstore.errors import InvalidArgument

TERMINAL = "/dev/tty"
OURS_ONLY = 0o077
"""Permission bits that a file with a secret must not have."""


class KeptLogin(msgspec.Struct):
    """A token in the user's config directory, for the nodes that it was got from."""

    endpoints: tuple[str, ...]
    user: str
    token: str


def credential_flags(parser: ArgumentParser) -> None:
    """Who asks."""
    add = parser.add_argument
    add("--user", metavar="NAME", help="who asks; the password is asked for (KVSTORE_USER)")
    add("--password-file", metavar="FILE",
        help="take the password from FILE, - for stdin (KVSTORE_PASSWORD_FILE)")  # fmt: skip
    add("--token-file", metavar="FILE", help="send the token in FILE (KVSTORE_TOKEN_FILE)")
    add("--ca", metavar="FILE", default=os.environ.get("KVSTORE_CA") or None,
        help="trust nodes with a certificate by these authorities (KVSTORE_CA)")  # fmt: skip
    add("--cert", metavar="FILE", default=os.environ.get("KVSTORE_CERT") or None,
        help="show this certificate (KVSTORE_CERT)")  # fmt: skip
    add("--key", metavar="FILE", dest="cert_key", default=os.environ.get("KVSTORE_KEY") or None,
        help="the key of --cert, unless that file holds it too (KVSTORE_KEY)")  # fmt: skip


def tls_of(options: Namespace) -> Login:
    """What the options say of certificates. Raises InvalidArgument."""
    found: Login = {}
    if options.ca is not None:
        found["ca"] = options.ca
    if options.cert is not None:
        found["cert"] = (
            options.cert if options.cert_key is None else (options.cert, options.cert_key)
        )
    return found


def login_of(options: Namespace) -> Login:
    """From the first of: flags, environment, what `kvstore login` kept; and what the options say
    of certificates. Raises InvalidArgument."""
    tls = tls_of(options)
    return {**_proof_of(options, secure=bool(tls)), **tls}


def _proof_of(options: Namespace, secure: bool) -> Login:
    variables = os.environ
    if options.token_file is not None and options.user is not None:
        raise InvalidArgument("user", "give --user or --token-file, not both")
    if options.user is None:
        token_file = options.token_file or variables.get("KVSTORE_TOKEN_FILE")
        if token_file and (options.token_file or not variables.get("KVSTORE_USER")):
            return {"token": secret_of(token_file, "token-file")}
    user = options.user or variables.get("KVSTORE_USER") or ""
    if not user:
        kept = kept_login(parse_endpoints(options.endpoints, secure=secure))
        return {} if kept is None or options.cert is not None else {"token": kept.token}
    name, colon, password = user.partition(":")
    if colon and options.user:
        raise InvalidArgument(
            "user",
            "user: a password on the command line is seen by everybody on this machine; give "
            "--user NAME, and the password when it is asked for or by --password-file",
        )
    if not colon:
        password = password_of(name, options.password_file)
    options.password = password
    return {"user": name, "password": password}


def password_of(user: str, file: str | None) -> str:
    """From the file, KVSTORE_PASSWORD_FILE, or the person at the terminal."""
    file = file or os.environ.get("KVSTORE_PASSWORD_FILE")
    return secret_of(file, "password-file") if file else ask(f"password of {user}: ")


def new_password(user: str, file: str | None) -> str:
    """From the file, or asked for twice. Raises InvalidArgument."""
    if file:
        return secret_of(file, "new-password-file")
    password = ask(f"new password of {user}: ")
    if not password:
        raise InvalidArgument("password", "password: must not be empty")
    if ask(f"new password of {user}, again: ") != password:
        raise InvalidArgument("password", "the two passwords differ")
    return password


def ask(prompt: str) -> str:
    """What a person types without echo. Raises InvalidArgument if nobody is there."""
    try:
        with open(TERMINAL, "rb"):
            pass
    except OSError:
        raise InvalidArgument(
            "password", "there is no terminal to ask for a password: give it by a file"
        ) from None
    try:
        return getpass.getpass(prompt)
    except EOFError:
        raise InvalidArgument("password", "no password was given") from None


def secret_of(file: str, name: str) -> str:
    """The first line of a file, - for stdin. Raises InvalidArgument, also for a file of ours that
    others can read."""
    if file == "-":
        text = sys.stdin.readline()
    else:
        try:
            with Path(file).open() as opened:
                status = os.fstat(opened.fileno())
                if status.st_uid == os.getuid() and status.st_mode & OURS_ONLY:
                    text = f"{name}: others can read {file}; mend it with: chmod 600 {file}"
                    raise InvalidArgument(name, text)
                text = opened.readline()
        except (OSError, UnicodeDecodeError) as error:
            cause = error.strerror if isinstance(error, OSError) else "it is not text"
            raise InvalidArgument(name, f"{name}: cannot read {file}: {cause}") from None
    secret = text.rstrip("\r\n")
    if not secret:
        raise InvalidArgument(name, f"{name}: there is nothing in {file}")
    return secret


# -- what `kvstore login` keeps --------------------------------------------------------------


def kept_path() -> Path:
    """Where logins are kept."""
    base = os.environ.get("XDG_CONFIG_HOME")
    return (Path(base) if base else Path.home() / ".config") / "kvstore" / "logins.json"


def kept_login(endpoints: tuple[str, ...]) -> KeptLogin | None:
    """That for these nodes: a token goes to no other. Raises InvalidArgument."""
    for each in _kept():
        if set(endpoints) <= set(each.endpoints):
            return each
    return None


def keep_login(login: KeptLogin) -> Path:
    """Keep it, in place of another for the same nodes; where. Raises InvalidArgument."""
    others = [each for each in _kept() if not set(each.endpoints) & set(login.endpoints)]
    _write([*others, login])
    return kept_path()


def forget_login(endpoints: tuple[str, ...]) -> bool:
    """Whether there was one."""
    before = _kept()
    left = [each for each in before if not set(endpoints) & set(each.endpoints)]
    if len(left) < len(before):
        _write(left)
    return len(left) < len(before)


def _kept() -> list[KeptLogin]:
    path = kept_path()
    try:
        data = path.read_bytes()
        if path.stat().st_mode & OURS_ONLY:
            text = f"others can read {path}; mend it with: chmod 600 {path}"
            raise InvalidArgument("login", text)
        return msgspec.json.decode(data, type=list[KeptLogin])
    except FileNotFoundError:
        return []
    except OSError as error:
        raise InvalidArgument("login", f"cannot read {path}: {error.strerror}") from None
    except msgspec.DecodeError as error:
        text = f"{path} is damaged ({error}); remove it and log in again"
        raise InvalidArgument("login", text) from None


def _write(logins: list[KeptLogin]) -> None:
    path = kept_path()
    documents: list[Any] = [msgspec.to_builtins(each) for each in logins]
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        new = path.with_name(f"{path.name}.{os.getpid()}")
        try:
            descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w") as file:
                json.dump(documents, file, indent=1)
            new.replace(path)
        finally:
            with suppress(FileNotFoundError):
                new.unlink()
    except OSError as error:
        raise InvalidArgument("login", f"cannot keep it in {path}: {error.strerror}") from None
