"""Pictures with label maps."""
