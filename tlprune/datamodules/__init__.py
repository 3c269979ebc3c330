"""LightningDataModules: the pruned source, and the target."""
