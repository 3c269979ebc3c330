"""Commands that work on a Selection, one per file."""
