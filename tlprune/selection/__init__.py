"""Which units of the source to keep: pure functions on tensors, and the selectors made of them."""
