"""The terminal view: what happens now, on one screen that lives, with the few acts that cannot wait."""
