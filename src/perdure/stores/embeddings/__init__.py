"""Embedders: what turns the words of an execution into a vector of 384 numbers."""
