"""``completion``: a script by which a shell completes commands and options.

It is written once, by the installed version, and asks nothing of Python when a key is pressed: to
import all that could be named there would take seconds.
"""

from collections.abc import Sequence

from btc_datamodule.cli.data import DATA_COMMANDS, list_words
from btc_datamodule.cli.manner import MANNERS
from btc_datamodule.cli.messages import suggest_name
from btc_datamodule.cli.parsing import fail
from btc_datamodule.cli.trainer import TRAINER_COMMANDS, list_trainer_words

SHELLS = ("bash", "zsh")

SCRIPT = """\
_btc_datamodule() {{
    local word=${{COMP_WORDS[COMP_CWORD]}} words
    case ${{COMP_CWORD}}:${{COMP_WORDS[1]}} in
        1:*) words="{commands}" ;;
{cases}
    esac
    COMPREPLY=($(compgen -W "$words" -- "$word"))
}}
complete -o default -F _btc_datamodule btc-datamodule
"""


def write_completion(arguments: Sequence[str], commands: Sequence[str]) -> str:
    """The script for a shell.

    Args:
        arguments: the name of the shell, alone.
        commands: all that there are.
    """
    if len(arguments) != 1:
        fail(f"give a shell, one of {', '.join(SHELLS)}: btc-datamodule completion bash")
    if arguments[0] not in SHELLS:
        others = suggest_name(arguments[0], SHELLS, "There are")
        fail(f"there is no script for {arguments[0]!r}{others}")
    cases = "\n".join(
        f'        *:{command}) words="{" ".join(_list_words(command))}" ;;' for command in commands
    )
    script = SCRIPT.format(commands=" ".join(commands), cases=cases)
    head = "autoload -U +X bashcompinit && bashcompinit\n" * (arguments[0] == "zsh")
    return head + script


def _list_words(command: str) -> list[str]:
    if command == "completion":
        return list(SHELLS)
    if command in DATA_COMMANDS:
        return list_words(command)
    if command in TRAINER_COMMANDS:
        from btc_datamodule.cli.folds import FoldTrainer
        from btc_datamodule.cli.follow import FollowTrainer

        return list_trainer_words(command, FollowTrainer if command == "follow" else FoldTrainer)
    return [*MANNERS, "--help"]
