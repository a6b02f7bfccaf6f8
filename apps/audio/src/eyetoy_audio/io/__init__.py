"""Read sound files, and sounds of `datasets`."""
