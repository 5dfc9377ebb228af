"""The port of dispatch is narrow."""

import inspect

from perdure.ports import Dispatch
from perdure.stores.postgres.dispatch import PostgresDispatch
from perdure.stores.redis.dispatch import RedisDispatch


def test_the_port_has_at_most_five_methods_and_both_adapters_have_them() -> None:
    methods = {
        name for name, _ in inspect.getmembers(Dispatch, inspect.isfunction) if not name.startswith("_")
    }
    assert methods == {"announce", "claim", "wait", "release", "depths"}
    for adapter in (PostgresDispatch, RedisDispatch):
        for name in methods:
            wanted, found = (
                list(inspect.signature(getattr(owner, name)).parameters) for owner in (Dispatch, adapter)
            )
            assert wanted == found, f"{adapter.__name__}.{name}"
