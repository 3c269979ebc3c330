"""Find the part of a pretraining set that a target votes for, and pretrain on that alone."""

import lazy_loader

from tlprune.selection import registry

# a public name is imported when it is first used: torch and Lightning take seconds to load
_import_public, _, _public_names = lazy_loader.attach_stub(
    __name__, __file__.replace("__init__.py", "public_names.pyi")
)
__all__ = sorted([*_public_names, *registry.__all__])
__version__ = "0.2.0"


def __getattr__(name: str) -> object:
    return getattr(registry, name) if name in registry.__all__ else _import_public(name)


def __dir__() -> list[str]:
    return [*globals(), *__all__]
