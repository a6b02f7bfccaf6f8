"""Vectors of files: written row by row, compared with each other, and scored by the labels of their folder."""
