"""`perdure shared`, as somebody at a terminal and a script meet it."""

from perdure.surfaces.cli.exits import Exit
from tests.support.command import Command


def test_an_entry_from_its_writing_to_its_end(perdure: Command) -> None:
    written = perdure("shared", "put", "workers", "leader", '{"host": "a"}', "--json").json
    assert written["value"] == {"host": "a"}
    assert perdure("shared", "get", "workers", "leader").out == '{"host": "a"}\n'
    assert perdure("shared", "put", "workers", "lease", "-", "--ttl", "never", stdin="[1]").code == Exit.DONE
    listed = perdure("shared", "list", "workers", "--prefix", "le", "--json").json["items"]
    assert [(each["key"], each["expires_at"] is None) for each in listed] == [
        ("leader", False),
        ("lease", True),
    ]
    assert (
        perdure("shared", "list", "workers", "--limit", "1").err.strip() == "there are more: --cursor leader"
    )
    assert perdure("shared", "namespaces").rows == [["workers", "2"]]
    assert perdure("shared", "put", "mine", "debt", "-5").code == Exit.DONE
    over = perdure("shared", "put", "workers", "leader", "2", "--expected", written["version"], "--json").json
    late = perdure("shared", "put", "workers", "leader", "3", "--expected", written["version"])
    assert (late.code, over["version"] in late.err) == (Exit.REFUSED, True)
    assert perdure("shared", "put", "workers", "leader", "3", "--expected", "none").code == Exit.REFUSED
    late = perdure("shared", "delete", "workers", "leader", "--expected", written["version"])
    assert late.code == Exit.REFUSED
    assert perdure("shared", "delete", "workers", "leader").code == Exit.DONE
    assert perdure("shared", "delete", "workers", "leader").code == Exit.NOT_FOUND
    assert perdure("shared", "get", "workers", "leader").code == Exit.NOT_FOUND


def test_what_does_not_fit_is_refused_with_the_way_out(perdure: Command) -> None:
    unquoted = perdure("shared", "put", "mine", "k", "text")
    assert (unquoted.code, "quotation marks" in unquoted.err) == (Exit.USAGE, True)
    for wrong in (["--ttl", "soon"], ["--expected", "latest"]):
        assert perdure("shared", "put", "mine", "k", "1", *wrong).code == Exit.USAGE
