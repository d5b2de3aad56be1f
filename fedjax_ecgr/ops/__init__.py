"""Convolution and pooling as matrix products: the mathematics beneath the models."""
