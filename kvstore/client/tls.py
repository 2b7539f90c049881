"""Whom a client trusts, and what it shows of itself, where the nodes speak TLS."""

import ssl

from kvstore.errors import InvalidArgument


def client_tls(ca: str | None, cert: str | tuple[str, str] | None) -> ssl.SSLContext | None:
    """What connections are made with; None: what the system trusts, where an address is https.

    `ca`: a file of authorities to trust instead. `cert`: files of a certificate and its key, or one
    that holds both. Raises InvalidArgument that names the file.
    """
    if ca is None and cert is None:
        return None
    try:
        context = ssl.create_default_context(cafile=ca)
    except (OSError, ssl.SSLError) as error:
        raise InvalidArgument("ca", f"ca: cannot use {ca}: {_cause(error)}") from None
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if cert is not None:
        files = (cert, None) if isinstance(cert, str) else cert
        try:
            context.load_cert_chain(*files)
        except (OSError, ssl.SSLError) as error:
            shown = " and ".join(filter(None, files))
            raise InvalidArgument("cert", f"cert: cannot use {shown}: {_cause(error)}") from None
    return context


def _cause(error: OSError) -> str:
    if isinstance(error, ssl.SSLError):
        return str(error.reason or error).replace("_", " ").lower()
    return str(error.strerror or error)
