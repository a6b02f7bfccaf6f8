"""Models of other papers, to compare with."""
