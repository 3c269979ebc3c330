"""Config files that are none are refused at once, before anything that takes seconds to import."""

from pathlib import Path

import yaml

from tlprune.errors import InputError

__all__ = ["check_configs"]


def check_configs(arguments: list[str], keys: str, lists: tuple[str, ...] = ()) -> None:
    """Refuses a config file that is missing or no yaml, by name: the parser's own message does not say which it is.

    Args:
        arguments: What follows the command's name.
        keys: Some that a config file may hold, in words.
        lists: Keys whose values must be lists.

    Raises:
        InputError: There is no such file, or it holds something else.
    """
    for option, value in zip(arguments, [*arguments[1:], ""], strict=True):
        name, equals, attached = option.partition("=")
        if name not in ("--config", "-c"):
            continue
        path = attached if equals else value
        if not Path(path).is_file():
            raise InputError(f"--config {path}: no such file")
        try:
            content = yaml.safe_load(Path(path).read_text())
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise InputError(f"--config {path}: not valid yaml: {error}") from error
        if not isinstance(content, dict):
            raise InputError(f"--config {path}: must hold keys such as {keys}")
        if wrong := next((key for key in lists if not isinstance(content.get(key) or [], list)), None):
            raise InputError(f"--config {path}: `{wrong}` must be a list, such as [{content[wrong]}]")
