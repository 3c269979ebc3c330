"""Lightning callbacks, each for one task, usable with any Trainer."""
