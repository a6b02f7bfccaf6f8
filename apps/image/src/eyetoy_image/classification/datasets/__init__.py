"""Sets of pictures, a file each."""
