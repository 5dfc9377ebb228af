"""The verbs of the system, written against the ports alone."""
