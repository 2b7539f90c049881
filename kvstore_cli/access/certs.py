"""`kvstore certs`: an authority of one's own, without ceremony."""

from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from kvstore.errors import InvalidArgument
from kvstore_cli.command import Command, positive
from kvstore_cli.output import OK, print_json, print_table

if TYPE_CHECKING:
    from kvstore.certificates.facts import CertificateFacts

DAYS = 365
RENEW_SHARE = 3
"""What has less than this part of its time left is renewed."""

_CERTS = """\
The authority is made of two files: ca.crt, which nodes and clients get, and ca.key, which signs:
nobody else may have it, and no node needs it. Nodes see renewed certificates without a restart.

examples:
  kvstore certs init
  kvstore certs issue n1 --hosts n1.example,10.0.0.1
  kvstore certs issue n2 --node 2                   good for the peers of node 2 as well
  kvstore certs client alice                        shows that its holder is the user alice
  kvstore certs show
  kvstore certs renew                               what has less than a third of its time left
  kvstore serve --cert-file certs/n1.crt --key-file certs/n1.key --client-ca certs/ca.crt ...
  kvstore get --ca certs/ca.crt --cert certs/alice.crt --key certs/alice.key greeting
"""


def _dir_flags(parser: ArgumentParser) -> None:
    add = parser.add_argument
    add("--dir", metavar="DIR", type=Path, default=Path("certs"),
        help="where the files are (default: %(default)s)")  # fmt: skip
    add("--json", action="store_true", help="answer in JSON, one object per line")


def _days_flags(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--days", metavar="N", type=positive, default=DAYS, help="how long (default: %(default)s)"
    )


def _init_flags(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--name", metavar="NAME", default="kvstore authority", help="(default: %(default)s)"
    )


def _issue_flags(parser: ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="of the node, and of its files")
    parser.add_argument(
        "--hosts", metavar="HOST,...", default="localhost,127.0.0.1,::1",
        help="names and addresses by which clients reach it (default: %(default)s)",
    )  # fmt: skip


def _node_flags(parser: ArgumentParser) -> None:
    add = parser.add_argument
    add("--node", metavar="N", type=positive, help="it shows its peers that it is node N")
    add("--cluster", metavar="ID", default="", help="of this cluster only")
    add("--incarnation", metavar="ID", default="", help="with this data directory only")


def _client_flags(parser: ArgumentParser) -> None:
    parser.add_argument("name", metavar="USER")


def _renew_flags(parser: ArgumentParser) -> None:
    add = parser.add_argument
    add("name", metavar="NAME", nargs="*", help="these, however long they last")


def _init(options: Namespace) -> int:
    from kvstore.certificates.authority import Authority

    authority = Authority(options.dir)
    _show([(authority.certificate_file, authority.create(options.name))], options)
    return OK


def _issue(options: Namespace) -> int:
    from kvstore.certificates.authority import Authority
    from kvstore.certificates.node_names import NodeName

    hosts = [host.strip() for host in options.hosts.split(",") if host.strip()]
    node = None
    if options.node is not None:
        node = NodeName(options.node, options.cluster, options.incarnation)
    facts = Authority(options.dir).issue_server(options.name, hosts, options.days, node)
    _show([(options.dir / f"{options.name}.crt", facts)], options)
    return OK


def _client(options: Namespace) -> int:
    from kvstore.certificates.authority import Authority

    facts = Authority(options.dir).issue_client(options.name, options.days)
    _show([(options.dir / f"{options.name}.crt", facts)], options)
    return OK


def _list(options: Namespace) -> int:
    from kvstore.certificates.authority import Authority

    issued = Authority(options.dir).issued()
    if not issued:
        text = f"dir: there are no certificates in {options.dir}: kvstore certs init"
        raise InvalidArgument("dir", text)
    _show(issued, options)
    return OK


def _renew(options: Namespace) -> int:
    from kvstore.certificates.authority import Authority

    authority = Authority(options.dir)
    chosen = options.name or [
        file.stem
        for file, facts in authority.issued()
        if facts.kind != "authority" and facts.left() * RENEW_SHARE < facts.ends - facts.begins
    ]
    renewed = [
        (options.dir / f"{name}.crt", authority.renew(name, options.days)) for name in chosen
    ]
    if renewed or options.json:
        _show(renewed, options)
    else:
        print("nothing to renew: each has more than a third of its time left")
    return OK


def _show(found: "list[tuple[Path, CertificateFacts]]", options: Namespace) -> None:
    if options.json:
        for file, facts in found:
            print_json(
                {
                    "file": str(file), "subject": facts.subject, "issuer": facts.issuer,
                    "kind": facts.kind, "hosts": facts.hosts, "uris": facts.uris,
                    "ends": facts.ends.isoformat(),
                    "fingerprint": facts.fingerprint,
                }
            )  # fmt: skip
        return
    rows = [("FILE", "SUBJECT", "KIND", "HOSTS", "ENDS", "SHA-256")]
    for file, facts in found:
        days = facts.left().days
        ends = f"{facts.ends:%Y-%m-%d} ({'ended' if days < 0 else f'{days} days'})"
        hosts = ",".join((*facts.hosts, *facts.uris)) or "-"
        rows.append((str(file), facts.subject, facts.kind, hosts, ends, facts.fingerprint[:16]))
    print_table(rows)


COMMANDS = (
    Command(
        "certs", "make certificates for nodes and users", _CERTS,
        actions=(
            Command("init", "make an authority", _CERTS, (_dir_flags, _init_flags), _init),
            Command(
                "issue", "make a node's certificate", _CERTS,
                (_dir_flags, _days_flags, _issue_flags, _node_flags), _issue,
            ),
            Command(
                "client", "make a user's certificate", _CERTS,
                (_dir_flags, _days_flags, _client_flags), _client,
            ),
            Command("show", "list certificates, and when they end", _CERTS, (_dir_flags,), _list),
            Command(
                "renew", "give certificates a later end", _CERTS,
                (_dir_flags, _days_flags, _renew_flags), _renew,
            ),
        ),
    ),
)  # fmt: skip
