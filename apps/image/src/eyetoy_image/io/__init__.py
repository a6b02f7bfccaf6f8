"""Read image files, and images of `datasets`."""
