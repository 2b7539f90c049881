"""Errors of changes of the members, and of those who want to join."""

from typing import ClassVar

from kvstore.errors.base import FieldForm, Kind, RequestError, WireField


class MemberNotFound(RequestError):
    """There is no such member."""

    kind = Kind(
        "member-not-found", 404, "Member not found",
        "There is no member of this id or name; ids are never used twice.",
    )  # fmt: skip

    def __init__(self, detail: str = "there is no such member") -> None:
        super().__init__(detail)


class TokenNotFound(RequestError):
    """There is no such token for joining."""

    kind = Kind(
        "token-not-found", 404, "Token not found",
        "There is no token of this id; a token that has ended is forgotten in the end.",
    )  # fmt: skip

    def __init__(self, token: str) -> None:
        super().__init__(f"there is no token with the id {token}")


class MembershipConflict(RequestError):
    """The members are not so that this change could be made; nothing changed. `reason` says why,
    in a word for programs; `number` is that of the present configuration."""

    kind = Kind(
        "membership-conflict", 409, "Not possible for these members",
        "The members cannot be changed so now; nothing changed. `reason` says why, and `number` is "
        "that of the present configuration.",
    )  # fmt: skip
    fields: ClassVar[tuple[WireField, ...]] = (
        WireField("reason", FieldForm.TEXT, ""),
        WireField("number", FieldForm.NUMBER, 0),
    )

    def __init__(self, reason: str, detail: str, number: int = 0) -> None:
        super().__init__(detail)
        self.reason = reason
        self.number = number


class MemberLost(RequestError):
    """Who wants to join has the name or the address of a member, whose disk may have been lost.
    `places` in the answer are the members' peer addresses by id: asked there, they take it in again
    in that member's place, once that one has been silent for a while."""

    kind = Kind(
        "member-lost", 409, "There is such a member",
        "A member has this name or peer address already. If its disk was lost, the members take it "
        "in again when they are asked at their peer addresses, which `places` holds by id.",
    )  # fmt: skip


class JoinDenied(RequestError):
    """The token for joining is not good, or not any more."""

    kind = Kind(
        "join-denied", 403, "Joining denied",
        "The token for joining is unknown, was used up, or has expired.",
    )  # fmt: skip

    def __init__(self, detail: str = "the token is unknown, was used up, or has expired") -> None:
        super().__init__(detail)


def membership_error(
    reason: str, detail: str, number: int = 0, under_way: str = ""
) -> RequestError:
    """The error for a change that was refused for `reason`, a word such as "under-way"; `detail` is
    the sentence for people, and `under_way` says where a change that is under way leads."""
    if reason == "unknown-member":
        return MemberNotFound(detail)
    if reason == "bad-token":
        return JoinDenied(detail)
    if reason == "under-way" and under_way:
        detail = f"{detail}: {under_way}"
    return MembershipConflict(reason, detail, number)
