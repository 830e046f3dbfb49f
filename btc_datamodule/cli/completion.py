"""``completion``: a script by which a shell completes commands and options.

It is written once, by the installed version, and asks nothing of Python when a key is pressed: to
import all that could be named there would take seconds.
"""

from collections.abc import Sequence
from inspect import signature

from btc_datamodule.cli.data import DATA_COMMANDS, list_options
from btc_datamodule.cli.parsing import fail
from btc_datamodule.cli.trainer import TRAINER_COMMANDS

SHELLS = ("bash", "zsh")
ALL = ("--quiet", "--verbose", "--help")

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
    if len(arguments) != 1 or arguments[0] not in SHELLS:
        fail(f"give a shell, one of {', '.join(SHELLS)}: btc-datamodule completion bash")
    cases = "\n".join(
        f'        *:{command}) words="{" ".join(_list_words(command))}" ;;' for command in commands
    )
    script = SCRIPT.format(commands=" ".join(commands), cases=cases)
    head = "autoload -U +X bashcompinit && bashcompinit\n" * (arguments[0] == "zsh")
    return head + script


def _list_words(command: str) -> list[str]:
    from btc_datamodule.data import ARGUMENTS

    if command == "completion":
        return list(SHELLS)
    if command not in (*TRAINER_COMMANDS, *DATA_COMMANDS):
        return list(ALL)
    words = [*ALL, *(f"--data.{name}" for name in ARGUMENTS)]
    if command in DATA_COMMANDS:
        return [*words, *list_options(command)]
    from lightning.pytorch import Trainer

    trainer = [f"--trainer.{name}" for name in signature(Trainer).parameters]
    return [*words, "--config", "--model", "--ckpt_path", "--print_config", *trainer]
