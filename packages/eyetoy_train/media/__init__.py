"""Decoding and encoding of sounds and videos."""
