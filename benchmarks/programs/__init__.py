"""The sides of a comparison: programs that carry a task out, in whatever environment they need.

Each is `python -m benchmarks.programs.NAME TASK.npz` and speaks the language of `wire`.
"""
