"""Networks and their weights: nothing here knows of data, selection or Lightning."""
