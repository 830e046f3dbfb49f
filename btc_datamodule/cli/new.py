"""``new``: a small project that runs as it is, to be made one's own."""

from importlib.resources import files
from pathlib import Path

from btc_datamodule.cli.parsing import fail
from btc_datamodule.errors import StoreError

FILES = {
    "config.yaml": "config.yaml",
    "forecaster.py": "forecaster.py.txt",  # no module of this package, and none to be imported
    "README.md": "README.md",
    ".gitignore": "gitignore.txt",
}
"""Files of a project, and what they are called in ``project/``."""


def write_project(arguments: list[str]) -> Path:
    """Write a project into a new folder; give its path.

    Args:
        arguments: the folder, alone.

    Raises:
        StoreError: if the folder cannot be written.
    """
    if len(arguments) != 1 or arguments[0].startswith("-"):
        fail("give the folder to write, alone: btc-datamodule new my_project")
    if not arguments[0].strip():
        fail("the name of the folder is empty: btc-datamodule new my_project")
    folder, templates = Path(arguments[0]), files("btc_datamodule.cli") / "project"
    try:
        folder.mkdir(parents=True)
        for name, template in FILES.items():
            (folder / name).write_text((templates / template).read_text("utf-8"), "utf-8")
    except FileExistsError:
        fail(f"{folder} is there already, and nothing is overwritten: give another name")
    except OSError as error:
        raise StoreError(f"{folder} cannot be written: {error.strerror}") from error
    return folder
