"""Why a handshake failed, in words."""

import ssl

_CAUSES = {
    "HTTP_REQUEST": "it speaks HTTP without TLS: the address begins with https://",
    "WRONG_VERSION_NUMBER": "it does not speak TLS",
    "UNSUPPORTED_PROTOCOL": "it speaks a TLS older than 1.2",
    "TLSV1_ALERT_PROTOCOL_VERSION": "it does not speak the TLS that is spoken here",
    "NO_SHARED_CIPHER": "it offers none of our ciphers",
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": "it shows no certificate",
    "TLSV13_ALERT_CERTIFICATE_REQUIRED": "it asks for a certificate, and none was shown",
    "TLSV1_ALERT_UNKNOWN_CA": "it does not know the authority of our certificate",
    "SSLV3_ALERT_BAD_CERTIFICATE": "it refuses our certificate",
    "SSLV3_ALERT_CERTIFICATE_UNKNOWN": "it refuses our certificate",
    "SSLV3_ALERT_CERTIFICATE_EXPIRED": "our certificate has ended, it says",
}


def cause_of(error: ssl.SSLError) -> str:
    """What the other end did, or says of this one."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not accepted: {error.verify_message}"
    reason = str(error.reason or error)
    return _CAUSES.get(reason, reason.replace("_", " ").lower())
