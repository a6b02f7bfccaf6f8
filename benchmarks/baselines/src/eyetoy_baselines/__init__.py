"""Models of other papers and projects, to compare EyeToy with; recipes name them, such as `baseline/m5`."""
