"""Speed, measured: both sides of every comparison in one run on one machine.

- `rows`: what is measured, one file a row;
- `programs`: the sides, each a program that carries a task out and tells how long it took;
- `work`: the task that goes to both sides;
- `side`, `peers`: programs as child processes, and the environments of those that need their own;
- `measure`, `record`: the timing, the record of it and the table.
"""
