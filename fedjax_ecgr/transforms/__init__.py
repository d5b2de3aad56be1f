"""Transforms: what a client does to its update before it sends it, one a file."""
