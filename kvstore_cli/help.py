"""`kvstore help` and `completion`: what there is, for people and for shells."""

from argparse import ArgumentParser, Namespace

from kvstore_cli.command import Command
from kvstore_cli.output import OK

_COMPLETION = """\
Prints a script that completes commands and flags.

examples:
  kvstore completion bash > ~/.local/share/bash-completion/completions/kvstore
  kvstore completion zsh > ~/.zfunc/_kvstore
  kvstore completion fish > ~/.config/fish/completions/kvstore.fish
"""
_HELP = """\
examples:
  kvstore help
  kvstore help put
"""


def _shell_flags(parser: ArgumentParser) -> None:
    parser.add_argument("shell", metavar="SHELL", choices=("bash", "zsh", "fish"),
                        help="bash, zsh or fish")  # fmt: skip


def _topic_flags(parser: ArgumentParser) -> None:
    parser.add_argument("topic", metavar="COMMAND", nargs="*")


def _complete(options: Namespace) -> int:
    import shtab

    print(shtab.complete(options.parser, options.shell))
    return OK


def _help(options: Namespace) -> int:
    options.parser.parse_args([*options.topic, "--help"])  # which ends here
    return OK


COMMANDS = (
    Command("help", "show what there is", _HELP, (_topic_flags,), _help),
    Command(
        "completion", "let your shell complete commands", _COMPLETION, (_shell_flags,), _complete
    ),
)
