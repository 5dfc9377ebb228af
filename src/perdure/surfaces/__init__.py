"""The faces of the system: each parses, calls and renders."""
