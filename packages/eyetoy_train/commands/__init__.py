"""The commands that every app has."""
