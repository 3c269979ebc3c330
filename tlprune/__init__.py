"""Find the part of a pretraining set that a target votes for, and pretrain on that alone."""

import lazy_loader

# a public name is imported when it is first used: torch and Lightning take seconds to load
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
__version__ = "0.1.0"
