"""Backends of the operator, a file each; `registry` chooses one."""
