"""`perdure job enqueue` knows the program: kinds and arguments are checked, and decorators have their say."""

import asyncio
import sys
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import pytest

from perdure.runtime.current_application import noted
from perdure.surfaces.cli.exits import Exit
from tests.support.command import Command
from tests.support.system import system_on

IMAGE = '"image_id": "00000000-0000-0000-0000-000000000001"'
APPLICATION = """
from uuid import UUID
from perdure import Perdure, job
print("imported")

@job(queue="media", priority=4, retries=5, timeout="2m", labels=["gpu"], unique_key=lambda image_id, width: f"w{width}")
async def MODULE_resize(image_id: UUID, width: int = 3) -> str: ...
"""


@pytest.fixture
def app(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[str]:
    """An application of a name of its own, as modules stay imported in this process."""
    name = f"app_{abs(hash(request.node.nodeid))}"
    (tmp_path / f"{name}.py").write_text(APPLICATION.replace("MODULE_", ""))
    yield name
    sys.modules.pop(name, None)


def test_a_job_has_the_options_of_its_decorator(perdure: Command, app: str) -> None:
    ended = perdure("job", "enqueue", f"{app}.resize", "--app", f"{app}.py", "--args", f"{{ {IMAGE} }}")
    assert (ended.code, ended.out.count("\n")) == (0, 1), ended.err
    job = perdure("job", "show", ended.out.strip(), "--json").json
    assert job["args"] == {"image_id": str(UUID(int=1))}
    assert (job["queue"], job["priority"], job["max_attempts"]) == ("media", 4, 6)
    assert (job["timeout"], job["labels"], job["unique_key"]) == ("PT120S", ["gpu"], "w3")


def test_what_the_command_says_comes_before_the_decorator(perdure: Command, app: str) -> None:
    words = (
        "--queue",
        "default",
        "--priority",
        "1",
        "--retries",
        "0",
        "--timeout",
        "none",
        "--unique-key",
        "u",
    )
    named = perdure.with_variables(PERDURE_APP=f"{app}.py")
    ended = named("job", "enqueue", f"{app}.resize", *words, "--args", f'{{ {IMAGE}, "width": 9 }}')
    job = perdure("job", "show", ended.out.strip(), "--json").json
    assert (job["queue"], job["priority"], job["max_attempts"]) == ("default", 1, 1)
    assert (job["timeout"], job["labels"], job["unique_key"]) == (None, ["gpu"], "u")


@pytest.mark.parametrize(
    ("kind", "args", "said"),
    [
        ("resiez", "{}", "did you mean APP.resize?"),
        ("elsewhere.at_all", "{}", "it has: "),
        ("resize", "{}", "image_id"),
        ("resize", '{"image_id": 1}', "image_id"),
        ("resize", f'{{ {IMAGE}, "width": "wide" }}', "width"),
        ("resize", f'{{ {IMAGE}, "height": 1 }}', "height"),
    ],
)
def test_a_wrong_kind_or_argument_is_refused_and_named(
    perdure: Command, app: str, kind: str, args: str, said: str
) -> None:
    name = kind if "." in kind else f"{app}.{kind}"
    ended = perdure("job", "enqueue", name, "--app", f"{app}.py", "--args", args)
    assert ended.code == Exit.USAGE
    assert said.replace("APP", app) in ended.err
    assert perdure("job", "list", "-o", "ids").out == ""


def test_the_command_tells_of_wrong_arguments_as_python_does(bare: Command, app: str, tmp_path: Path) -> None:
    (tmp_path / "perdure.toml").write_text('redact = "width"\n')
    words = ("job", "enqueue", f"{app}.resize", "--app", f"{app}.py", "--args")
    ended = bare(*words, '{"image_id": "x", "width": "wide", "widht": 3}')
    assert ended.code == Exit.USAGE
    assert ended.err.splitlines()[-3:] == [
        'perdure: image_id: uuid.UUID is wanted, not "x"; width: int is wanted, not [redacted]; widht: no such argument (did you mean width?)',
        "  next: resize takes (image_id: uuid.UUID, width: int = …)",
        "  code: PERDURE-1003",
    ]


def test_what_no_database_can_hold_is_refused_without_an_application_too(bare: Command) -> None:
    ended = bare("job", "enqueue", "x", "--app", "", "--dry-run", "--args", r'{"a": 1, "b": ["\u0000"]}')
    assert ended.code == Exit.USAGE
    assert "perdure: b: the NUL character cannot be stored" in ended.err


def test_an_application_that_cannot_be_imported_is_told_in_a_sentence(bare: Command, tmp_path: Path) -> None:
    (tmp_path / "broken_one.py").write_text("1 / 0\n")
    (tmp_path / "leaving.py").write_text("import sys\nsys.exit(3)\n")
    for name, said in (
        ("broken_one.py", "ZeroDivisionError"),
        ("leaving.py", "SystemExit"),
        ("no.py", "no file"),
    ):
        ended = bare("job", "enqueue", "x", "--app", name)
        assert (ended.code, said in ended.err, "Traceback" in ended.err) == (Exit.USAGE, True, False), (
            ended.err
        )
    assert "1 / 0" in bare("job", "enqueue", "x", "--app", "broken_one.py", "-vv").err


def test_the_application_that_runs_in_this_folder_or_ran_last_is_asked(
    bare: Command, app: str, tmp_path: Path
) -> None:
    (tmp_path / ".perdure").mkdir()
    words = ("job", "enqueue", f"{app}.resize", "--dry-run", "--args", '{"image_id": 1}')
    with noted(tmp_path / ".perdure", f"{app}.py"):
        assert bare(*words).code == Exit.USAGE
        unasked = bare(*words, "--app", "")
        assert (unasked.code, "kind and arguments were not checked" in unasked.err) == (0, True), (
            "none is asked"
        )
    assert bare(*words).code == Exit.USAGE, "its arguments are known, though it runs no more"


def test_the_application_of_a_file_of_settings_lies_beside_it(
    bare: Command, app: str, tmp_path: Path
) -> None:
    (tmp_path / "perdure.toml").write_text(f'app = "{app}.py"\n')
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / "here.toml").write_text(f'app = "../{app}.py"\n')
    for words in ((), ("--config", "below/here.toml")):
        assert "did you mean" in bare("job", "enqueue", f"{app}.resiez", *words).err


def test_a_job_that_no_worker_would_take_is_stored_with_a_warning(
    perdure: Command, database_url: str
) -> None:
    alone = perdure("job", "enqueue", "app.work")
    assert (alone.code, alone.err) == (0, "warning: the job waits. No active worker serves queue default.\n")

    async def register() -> None:
        async with system_on(database_url) as system:
            await system.worker()

    asyncio.run(register())
    assert perdure("job", "enqueue", "app.work").err == ""
    misspelt = perdure("job", "enqueue", "app.wrok")
    assert misspelt.code == 0
    assert "none knows kind app.wrok. Did you mean app.work?" in misspelt.err
    elsewhere = perdure("job", "enqueue", "app.work", "--queue", "media")
    assert elsewhere.err == "warning: the job waits. No active worker serves queue media.\n"
    job_id = elsewhere.out.strip()
    waiting = perdure("job", "wait", job_id, "--timeout", "100ms")
    assert (waiting.code, waiting.err.splitlines()[0]) == (Exit.TIMED_OUT, elsewhere.err.strip())
    perdure("job", "cancel", job_id, "--yes")
    assert elsewhere.err in perdure("job", "retry", job_id, "--yes").err


def test_a_status_is_not_ok_while_jobs_wait_that_nobody_takes(perdure: Command, database_url: str) -> None:
    async def register() -> None:
        async with system_on(database_url) as system:
            worker = await system.worker()
            await system.sql.execute(
                "INSERT INTO perdure.leaders (name, holder, term, expires_at) VALUES ('duties', $1, 1, now() + interval '1 h')",
                worker,
            )

    asyncio.run(register())
    assert perdure("job", "enqueue", "app.work").code == 0
    assert perdure("status").code == Exit.DONE
    for kind, queue in (("app.wrok", "default"), ("app.work", "media")):
        perdure("job", "enqueue", kind, "--queue", queue)
    status = perdure("status", "--json")
    assert status.code == Exit.DEGRADED
    first, second = status.json["reasons"]
    assert "1 worker on queue default, but none knows kind app.wrok" in first
    assert "No active worker serves queue media; run `perdure worker run APP --queues media`" in second
    assert perdure("queue", "pause", "media").code == 0
    assert len(perdure("status", "--json").json["reasons"]) == 1, "a paused queue is meant to wait"
