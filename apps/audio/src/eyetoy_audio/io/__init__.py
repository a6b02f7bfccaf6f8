"""Reading of sound files and of sounds of `datasets`."""
