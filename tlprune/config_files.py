"""Where tlprune's own configs are; and config files that are none are refused before anything slow is imported."""

from pathlib import Path

import yaml

from tlprune.errors import InputError
from tlprune.storage.one_value_yaml import load_yaml
from tlprune.storage.paths import user_path

__all__ = ["check_configs", "own_configs"]


def own_configs() -> Path:
    """The folder of the configs that come with tlprune: in the installed package, or in the clone around it."""
    package = Path(__file__).parent
    installed = package / "configs"
    return installed if installed.is_dir() else package.parent / "configs"


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
        if not user_path(path).is_file():
            ours = path.startswith("configs/") and (own_configs().parent / path).is_file()
            hint = "; 'tlprune configs configs' copies those that come with tlprune to where you are" if ours else ""
            raise InputError(f"--config {path}: no such file{hint}")
        try:
            content = load_yaml(user_path(path).read_text())
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise InputError(f"--config {path}: not valid yaml: {error}") from error
        if not isinstance(content, dict):
            raise InputError(f"--config {path}: must hold keys such as {keys}")
        if wrong := next((key for key in lists if not isinstance(content.get(key) or [], list)), None):
            raise InputError(f"--config {path}: `{wrong}` must be a list, such as [{content[wrong]}]")
