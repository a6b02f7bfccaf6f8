"""Reading of picture files."""
