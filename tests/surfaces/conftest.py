"""Fixtures for the faces."""

from tests.support.faces import bare, perdure

__all__ = ["bare", "perdure"]
