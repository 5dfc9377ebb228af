"""Wiring, settings, loops and processes."""
