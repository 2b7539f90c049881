"""`kvstore txn`: a transaction from flags, or as JSON."""

import asyncio
import re
import shlex
import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import Any

import msgspec

from kvstore.client import (
    Client,
    Compare,
    DeleteResult,
    GetResult,
    Operation,
    OperationResult,
    PutResult,
    TxnResult,
    absent,
    delete,
    exists,
    get,
    put,
)
from kvstore.client.operations import FIELDS, transaction_document
from kvstore.errors import InvalidArgument
from kvstore_cli.client_command import client_command
from kvstore_cli.output import OK, entry_json, print_json, printable

CONDITION_FAILED = 3

_CALL = re.compile(r"\s*([a-z_]+)\((.*?)\)\s*(?:(=|!=|<=|>=|<|>)\s*(.*?)\s*)?", re.DOTALL)

_TXN = """\
If all compares hold, does what --then says, else what --else says: at once, all of it or nothing.

  --if    FIELD(KEY) OP OPERAND   FIELD: value, version, create_revision, mod_revision, lease
                                  OP: = != < >, and for numbers <= >=
          exists(KEY), absent(KEY)
  --then, --else                  put KEY VALUE [--lease ID], get KEY, get --prefix P,
                                  del KEY, del --prefix P; words are quoted as in a shell

Each may be given several times. Without them the transaction is read as the JSON of POST /v1/txn,
from FILE or stdin. 0 if the compares held, 3 if they did not (and --else was done).

examples:
  kvstore txn --if 'value(from) = 10' --if 'absent(to)' --then 'del from' --then 'put to 10'
  kvstore txn --then 'put a 1' --then 'put b "two words"'
  kvstore txn --if 'version(a) > 0' --then 'get a' --else 'get --prefix defaults/' --json
  kvstore txn transfer.json
  echo '{"compare": [{"key": "a", "field": "version", "op": "=", "operand": 0}],
         "then": [{"put": {"key": "a", "value": "1"}}],
         "else": [{"get": {"key": "a"}}]}' | kvstore txn
"""


def _txn_flags(parser: ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", nargs="?", help="JSON, - for stdin (default)")
    for flag, name, text in (
        ("--if", "when", "a compare that must hold"),
        ("--then", "then", "an operation if all hold"),
        ("--else", "otherwise", "an operation if not"),
    ):
        parser.add_argument(flag, dest=name, metavar="TEXT", action="append", default=[], help=text)


async def _txn(client: Client, options: Namespace) -> int:
    done = await client.txn_document(await asyncio.to_thread(_document, options))
    if options.json:
        print_json(_txn_json(done))
    else:
        print(f"{'then' if done else 'else'}, revision {done.revision}")
        for result in done.results:
            _print_result(result, "")
    return OK if done else CONDITION_FAILED


def _document(options: Namespace) -> dict[str, Any]:
    """The transaction, from flags or as JSON from a file or stdin."""
    flags = (options.when, options.then, options.otherwise)
    if any(flags):
        if options.file is not None:
            raise InvalidArgument("file", "give FILE, or --if, --then and --else, not both")
        compares = [parse_compare(text) for text in options.when]
        branches = ([parse_operation(text) for text in texts] for texts in flags[1:])
        return transaction_document(compares, *branches)
    return _read_json(options.file or "-")


def _read_json(name: str) -> dict[str, Any]:
    try:
        data = sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes()
    except OSError as error:
        raise InvalidArgument("file", f"cannot read {name}: {error.strerror}") from None
    try:
        return msgspec.json.decode(data, type=dict[str, Any])
    except msgspec.DecodeError as error:
        raise InvalidArgument("file", f"the transaction is not a JSON object: {error}") from None


def parse_compare(text: str) -> Compare:
    """`value(KEY) = WORD`, `version(KEY) > N` and the like, `exists(KEY)`, `absent(KEY)`.

    Raises InvalidArgument.
    """
    matched = _CALL.fullmatch(text)
    name, key, relation, operand = matched.groups() if matched else ("", "", None, None)
    if relation is None and name in ("exists", "absent"):
        return exists(key) if name == "exists" else absent(key)
    kind = FIELDS.get(name)
    if kind is None or relation is None or operand is None:
        known = ", ".join(FIELDS)
        raise InvalidArgument(
            "if", f"--if: expected FIELD(KEY) OP OPERAND with a field of {known}, got {text!r}"
        )
    if name == "value" and relation in ("<=", ">="):
        raise InvalidArgument("if", f"--if: values compare with = != < >, got {text!r}")
    compare = getattr(kind(key), _METHODS[relation])
    found: Compare
    if name == "value":
        quoted = operand[:1] in ("'", '"')
        found = compare(" ".join(_words(operand)) if quoted else operand)
    else:
        found = compare(_number(operand, text))
    return found


_METHODS = {
    "=": "__eq__", "!=": "__ne__", "<": "__lt__", ">": "__gt__", "<=": "__le__", ">=": "__ge__",
}  # fmt: skip


def parse_operation(text: str) -> Operation:
    """`put KEY VALUE [--lease ID]`, `get KEY`, `get --prefix P`, `del KEY`, `del --prefix P`.

    Words are split as a shell does. Raises InvalidArgument.
    """
    match _words(text):
        case ["put", key, value]:
            return put(key, value)
        case ["put", key, value, "--lease", lease]:
            return put(key, value, lease=_number(lease, text))
        case ["get", "--prefix", prefix]:
            return get(prefix=prefix)
        case ["get", key]:
            return get(key)
        case ["del", "--prefix", prefix]:
            return delete(prefix=prefix)
        case ["del", key]:
            return delete(key)
    raise InvalidArgument(
        "then",
        "expected 'put KEY VALUE [--lease ID]', 'get KEY', 'get --prefix P', 'del KEY' or "
        f"'del --prefix P', got {text!r}",
    )


def _words(text: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError as error:
        raise InvalidArgument("then", f"{error} in {text!r}") from None


def _number(text: str, where: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise InvalidArgument("if", f"expected a whole number in {where!r}") from None


def _print_result(result: OperationResult, indent: str) -> None:
    match result:
        case PutResult():
            print(f"{indent}put\trevision {result.revision}, version {result.version}")
        case DeleteResult():
            print(f"{indent}del\t{result.deleted}")
        case GetResult():
            for entry in result.items:
                print(f"{indent}get\t{printable(entry.key)}\t{printable(entry.value)}")
            if not result.items:
                print(f"{indent}get\t({result.count} keys)")
        case TxnResult():
            print(f"{indent}{'then' if result else 'else'}")
            for inner in result.results:
                _print_result(inner, indent + "  ")


def _txn_json(done: TxnResult) -> dict[str, Any]:
    results = [_result_json(result) for result in done.results]
    return {"succeeded": done.succeeded, "revision": done.revision, "results": results}


def _result_json(result: OperationResult) -> dict[str, Any]:
    match result:
        case PutResult():
            fields: dict[str, Any] = {"revision": result.revision, "version": result.version}
            if result.previous is not None:
                fields["previous"] = entry_json(result.previous)
            return {"put": fields}
        case DeleteResult():
            previous = [entry_json(entry) for entry in result.previous]
            return {
                "delete": {
                    "deleted": result.deleted,
                    **({"previous": previous} if previous else {}),
                }
            }
        case GetResult():
            items = [entry_json(entry) for entry in result.items]
            return {"get": {"items": items, "count": result.count, "more": result.more}}
        case TxnResult():
            return {"txn": _txn_json(result)}


COMMANDS = (client_command("txn", "run a transaction", _TXN, _txn, _txn_flags),)
