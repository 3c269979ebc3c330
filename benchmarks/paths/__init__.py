"""One file for each path whose speed has a bar."""
