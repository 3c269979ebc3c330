"""One page for people about what sweeps found: what it says, what it shows, and the files that go with it."""
