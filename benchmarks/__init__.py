"""Speed, measured: both sides of every comparison in one run on one machine."""
