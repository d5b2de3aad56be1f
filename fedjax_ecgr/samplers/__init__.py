"""Samplers: who takes part in a round, one a file."""
