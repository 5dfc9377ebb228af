"""Right and wrong uses of the application: a line marked `# E:` must be refused by the type checkers, no other may."""

from datetime import UTC, datetime, timedelta
from typing import assert_type
from uuid import UUID

from perdure import ActOutcome, Context, Handle, Perdure, job
from perdure.runtime.app import Enqueuer, Prepared


@job(queue="media")
async def resize(ctx: Context, image_id: UUID, width: int = 640) -> str:
    raise NotImplementedError


@job
def count(words: list[str]) -> int:
    raise NotImplementedError


async def right(app: Perdure, image_id: UUID) -> None:
    assert_type(await app.enqueue(resize, image_id), Handle[str])
    assert_type(await app.enqueue(resize, image_id, width=3), Handle[str])
    assert_type(await (await app.enqueue(resize, image_id)).result("5s"), str)
    assert_type(app.enqueue_sync(count, ["a"]), Handle[int])
    assert_type(app.enqueue_sync(count, ["a"]).result_sync(timedelta(seconds=1)), int)
    assert_type(app.handle(count, image_id), Handle[int])
    assert_type(await app.handle(count, image_id).cancel("not needed", actor="shop"), ActOutcome)
    assert_type(app.handle(count, image_id).retry_sync(), ActOutcome)
    assert_type(await app.jobs.create(count, words=["a"]), Handle[int])

    with_options = app.using(priority=5, delay="10m", unique_for="1h", depends_on=[image_id], retries=0)
    assert_type(with_options, Enqueuer)
    assert_type(await with_options.enqueue(resize, image_id, 640), Handle[str])
    assert_type(with_options.enqueue_sync(count, words=[]), Handle[int])
    app.using(conn=object(), run_at=datetime.now(UTC), unique_key=lambda **words: str(words))
    app.using(depends_on=await app.enqueue(count, []))
    app.using(depends_on=app.prepare(count, []), on_duplicate="return", timeout=None)

    prepared = [app.prepare(count, ["a"]), app.using(queue="q").prepare(count, ["b"])]
    assert_type(prepared, list[Prepared[int]])
    assert_type(await app.enqueue_many(prepared), list[Handle[int]])
    assert_type(app.enqueue_many_sync(prepared, conn=object()), list[Handle[int]])
    await app.enqueue_many([app.prepare(resize, image_id), app.prepare(count, ["a"])])
    Perdure(database_url="postgresql://localhost/app", concurrency=5, queues=["a", "b"])


async def wrong(app: Perdure, image_id: UUID, ctx: Context) -> None:
    await app.enqueue(resize)  # E: the image is missing
    await app.enqueue(resize, "image")  # E: a text is no UUID
    await app.enqueue(resize, image_id, height=3)  # E: there is no such parameter
    await app.enqueue(resize, ctx, image_id)  # E: the context is not the caller's
    await app.enqueue(len, [])  # E: a plain function is no kind
    app.enqueue_sync(count, "words")  # E: a text is no list
    app.enqueue_sync(count, ["a"], priority=3)  # E: options go with using
    app.prepare(count)  # E: the words are missing
    await app.jobs.create(count, words=[1])  # E: a number is no word
    await app.using(priority=5).enqueue(resize, image_id, "wide")  # E: a text is no number
    app.using(priority="high")  # E: a text is no priority
    app.using(prio=5)  # E: there is no such option
    app.using(on_duplicate="drop")  # E: there is no such answer
    app.using(depends_on="0198c5a1")  # E: a text is no job
    app.using(run_at="tomorrow")  # E: a text is no moment
    await app.enqueue_many([count])  # E: a kind is not prepared
    size: int = await (await app.enqueue(resize, image_id)).result()  # E: a text is no number
    text: str = app.enqueue_sync(count, []).result_sync()  # E: a number is no text
    await app.handle(count, image_id).cancel(reason=3)  # E: a number is no reason
    app.handle(count, image_id).cancel_sync("enough", "shop")  # E: who asked goes by name
    await app.handle(count, image_id).retry(delay="1m")  # E: there is no such option
    del size, text
    Perdure(concurency=5)  # E: there is no such setting
    Perdure(concurrency="many")  # E: a text is no number
