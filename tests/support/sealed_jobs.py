"""Jobs whose arguments and results are encrypted, in each mode and with an ending of their own."""

import os

import asyncpg
import psycopg

from perdure import Context, job


@job(encrypted=True)
async def whisper(text: str) -> str:
    return text.upper()


@job(encrypted=True)
def whisper_in_a_thread(text: str) -> str:
    return text.upper()


@job(encrypted=True, mode="process")
def whisper_in_a_process(text: str) -> str:
    return text.upper()


@job(encrypted=True)
async def whisper_and_complete(ctx: Context, text: str) -> str:
    conn = await asyncpg.connect(os.environ["PERDURE_DATABASE_URL"])
    async with conn.transaction():
        await ctx.complete(conn, text.upper())
    await conn.close()
    return "ignored"


@job(encrypted=True, mode="process")
def whisper_in_a_process_and_complete(ctx: Context, text: str) -> str:
    with psycopg.connect(os.environ["PERDURE_DATABASE_URL"]) as conn:
        ctx.complete_sync(conn, text.upper())
    return "ignored"


@job(encrypted=True, unique_for="1h")
async def whisper_once(text: str) -> None:
    return None


KINDS = (
    whisper,
    whisper_in_a_thread,
    whisper_in_a_process,
    whisper_and_complete,
    whisper_in_a_process_and_complete,
)
