"""Annotated pictures for detection."""
