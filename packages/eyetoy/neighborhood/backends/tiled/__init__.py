"""Neighborhood attention by tiles, in plain PyTorch."""
