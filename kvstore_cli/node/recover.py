"""`kvstore recover`: a cluster of one from what is left, and a new password for root."""

import os
import socket
import sys
import time
from argparse import ArgumentParser, Namespace
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from kvstore.config import parse_address
from kvstore.errors import InvalidArgument, StorageError
from kvstore_cli.command import Command
from kvstore_cli.credentials import new_password
from kvstore_cli.output import OK, print_json

if TYPE_CHECKING:
    from kvstore.replica.recovering import Survivor

_TEXT = """\
--new-cluster is for when a quorum of the members is gone for good. The directory becomes that of
the only member of a new cluster, with all that it holds; then start it, and let others join. What
it does not hold is lost: writes that only others had. No node of the old cluster may run any more.
Refused while as many other voters answer as can go on without this one: then add a member instead.

--reset-root is for when nobody can log in as root any more. Stop one node, set root's password in
its directory, and start it: with its quorum it changes the password for the whole cluster, once,
and says so in its log. Root's tokens end. What was set is good for an hour.

examples:
  kvstore recover --data-dir node2 --new-cluster
  kvstore recover --data-dir node2 --reset-root     asks for the new password, twice
  kvstore serve --data-dir node2
"""
_ANSWERS_S = 1.0
_FAILED = 74


def _flags(parser: ArgumentParser) -> None:
    parser.add_argument("--data-dir", metavar="DIR", type=Path, required=True)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--new-cluster", action="store_true", help="yes, a new cluster")
    what.add_argument("--reset-root", action="store_true", help="a new password for root")
    parser.add_argument(
        "--i-know", action="store_true", help="although a quorum of the old cluster may live"
    )
    parser.add_argument(
        "--new-password-file", "--password-file", metavar="FILE",
        help="take root's new password from FILE, - for stdin",
    )  # fmt: skip
    parser.add_argument("--json", action="store_true", help="answer in JSON")


def _run(options: Namespace) -> int:
    return _reset_root(options) if options.reset_root else _recover(options)


def _reset_root(options: Namespace) -> int:
    """Raises InvalidArgument."""
    from http_api.callers.passwords import PASSWORD_BYTES_MAX, SALT_BYTES, password_hash
    from kvstore_cli.node.root_reset import GOOD_S, leave_record

    password = new_password("root", options.new_password_file)
    if len(password.encode("utf-8", "surrogatepass")) > PASSWORD_BYTES_MAX:
        raise InvalidArgument("password", f"password: at most {PASSWORD_BYTES_MAX} bytes")
    hashed = password_hash(password, os.urandom(SALT_BYTES))
    try:
        identity = leave_record(options.data_dir, hashed, time.time())
    except (StorageError, OSError) as error:
        print(f"kvstore: {error}", file=sys.stderr)
        return _FAILED
    if options.json:
        print_json({"node": identity.node_id, "good_s": GOOD_S})
        return OK
    print(
        f"node {identity.node_id} sets root's password at its next start, if that is within "
        f"{GOOD_S / 60:.0f} minutes and it has a quorum by then; its log says when it is done."
    )
    return OK


def _recover(options: Namespace) -> int:
    from kvstore.replica.recovering import look, recover

    try:
        survivor = look(options.data_dir)
        living = [id for id, address in survivor.others.items() if _answers(address)]
        if not options.i_know and (reason := _why_not(survivor, living)):
            print(f"kvstore: {reason}, or say --i-know", file=sys.stderr)
            return 2
        done = recover(options.data_dir)
    except (StorageError, OSError) as error:
        print(f"kvstore: {error}", file=sys.stderr)
        return _FAILED
    if options.json:
        print_json(asdict(done))
        return OK
    print(
        f"{options.data_dir} is node {done.node}, the only member of the new cluster "
        f"{done.cluster_id}; it was node {survivor.node} of {done.was_cluster_id}."
    )
    print(f"It is at revision {done.revision}, slot {done.kept_through}.")
    print(f"Up to slot {done.sure_through} it is what the old cluster had chosen.")
    if done.kept_through > done.sure_through:
        print(
            f"Slots {done.sure_through + 1} to {done.kept_through} were accepted here, and are "
            "kept; whether they were chosen is not known."
        )
    print("Writes that were acknowledged in later slots are lost, if there were any.")
    return OK


def _why_not(survivor: "Survivor", living: list[int]) -> str:
    """Why others may be a cluster without this node; "" if they are too few."""
    if survivor.can_go_on(living):
        return (
            f"nodes {living} of cluster {survivor.cluster_id} answer, and are enough to go on "
            "without this one: replace it there (see kvstore member)"
        )
    unknown = [id for id, address in survivor.others.items() if not address]
    if survivor.can_go_on([*living, *unknown]):
        return (
            f"nodes {living} answer, and where nodes {unknown} are is not known here; together "
            "they are enough to go on without this one: see that they do not run"
        )
    return ""


def _answers(address: str) -> bool:
    """Whether somebody listens there."""
    try:
        place = parse_address(address, "peer address")
        socket.create_connection(place, _ANSWERS_S).close()
    except (OSError, InvalidArgument):
        return False
    return True


COMMANDS = (
    Command(
        "recover", "make a new cluster from one directory, or set root's password anew", _TEXT,
        (_flags,), _run,
    ),
)  # fmt: skip
