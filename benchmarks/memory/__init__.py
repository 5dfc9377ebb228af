"""Measures of the memory of executions: whether it finds the same cause again, and how fast."""
