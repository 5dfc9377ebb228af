"""Qdrant for one machine: its engine in a process of its own that answers the part of its REST interface that Perdure uses.

It is for development, demos and tests, and not the Qdrant server; what is outside of that part is answered with 501.
"""
