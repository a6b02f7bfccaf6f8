"""The commands of every app."""
