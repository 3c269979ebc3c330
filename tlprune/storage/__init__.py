"""Atomic file writes, the cache, the journal, and fingerprints of content."""
