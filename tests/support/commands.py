"""Commands of `kvstore`, run in this process."""

import pytest

from kvstore_cli.main import main


def run(capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> str:
    """What a command printed: on stderr, if it is to fail with `code`."""
    capsys.readouterr()
    found = main(list(words))
    printed = capsys.readouterr()
    assert found == code, printed
    return printed.out if code == 0 else printed.err
