"""Files that are old or new, never a part, and the fingerprints that tell one content from another."""
