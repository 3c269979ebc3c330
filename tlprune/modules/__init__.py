"""LightningModules for pretraining on the source and transfer to the target."""
