"""Whole experiments: pretrain, transfer, compare, report."""
