"""Right and wrong uses of the decorator: a line marked `# E:` must be refused by the type checkers, no other may."""

from collections.abc import Coroutine
from typing import Any, Generic, ParamSpec, TypeVar, assert_type
from uuid import UUID

from perdure.domain.context import Context
from perdure.domain.kind import Kind, job
from perdure.domain.options import EnqueueOptions
from perdure.domain.retry import Backoff, Delays, Fixed

P = ParamSpec("P")
R = TypeVar("R")


class Handle(Generic[R]):
    """The answer to an enqueue."""

    def result(self) -> R:
        raise NotImplementedError


def enqueue(kind: Kind[P, R], *args: P.args, **kwargs: P.kwargs) -> Handle[R]:
    raise NotImplementedError


@job
async def fetch(image_id: UUID, width: int = 640) -> bytes:
    raise NotImplementedError


@job(queue="media", retries=5, timeout="2m")
def shrink(data: bytes, *, ratio: float) -> bytes:
    raise NotImplementedError


@job
async def resize(ctx: Context, image_id: UUID, width: int = 640) -> str:
    raise NotImplementedError


@job(mode="thread", retry=Fixed("10s"), labels=["gpu"], unique_for="1h")
def report(ctx: Context, day: str) -> int:
    raise NotImplementedError


@job
def nothing() -> None:
    raise NotImplementedError


@job
async def late(day: str, ctx: Context | None = None) -> int:
    raise NotImplementedError


@job
def several(*numbers: int, **words: str) -> list[int]:
    raise NotImplementedError


@job
def anything(value: Any, times: int) -> str:
    raise NotImplementedError


@job
def thing(value: object, times: int) -> str:
    raise NotImplementedError


@job
async def only_context(ctx: Context) -> int:
    raise NotImplementedError


async def right(image_id: UUID, ctx: Context) -> None:
    assert_type(enqueue(fetch, image_id), Handle[bytes])
    assert_type(enqueue(fetch, image_id, width=3), Handle[bytes])
    assert_type(enqueue(shrink, b"", ratio=0.5), Handle[bytes])
    assert_type(enqueue(resize, image_id, 640), Handle[str])
    assert_type(enqueue(resize, image_id=image_id), Handle[str])
    assert_type(enqueue(report, "today"), Handle[int])
    assert_type(enqueue(nothing), Handle[None])
    assert_type(enqueue(late, "today"), Handle[int])
    assert_type(enqueue(several, 1, 2, a="b"), Handle[list[int]])
    assert_type(enqueue(only_context), Handle[int])
    enqueue(anything, 3, times=1)
    enqueue(anything, value="a", times=1)
    enqueue(thing, value="a", times=1)

    assert_type(fetch(image_id), Coroutine[Any, Any, bytes])  # type: ignore[unused-coroutine]
    assert_type(await fetch(image_id), bytes)
    assert_type(shrink(b"", ratio=1), bytes)
    assert_type(await resize(ctx, image_id), str)
    assert_type(report(ctx, "today"), int)
    assert_type(fetch.name, str)
    job(queue="media")(priority=5)(nothing.function)
    job(retry=Backoff(base="2s", horizon="1h"), timeout=None, concurrency_key="k")
    job(retry=Delays(["1s", 2, 0.5]), concurrency_key=lambda **words: str(words))
    EnqueueOptions(priority=5, delay="10m", timeout=None, depends_on=[image_id], unique_key="k")


async def wrong(image_id: UUID, ctx: Context) -> None:
    enqueue(fetch)  # E: the image is missing
    enqueue(fetch, "image")  # E: a text is no UUID
    enqueue(fetch, image_id, "wide")  # E: a text is no number
    enqueue(fetch, image_id, height=3)  # E: there is no such parameter
    enqueue(fetch, image_id, 3, 4)  # E: too many
    enqueue(shrink, b"", 0.5)  # E: the ratio goes by name
    enqueue(shrink, b"")  # E: the ratio is missing
    enqueue(resize, ctx, image_id)  # E: the context is not the caller's
    enqueue(resize, image_id, ctx=ctx)  # E: not by name either
    enqueue(report)  # E: the day is missing
    enqueue(nothing, 1)  # E: takes nothing
    enqueue(several, "one")  # E: a text is no number
    enqueue(several, a=1)  # E: a number is no text
    enqueue(only_context, ctx)  # E: the context is not the caller's
    enqueue(fetch.function, image_id)  # E: a plain function is no kind

    await fetch("image")  # E: checked when called directly, too
    await resize(image_id)  # E: a direct call passes a context
    report("today")  # E: a direct call passes a context
    await shrink(b"", ratio=1)  # E: not async
    wide: int = await fetch(image_id)  # E: a picture is no number
    del wide

    job(queue=3)  # E: a number is no name
    job(prio=3)  # E: there is no such option
    job(retry="1s")  # E: a text is no policy
    job(mode="fork")  # E: there is no such mode
    job(on_duplicate="drop")  # E: there is no such answer
    EnqueueOptions(priority="high")  # E: a text is no priority
    EnqueueOptions(5)  # E: options go by name
    EnqueueOptions(depends_on=["0198c5a1"])  # E: a text is no job
    Backoff(jitter="some")  # E: there is no such jitter
