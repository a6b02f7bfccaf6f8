"""Helpers for tests: paths, small models and data, and oracles."""
