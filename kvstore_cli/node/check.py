"""`kvstore check`: verifies a data directory while its node is down."""

from argparse import ArgumentParser, Namespace
from pathlib import Path

from kvstore_cli.command import NOT_SOUND, Command
from kvstore_cli.output import OK, print_json
from kvstore_cli.progress import progress

_TEXT = """\
Reads everything, and changes nothing: the log's continuity and checksums, every record of the
state, its revisions, its indexes against each other, and whether log and state fit. 0 if all is
sound, 7 if not; then each line says what is wrong. The log is copied to the directory for temporary
files, where it is read as a start would read it.

examples:
  kvstore check /var/lib/kvstore
"""


def _flags(parser: ArgumentParser) -> None:
    parser.add_argument("data_dir", metavar="DATA_DIR", type=Path, help="of a node that is down")
    parser.add_argument("--json", action="store_true", help="answer in JSON")


def _run(options: Namespace) -> int:
    from kvstore.backup.directory_checks import check_directory

    with progress("check", "records") as advanced:
        report = check_directory(options.data_dir, advanced)
    if options.json:
        print_json(report._asdict())
    else:
        for text in (*report.notes, *report.problems):
            print(text)
        print(
            f"node {report.node}: {report.keys:,} keys at revision {report.revision}, applied "
            f"through slot {report.applied_through}, chosen through slot {report.chosen_through}, "
            f"digest {report.digest}"
        )
        print("damaged" if report.problems else "sound")
    return NOT_SOUND if report.problems else OK


COMMANDS = (Command("check", "verify a data directory offline", _TEXT, (_flags,), _run),)
"""Those of this file."""
