"""Sampling and augmentation of clips."""
