"""TLS of `kvstore demo`: an authority of its own, before there is any node, so that the demo's page
and clients know whom to believe from the start."""

import ssl
from pathlib import Path

from kvstore_cli.launcher.node_cluster import HOST

PAGE = "demo-page"
HOSTS = [HOST, "localhost", "::1"]
DAYS = 365
DAYS_LEFT_MIN = 30


class DemoTls:
    """The authority is in `directory`, and made there if it is not. Raises InvalidArgument."""

    def __init__(self, directory: Path) -> None:
        # Imported here: it is slow, and most demos do without.
        from kvstore.certificates.authority import Authority

        self.authority_file = directory / "ca.crt"
        self._directory = directory
        authority = Authority(directory)
        if not authority.has_key:
            authority.create("kvstore demo")
        ends = {file.stem: facts for file, facts in authority.issued()}
        if PAGE not in ends:
            authority.issue_server(PAGE, HOSTS, DAYS)
        elif ends[PAGE].left().days < DAYS_LEFT_MIN:
            authority.renew(PAGE, DAYS)
        self.trust = ssl.create_default_context(cafile=self.authority_file)
        self.page = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        """What the page is served with."""
        self.page.load_cert_chain(directory / f"{PAGE}.crt", directory / f"{PAGE}.key")

    @property
    def settings(self) -> dict[str, object]:
        """Of `serve`, for each node."""
        return {"tls": "auto", "ca-dir": self._directory}
