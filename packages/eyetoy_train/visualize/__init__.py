"""Attention maps and receptive fields of a model."""
