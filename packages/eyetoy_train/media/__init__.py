"""Decoding and encoding of sounds and videos. `av` and `torchcodec` are imported here and nowhere else."""
