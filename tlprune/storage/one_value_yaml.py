"""Reads yaml in which each key has one value."""

from collections.abc import Hashable
from typing import Any

import yaml

__all__ = ["load_yaml"]


class _OneValueLoader(yaml.SafeLoader):
    """Refuses a mapping that holds a key twice; PyYAML takes the last value without a word."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        """Builds a mapping."""
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
                if key.value in seen:
                    raise yaml.constructor.ConstructorError(None, None, f"{key.value!r} is given twice", key.start_mark)
                seen.add(key.value)
        return super().construct_mapping(node, deep)


def load_yaml(text: str) -> Any:
    """Reads yaml.

    Raises:
        yaml.YAMLError: If it is no yaml, or a mapping holds a key twice.
    """
    return yaml.load(text, _OneValueLoader)  # noqa: S506 - a SafeLoader
