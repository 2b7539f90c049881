"""From an error to an answer and back: server and client read one table."""

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import kvstore.client
from http_api.core.problems import problem, problem_document
from kvstore import errors
from kvstore.client.answers import decode
from kvstore.client.credentials import decode_token
from kvstore.client.results import PutResult
from kvstore.client.verdict import HttpReply, error_of
from kvstore.errors import (
    KINDS,
    ConditionFailed,
    FieldForm,
    InvalidArgument,
    KeyNotFound,
    KvError,
    LeaseExists,
    LeaseNotFound,
    MethodNotAllowed,
    NoQuorum,
    OutcomeUnknown,
    Overloaded,
    PermissionDenied,
    Reason,
    RequestError,
    RevisionCompacted,
    RevisionInFuture,
    StorageError,
    StorageFailed,
    TooLarge,
    TooManyOperations,
    Unauthenticated,
    Unavailable,
    Unexpected,
    WireField,
    auth_error,
)
from tests.support.examples import TIMES

ID = (1 << 63) - 1
PROBLEM = {"Content-Type": "application/problem+json"}

text = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), min_size=1, max_size=20)


def values(field: WireField) -> st.SearchStrategy[int | str]:
    return text.map(str.strip).filter(bool) if field.form is FieldForm.TEXT else st.integers(0, ID)


def some(cls: type[KvError]) -> st.SearchStrategy[KvError]:
    """An error of the class with any text and fields."""
    fields = st.fixed_dictionaries({field.name: values(field) for field in cls.fields})
    return st.builds(cls.restored, st.text(min_size=1), fields)


def sent(error: KvError, outcome: str | None = None) -> HttpReply:
    """The answer that the server writes for an error, as the client reads it."""
    head, _, body = problem(error, outcome).keeping().partition(b"\r\n\r\n")
    status_line, *lines = head.decode().split("\r\n")
    pairs = (line.split(": ", 1) for line in lines)
    return HttpReply(int(status_line.split()[1]), dict(pairs), body)


def same(one: KvError, other: KvError) -> bool:
    return type(one) is type(other) and str(one) == str(other) and vars(one) == vars(other)


@pytest.mark.parametrize("body", [b'{"title":"\xff"}', b'{"a":' + b"[" * 100_000, b"{"])
def test_what_is_no_json_is_judged_by_its_status(body: bytes) -> None:
    """A proxy may answer anything, also text that is no UTF-8."""
    assert type(error_of(HttpReply(503, PROBLEM, body))) is NoQuorum
    with pytest.raises(OutcomeUnknown, match="cannot read"):
        decode(body, PutResult)
    with pytest.raises(Unavailable, match="unreadably"):
        decode_token(body)


@pytest.mark.parametrize("cls", KINDS, ids=lambda cls: cls.__name__)
@settings(max_examples=20 * TIMES)
@given(data=st.data())
def test_every_error_comes_back_as_it_was(cls: type[KvError], data: st.DataObject) -> None:
    error = data.draw(some(cls))
    assert same(error_of(sent(error)), error)


@pytest.mark.parametrize(
    "error",
    [
        InvalidArgument("limit", "limit: at most 1000"),
        RevisionCompacted(3, 7),
        RevisionInFuture(9, 7),
        ConditionFailed(3),
        ConditionFailed(0),
        TooManyOperations(128),
        LeaseNotFound(ID),
        LeaseExists(ID),
        KeyNotFound(),
        KeyNotFound("the key does not exist at revision 3"),
        MethodNotAllowed("PATCH", "GET, PUT"),
        NoQuorum("no leader"),
        *map(auth_error, Reason),
    ],
    ids=repr,
)
def test_so_does_what_the_server_raises(error: KvError) -> None:
    assert same(error_of(sent(error)), error)


def test_a_text_that_is_empty_is_the_meaning() -> None:
    assert str(error_of(sent(NoQuorum()))) == NoQuorum.kind.meaning


def test_documents_have_the_fields_that_the_client_reads() -> None:
    assert problem_document(LeaseNotFound(ID))["lease"] == str(ID)
    assert problem_document(TooManyOperations(128))["maximum"] == 128
    assert problem_document(ConditionFailed(3)) == {
        "type": "/problems/condition-failed",
        "title": "Condition failed",
        "status": 412,
        "detail": "the condition does not hold: the key is at revision 3",
        "outcome": "not-applied",
        "mod_revision": 3,
    }
    assert "allow" not in problem_document(MethodNotAllowed("PATCH", "GET"))
    assert sent(MethodNotAllowed("PATCH", "GET")).headers["Allow"] == "GET"
    assert sent(NoQuorum("x")).headers["Retry-After"] == "1"
    assert sent(auth_error(Reason.NO_USER)).headers["WWW-Authenticate"].startswith("Bearer")


def test_the_table_is_whole_and_tells_kinds_apart() -> None:
    assert len({kind.slug for kind in KINDS.values()}) == len(KINDS) > 20
    bases = {RequestError, errors.AuthError, errors.BadRequest, Unavailable}
    assert every(KvError) - set(KINDS) - bases == set()


def every(base: type[KvError]) -> set[type[KvError]]:
    """The subclasses that `kvstore.errors` itself has."""
    own = {cls for cls in base.__subclasses__() if cls.__module__.startswith("kvstore.errors")}
    return own.union(*map(every, own))


def test_every_error_can_be_imported_from_the_client() -> None:
    for cls in every(KvError) | {KvError}:
        assert getattr(kvstore.client, cls.__name__) is cls
        assert cls.__name__ in kvstore.client.__all__
    assert not hasattr(kvstore.client, StorageError.__name__)
    assert not issubclass(StorageFailed, KvError)


@pytest.mark.parametrize(
    ("status", "document", "error"),
    [
        # Of a node: by its type, whatever the base address before it.
        (401, {"type": "/problems/unauthenticated"}, Unauthenticated),
        (403, {"type": "http://10.0.0.1/problems/permission-denied"}, PermissionDenied),
        (404, {"type": "/problems/lease-not-found", "lease": "nonsense"}, LeaseNotFound),
        # Of a node of a later version: by its status, and by the outcome that it tells.
        (401, {"type": "/problems/x", "outcome": "not-applied"}, Unauthenticated),
        (403, {"type": "/problems/x", "outcome": "not-applied"}, PermissionDenied),
        (409, {"type": "/problems/x", "outcome": "not-applied"}, InvalidArgument),
        (410, {"type": "/problems/not-revision-compacted"}, InvalidArgument),
        (412, {"type": "/problems/x"}, ConditionFailed),
        (500, {"type": "/problems/x", "outcome": "not-applied"}, Unavailable),
        (500, {"type": "/problems/x", "outcome": "unknown"}, OutcomeUnknown),
        (503, {"type": "/problems/x"}, NoQuorum),
        # What it tells of the outcome goes before what the type means.
        (503, {"type": "/problems/no-quorum", "outcome": "unknown"}, OutcomeUnknown),
        (500, {"type": "/problems/unexpected", "outcome": "not-applied"}, Unavailable),
        (500, {"type": "/problems/unexpected", "outcome": "unknown"}, Unexpected),
        # Of something else: a JSON of its own says nothing about the store's users.
        (401, {"message": "no token"}, InvalidArgument),
        (403, {"message": "go away"}, InvalidArgument),
        (502, {"message": "bad gateway"}, OutcomeUnknown),
        (429, {}, Overloaded),
    ],
)
def test_what_an_answer_means(status: int, document: dict[str, Any], error: type) -> None:
    found = error_of(HttpReply(status, PROBLEM, msgspec.json.encode(document)))
    assert type(found) is error


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (302, InvalidArgument),
        (401, InvalidArgument),
        (403, InvalidArgument),
        (404, InvalidArgument),
        (413, TooLarge),
        (429, Overloaded),
        (500, OutcomeUnknown),
        (502, OutcomeUnknown),
        (503, NoQuorum),
        (504, OutcomeUnknown),
    ],
)
@pytest.mark.parametrize("headers", [{"Content-Type": "text/html"}, PROBLEM])
def test_what_answers_without_a_problem_is_no_node(
    status: int, error: type, headers: dict[str, str]
) -> None:
    found = error_of(HttpReply(status, headers, b"<html>"))
    assert type(found) is error
    asks = "is this endpoint a kvstore node?" in str(found)
    assert asks == (error is InvalidArgument) and f"HTTP status {status}" in str(found)


def test_a_reason_of_a_later_version_is_not_mistaken_for_another() -> None:
    document = {"type": "/problems/permission-denied", "detail": "not on a Sunday"}
    found = error_of(HttpReply(403, PROBLEM, msgspec.json.encode(document)))
    assert isinstance(found, PermissionDenied) and found.reason is Reason.UNKNOWN
    assert str(found) == "not on a Sunday"


def test_retry_after_is_read() -> None:
    headers = {**PROBLEM, "Retry-After": "7"}
    body = msgspec.json.encode({"type": "/problems/overloaded"})
    found = error_of(HttpReply(503, headers, body))
    assert isinstance(found, Overloaded) and found.retry_after_s == 7
