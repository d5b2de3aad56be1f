"""Attacks: what malicious clients do, one a file."""
