"""Aggregators: what the server makes of all updates of a cohort, one a file."""
