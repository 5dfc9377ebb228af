"""Redis, a hint that speeds dispatch up."""
