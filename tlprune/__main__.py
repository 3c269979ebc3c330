"""``python -m tlprune`` is the ``tlprune`` command."""

import sys

from tlprune.cli import main

sys.exit(main())
