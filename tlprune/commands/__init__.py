"""The commands that work on a Selection, one a file."""
