"""Experiments: each file's docstring is its claim, with the command, the time and the result."""
