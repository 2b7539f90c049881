"""Hashes of passwords: salted, and matched by the password alone."""

from http_api.callers.passwords import SALT_BYTES, password_hash, password_matches


def test_passwords() -> None:
    salts = bytes(SALT_BYTES), bytes(range(SALT_BYTES))
    first, second = (password_hash("päss", salt) for salt in salts)
    assert first != second
    assert password_matches("päss", first) and password_matches("päss", second)
    assert not password_matches("pass", first) and not password_matches("", first)
