"""`python -m eyetoy ...` and `accelerate launch -m eyetoy ...`: the command `eyetoy`."""

from runpy import run_module

if __name__ == "__main__":
    # By name: a library does not import the program around it.
    run_module("eyetoy_cli", run_name="__main__")
