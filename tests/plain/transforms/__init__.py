"""Transforms in NumPy, over one flat vector; what is drawn is handed in."""
