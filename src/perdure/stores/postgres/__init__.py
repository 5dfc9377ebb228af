"""PostgreSQL, the only truth."""
