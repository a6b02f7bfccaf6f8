"""Loading, streaming and listing of samples."""
