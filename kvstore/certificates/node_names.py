"""How a certificate names a node: by URIs among its alternative names.

`kvstore://CLUSTER/NODE/INCARNATION`. A founder's certificate is made before its cluster has an id,
and an operator's before the data directory has drawn an incarnation, so either may be left out:
`kvstore:///1` is node 1 of the cluster that its authority makes certificates for. An incarnation is
drawn once and never again, so who is named by it is named in one cluster only: a node that waits to
be taken in has no number yet, and is `kvstore://CLUSTER/0/INCARNATION`.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

SCHEME = "kvstore://"


@dataclass(frozen=True)
class NodeName:
    """`cluster` and `incarnation` are "" where the certificate does not say."""

    node: int
    cluster: str = ""
    incarnation: str = ""

    @property
    def uri(self) -> str:
        """As it stands in a certificate."""
        end = f"/{self.incarnation}" if self.incarnation else ""
        return f"{SCHEME}{self.cluster}/{self.node}{end}"

    def covers(self, said: "NodeName") -> bool:
        """Whether a certificate with this name is good for who says this of itself. What is left
        out is not compared: the authority vouches for that. 0 is a number that is not known yet."""
        if not (self.node or self.incarnation):
            return False
        return (
            (self.node == said.node or 0 in (self.node, said.node))
            and self.cluster in ("", said.cluster)
            and self.incarnation in ("", said.incarnation)
        )


def node_names(uris: Iterable[str]) -> tuple[NodeName, ...]:
    """Those of the URIs that name nodes."""
    found = []
    for uri in uris:
        if not uri.startswith(SCHEME):
            continue
        cluster, *rest = uri[len(SCHEME) :].split("/")
        node = rest[0] if rest else ""
        if len(rest) <= 2 and node.isascii() and node.isdecimal():
            found.append(NodeName(int(node), cluster, rest[1] if len(rest) == 2 else ""))
    return tuple(found)


def names_shown(transport: Any) -> tuple[NodeName, ...] | None:
    """The nodes that the certificate of the other end names; None without a certificate."""
    shown = None if transport is None else transport.get_extra_info("peercert")
    if not shown:
        return None
    return node_names(value for kind, value in shown.get("subjectAltName", ()) if kind == "URI")
