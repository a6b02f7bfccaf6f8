"""`python -m eyetoy_cli ...`: the command `eyetoy`."""

from eyetoy_cli.main import main

if __name__ == "__main__":
    main()
