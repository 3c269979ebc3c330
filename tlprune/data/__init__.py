"""Where images come from: sources, targets, splits, and the one place where bytes become pixels."""
