"""Lightning callbacks, each with one concern, usable in any Trainer."""
