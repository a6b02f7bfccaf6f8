"""Models of other papers and projects for comparison; recipes name them, such as `baseline/m5`."""
