"""Sets of sounds, a file each."""
