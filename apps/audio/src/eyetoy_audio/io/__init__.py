"""Reading of sound files."""
