"""Errors of requests that cannot be served by anybody as they are."""

from collections.abc import Mapping
from typing import ClassVar, Self

from kvstore.errors.base import FieldForm, Kind, RequestError, WireField


class InvalidArgument(RequestError):
    """A parameter that cannot be. `parameter` names it."""

    kind = Kind(
        "invalid-argument", 400, "Invalid argument",
        "A key, parameter or header has a value that cannot be; `parameter` names it.",
    )  # fmt: skip
    fields: ClassVar[tuple[WireField, ...]] = (WireField("parameter", FieldForm.TEXT, "request"),)

    def __init__(self, parameter: str, detail: str) -> None:
        super().__init__(detail)
        self.parameter = parameter


class BadRequest(InvalidArgument):
    """The request as a whole cannot be, rather than one of its parameters."""

    fields: ClassVar[tuple[WireField, ...]] = ()

    def __init__(self, detail: str) -> None:
        super().__init__("request", detail)

    @classmethod
    def restored(cls, detail: str, values: Mapping[str, int | str]) -> Self:
        """See `KvError.restored`."""
        return super().restored(detail, {"parameter": "request", **values})


class Malformed(BadRequest):
    """The request, or its body, does not follow its format."""

    kind = Kind(
        "malformed", 400, "Malformed request", "The request or its body does not follow its format."
    )


class Contradiction(BadRequest):
    """Two parts of the request exclude each other."""

    kind = Kind(
        "contradiction", 400, "Contradictory request",
        "Two parts of the request exclude each other.",
    )  # fmt: skip


class PathNotFound(BadRequest):
    """No such resource."""

    kind = Kind("not-found", 404, "Not found", "There is no such resource.")


class MethodNotAllowed(BadRequest):
    """The resource exists and does not take the method. `allow` lists those that it takes."""

    kind = Kind(
        "method-not-allowed", 405, "Method not allowed",
        "The resource does not take this method; `Allow` lists those that it takes.",
    )  # fmt: skip
    fields = (WireField("allow", FieldForm.TEXT, "", header="Allow"),)

    def __init__(self, method: str, allow: str) -> None:
        super().__init__(f"this resource does not take {method}; it takes {allow}")
        self.allow = allow


class CrossSite(BadRequest):
    """A page of another site may not do this."""

    kind = Kind(
        "cross-site", 403, "From a page of another site",
        "Pages of other sites may change nothing here, unless `cors-origin` allows them.",
    )  # fmt: skip

    def __init__(self, origin: str) -> None:
        super().__init__(
            f"pages of {origin[:80]} may change nothing here; the operator can allow them by "
            "--cors-origin"
        )


class UnknownHost(BadRequest):
    """The Host header names somebody else."""

    kind = Kind(
        "unknown-host", 421, "Unknown host",
        "The Host header has a name that this node does not go by; see `allowed-host`.",
    )  # fmt: skip

    def __init__(self, host: str) -> None:
        super().__init__(
            f"this node does not go by the name {host[:80]!r}; the operator can add it by "
            "--allowed-host"
        )


class UnsupportedMedia(BadRequest):
    """The body is encoded in a way that the server does not undo."""

    kind = Kind(
        "unsupported-content-encoding", 415, "Unsupported content encoding",
        "Values are stored as they are sent; the server undoes no Content-Encoding.",
    )  # fmt: skip


class ExpectationFailed(BadRequest):
    """An Expect header other than 100-continue."""

    kind = Kind(
        "expectation-failed", 417, "Expectation failed",
        "The only expectation that this server meets is 100-continue.",
    )  # fmt: skip


class BodyTimeout(RequestError):
    """The request body did not arrive in time."""

    kind = Kind(
        "body-timeout", 408, "Request body too slow", "The request body did not arrive in time."
    )


class TooLarge(RequestError):
    """A body or command over the limit."""

    kind = Kind("too-large", 413, "Body too large", "The request body is over the limit.")
