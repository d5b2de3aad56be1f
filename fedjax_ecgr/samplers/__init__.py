"""Samplers: who takes part in a round, one a file."""

from fedjax_ecgr.samplers.uniform import uniform as uniform
