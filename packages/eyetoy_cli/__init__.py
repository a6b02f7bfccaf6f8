"""The command `eyetoy`: the apps' commands under one name, in any folder."""
