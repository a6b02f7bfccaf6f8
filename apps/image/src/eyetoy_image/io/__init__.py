"""Reading of picture files and of pictures of `datasets`."""
