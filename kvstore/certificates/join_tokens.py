"""What a token for joining says besides its secret: whom to believe.

A node that joins knows nobody yet. The fingerprint of the cluster's authority, after a dot, tells
it which of those that answer is the cluster; the secret goes to nobody else.
"""

SEPARATOR = "."


def with_fingerprint(secret: str, fingerprint: str) -> str:
    """The token that people carry."""
    return f"{secret}{SEPARATOR}{fingerprint}"


def split_token(token: str) -> tuple[str, str]:
    """Secret and fingerprint, "" if it has none."""
    secret, _, fingerprint = token.partition(SEPARATOR)
    return secret, fingerprint.lower()
