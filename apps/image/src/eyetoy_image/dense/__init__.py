"""Shared code of detection and segmentation."""
