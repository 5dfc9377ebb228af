"""Qdrant: vectors of execution contexts with their payload."""
