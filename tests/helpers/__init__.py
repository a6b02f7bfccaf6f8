"""What several test files use: paths, small models and data, and oracles."""
