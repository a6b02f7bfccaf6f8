"""Read video files, and videos of `datasets`."""
