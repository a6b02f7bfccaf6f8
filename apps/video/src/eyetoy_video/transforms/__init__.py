"""Sample and augment clips."""
