"""Features and augmentations of sounds."""
