"""TLS between members: who is let in, who is refused and with which line, and what goes on."""

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import uvloop

from kvstore.certificates.authority import Authority
from kvstore.certificates.node_names import NodeName
from kvstore.errors import InvalidArgument
from kvstore.peers.dialling import Dialling, _SpeaksNoTls
from kvstore.peers.doorstep import PLAIN_REFUSED
from kvstore.peers.frames import Refusal, Relay, decode_hello, encode_frame
from kvstore.peers.incoming import STRANGERS_PER_ADDRESS
from kvstore.peers.membership import Membership
from kvstore.peers.roster import Roster, RosterMember
from tests.support.certificates import odd_certificate
from tests.support.town import INCARNATIONS, Events, Town, closed, come, frame, town

HOSTS = ["localhost"]
GONE = "its certificate is of a node that is no member any more"
CLUSTER = "c53c44caef93273a"
"""As these members found it."""


def on_uvloop(run: Callable[[], Awaitable[None]]) -> None:
    """The loop of the product; TLS is its own there."""

    async def main() -> None:
        await run()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An authority, certificates of nodes 1 to 3, and faulty ones."""
    place = tmp_path_factory.mktemp("certs")
    authority = Authority(place)
    authority.create("tests")
    for node in INCARNATIONS:
        authority.issue_server(f"n{node}", HOSTS, 30, NodeName(node))
    authority.issue_server("exact", HOSTS, 30, NodeName(2, CLUSTER, "two"))
    authority.issue_server("other-cluster", HOSTS, 30, NodeName(2, "elsewhere", "two"))
    authority.issue_server("other-disk", HOSTS, 30, NodeName(2, "", "another"))
    authority.issue_server("no-number", HOSTS, 30, NodeName(0, "c", "fresh"))
    authority.issue_server("other-no-number", HOSTS, 30, NodeName(0, "c", "another"))
    authority.issue_server("no-node", HOSTS, 30)
    authority.issue_client("alice", 30)
    odd_certificate(place, "ended", ends_days=-0.5, node=NodeName(2))
    strange = Authority(place / "strange")
    strange.create("strangers")
    strange.issue_server("n2", HOSTS, 30, NodeName(2))
    return place


@pytest.fixture
def certificates(made: Path) -> Iterator[Path]:
    """What a test changes is put back."""
    held = {file: file.read_bytes() for file in made.glob("n*")}
    yield made
    for file, content in held.items():
        file.write_bytes(content)


def shown(place: Path, name: str) -> ssl.SSLContext:
    """What somebody dials with, who looks at nothing."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if name:
        context.load_cert_chain(place / f"{name}.crt", place / f"{name}.key")
    return context


def reasons(events: Events, name: str = "link refused") -> list[str]:
    return [str(fields["reason"]) for fields in events.named(name)]


async def dialled(
    here: Town, context: ssl.SSLContext | None
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A call to node 1."""
    return await asyncio.open_connection(*here.addresses[1], ssl=context)


async def refused_answer(here: Town, name: str) -> str:
    """What node 1 answers to somebody who says that it is node 2, with this certificate."""
    reader, writer = await dialled(here, shown(here.certificates, name))
    writer.write(encode_frame(here.hello(2, 1)))
    answer = decode_hello(await frame(reader))
    writer.close()
    return answer.reason if isinstance(answer, Refusal) else ""


def test_members_meet_by_tls_on_both_loops(certificates: Path) -> None:
    async def run() -> None:
        async with town(certificates) as here:
            one = await here.member(1, certificate="n1")
            two = await here.member(2, certificate="n2")
            await come(lambda: one.transport.connected(2) and two.transport.connected(1), "met")
            assert one.transport.plain() == two.transport.plain() == 0
            assert one.transport.certificate_ends_s > 0 and one.transport.warning == ""
            one.transport.send(2, Relay(b"x" * 100_000))
            one.transport.flush()
            await come(lambda: two.heard == [Relay(b"x" * 100_000)], "a message arrives")
            told = [*reasons(one.events), *reasons(two.events)]
            assert not [reason for reason in told if "certificate" in reason]

    asyncio.run(run())
    on_uvloop(run)


def test_a_certificate_must_say_what_the_handshake_says(certificates: Path) -> None:
    async def run() -> None:
        async with town(certificates) as here:
            one = await here.member(1, certificate="n1")
            assert await refused_answer(here, "n2") == ""
            assert await refused_answer(here, "exact") == ""
            said = f"and it says that it is kvstore://{CLUSTER}/2/two"
            for name in ("n3", "other-cluster", "other-disk", "no-node", "alice"):
                told = await refused_answer(here, name)
                assert told.startswith("its certificate is ") and said in told, name
                assert told in reasons(one.events)
            assert any(
                r.startswith("its certificate is kvstore:///3,") for r in reasons(one.events)
            )

    on_uvloop(run)


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
def test_a_handshake_of_tls_is_refused_with_its_line(certificates: Path) -> None:
    old = shown(certificates, "n2")
    old.minimum_version, old.maximum_version = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1
    old.set_ciphers("ALL:@SECLEVEL=0")
    cases = [
        (shown(certificates, ""), "no TLS: it shows no certificate"),
        (shown(certificates, "ended"), "its certificate is not accepted: certificate has expired"),
        (shown(certificates, "strange/n2"), "not accepted: unable to get local issuer certificate"),
        (old, "no TLS: it speaks a TLS older than 1.2"),
    ]

    async def run() -> None:
        async with town(certificates) as here:
            one = await here.member(1, certificate="n1")
            for context, line in cases:
                try:
                    reader, writer = await dialled(here, context)
                    assert await closed(reader)
                    writer.close()
                except OSError:
                    pass
                await come(lambda line=line: any(line in r for r in reasons(one.events)), line)
            reader, writer = await dialled(here, None)
            writer.write(encode_frame(here.hello(2, 1)))
            answer = decode_hello(await frame(reader))
            assert isinstance(answer, Refusal) and answer.reason == PLAIN_REFUSED
            writer.close()
            assert reasons(one.events).count(PLAIN_REFUSED) == 1
            assert len(reasons(one.events)) == len(cases) + 1, "one line each"

    on_uvloop(run)


def test_a_node_with_a_certificate_of_no_use_hears_why(certificates: Path) -> None:
    async def run() -> None:
        async with town(certificates) as here:
            one = await here.member(1, certificate="n1")
            two = await here.member(2, certificate="n3")
            assert two.events.named("peer certificate of another node")
            plain = await here.member(3)
            line = "its certificate is kvstore:///3, and it says that it is kvstore://"
            await come(lambda: any(line in reason for reason in reasons(two.events)), "two hears")
            await come(
                lambda: any(PLAIN_REFUSED in reason for reason in reasons(plain.events)), "plain"
            )
            await come(
                lambda: any("it does not speak TLS" in r or "ends the connection" in r
                            for r in reasons(one.events)), "one hears that three is plain",
            )  # fmt: skip
            assert not one.transport.connected(2) and not one.transport.connected(3)

    on_uvloop(run)


def test_a_removed_node_cannot_make_up_a_roster(certificates: Path) -> None:
    members = tuple(RosterMember(n, i, f"n{n}", "", "", True) for n, i in INCARNATIONS.items())
    present = Roster("c", 5, 3, (members[0], members[2]))
    forged = Roster("c", 9, 3, members)

    async def run() -> None:
        async with town(certificates) as here:
            one = await here.member(1, certificate="n1")
            one.membership.adopt(present)
            reader, writer = await dialled(here, shown(certificates, "n2"))
            hello = here.hello(2, 1)
            writer.write(encode_frame(type(hello)(
                **{**{f: getattr(hello, f) for f in hello.__struct_fields__}, "present": forged}
            )))  # fmt: skip
            answer = decode_hello(await frame(reader))
            writer.close()
            assert isinstance(answer, Refusal) and "is not a member" in answer.reason
            assert one.membership.roster == present

    on_uvloop(run)


def test_who_comes_without_a_disk_shows_that_it_is_no_removed_one(certificates: Path) -> None:
    members = tuple(RosterMember(n, i, f"n{n}", "", "", True) for n, i in INCARNATIONS.items())
    present = Roster("c", 5, 3, (members[0], members[2]))
    claim = Membership(0, "fresh", None, "", {}, False, lambda *_: None, name="n3")

    async def answer(here: Town, name: str) -> str:
        reader, writer = await dialled(here, shown(certificates, name))
        writer.write(encode_frame(claim.hello(1, "x", 500)))
        told = decode_hello(await frame(reader))
        writer.close()
        assert isinstance(told, Refusal)
        return told.reason

    async def run() -> None:
        async with town(certificates) as here:
            one = await here.member(1, certificate="n1")
            one.membership.adopt(present)
            assert await answer(here, "n2") == GONE and "n3" not in one.membership.claims
            assert "must be replaced" in await answer(here, "n3")
            assert one.membership.claims.pop("n3").incarnation == "fresh"
            assert "must be replaced" in await answer(here, "no-number")
            assert one.membership.claims.pop("n3").incarnation == "fresh"
            told = await answer(here, "other-no-number")
            assert told.startswith("its certificate is kvstore://c/0/another, and it says")
            assert not one.membership.claims

    on_uvloop(run)


def test_while_a_cluster_moves_each_kind_is_met(certificates: Path) -> None:
    async def run() -> None:
        async with town(certificates) as here:
            moving = await here.member(1, certificate="n1", peer_tls="prefer")
            before = await here.member(2)
            after = await here.member(3, certificate="n3", peer_tls="require")
            pairs = [(moving, 2), (moving, 3), (before, 1), (after, 1)]
            await come(lambda: all(m.transport.connected(n) for m, n in pairs), "all met")
            assert (moving.transport.plain(), after.transport.plain()) == (1, 0)
            assert not before.transport.connected(3) and not after.transport.connected(2)
            await before.transport.stop()
            second = await here.member(2, "later", certificate="n2", peer_tls="prefer")
            await come(lambda: second.transport.connected(1) and moving.transport.plain() == 0,
                       "TLS comes first")  # fmt: skip
            await come(lambda: after.transport.connected(2), "and is enough for all")

    on_uvloop(run)


def test_a_plain_link_is_given_up_once_its_peer_speaks_tls(
    certificates: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who is busy, or just ending, looks as if it spoke no TLS: it must not stay plain for that."""
    busy, honest = [True], Dialling._by_tls

    async def by_tls(self: Dialling, *rest: Any) -> Any:
        if busy[0]:
            raise _SpeaksNoTls("busy")
        return await honest(self, *rest)

    monkeypatch.setattr(Dialling, "_by_tls", by_tls)
    monkeypatch.setattr("kvstore.peers.outgoing.TLS_AGAIN_S", 0.05)

    async def run() -> None:
        async with town(certificates) as here:
            one = await here.member(1, certificate="n1", peer_tls="prefer")
            two = await here.member(2, certificate="n2", peer_tls="prefer")
            await come(lambda: one.transport.plain() == two.transport.plain() == 1, "met plainly")
            busy[0] = False
            await come(lambda: one.transport.plain() == two.transport.plain() == 0, "by TLS")
            await come(lambda: one.transport.connected(2) and two.transport.connected(1), "there")

    on_uvloop(run)


def test_new_files_count_for_new_links_and_open_ones_stay(certificates: Path) -> None:
    async def run() -> None:
        async with town(certificates) as here:
            one = await here.member(1, certificate="n1")
            two = await here.member(2, certificate="n2")
            await come(lambda: one.transport.connected(2) and two.transport.connected(1), "met")
            tls = one.transport.tls
            assert tls is not None
            before = tls.facts.serial
            Authority(certificates).renew("n1", 60)
            tls.look()
            assert tls.facts.serial != before
            (certificates / "n1.key").write_text("no key")
            tls.look()
            assert one.ups == [(2, True)] and one.transport.connected(2), "nothing was dropped"
            await two.transport.stop()
            two = await here.member(2, "its second life", certificate="n2")
            await come(lambda: one.transport.connected(2) and two.transport.connected(1), "again")

    on_uvloop(run)


def test_strangers_are_few_while_they_have_shown_no_certificate(certificates: Path) -> None:
    async def run() -> None:
        async with town(certificates) as here:
            one = await here.member(1, certificate="n1")
            silent = [await dialled(here, None) for _ in range(2 * STRANGERS_PER_ADDRESS + 10)]
            half = await dialled(here, None)
            half[1].write(b"\x16\x03\x01")
            for reader, writer in [*silent, half]:
                assert await closed(reader)
                writer.close()
            assert sorted(set(reasons(one.events))) == [
                "nothing said in time", "too many connections that have shown no certificate",
            ]  # fmt: skip
            reader, writer = await dialled(here, None)
            writer.write(b"\x16\x03\x01")
            assert await closed(reader)
            writer.close()
            assert "no handshake of TLS in time" in reasons(one.events)

    on_uvloop(run)


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("no-node", "names no node"),
        ("alice", "is no server's"),
        ("ended", "ended at"),
        ("strange/n2", "is not by an authority of"),
    ],
)
def test_files_of_no_use_are_named_at_the_start(made: Path, name: str, fault: str) -> None:
    async def run() -> None:
        async with town(made) as here:
            with pytest.raises(InvalidArgument, match=fault) as raised:
                await here.member(1, certificate=name)
            assert str(made / f"{name}.crt") in str(raised.value)

    on_uvloop(run)
