# What type checkers read; __init__.py reads the same two lists.
from .public_names import *
from .selection.registry import *

__all__: list[str]
__version__: str
