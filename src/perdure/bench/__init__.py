"""Measures Perdure against the bare statements of the same server, in a schema of its own."""
