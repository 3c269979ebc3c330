"""Sources, targets, splits, transforms and image decoding."""
