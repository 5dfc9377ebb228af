"""The functions of the database as the migrations make them."""

import re

from perdure.stores.postgres.migrations import migrations


def function_of(name: str) -> str:
    """The newest text of a function, as a statement that replaces it."""
    everything = "\n".join(migration.up for migration in migrations())
    *_, newest = re.finditer(
        rf"CREATE (?:OR REPLACE )?(FUNCTION perdure\.{name}\(.*?\$\$;)", everything, re.DOTALL
    )
    return f"CREATE OR REPLACE {newest[1]}"
