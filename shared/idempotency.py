"""One `Idempotency-Key`, one effect, one answer.

The key, a fingerprint of the request and the answer are written in the transaction of the effect.
The same key with another body is refused; two at once wait for one another, and the second gets
the first one's answer.
"""

import hashlib
from collections.abc import Awaitable, Callable
from typing import Annotated, TypeVar
from uuid import UUID

from fastapi import Header
from pydantic import BaseModel
from sqlalchemy import (
    Column,
    DateTime,
    MetaData,
    Table,
    Text,
    Uuid,
    column,
    func,
    select,
    table,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.ext.asyncio import AsyncSession

from shared.errors import Invalid
from shared.text import Text as Words

_keys = table(
    "idempotency_keys",
    column("owner_id", Uuid()),
    column("key", Text()),
    column("fingerprint", Text()),
    column("answer", JSONB()),
)

IdempotencyKey = Annotated[
    str | None,
    Header(
        min_length=8,
        max_length=200,
        pattern=r"^[\x21-\x7e]+$",
        description="Made by the client; the same key repeats the answer, never the effect.",
    ),
]

M = TypeVar("M", bound=BaseModel)


class IdempotencyKeyReused(Invalid):
    code = "idempotency_key_reused"
    title = Words("幂等键已用于另一请求", "The idempotency key belongs to another request")
    detail = Words(
        "此 Idempotency-Key 已用于内容不同的请求，请换一个新键。",
        "This Idempotency-Key was used with a different request body. Make a new key.",
    )


def define_idempotency(metadata: MetaData) -> None:
    """The table, in the metadata of the service that owns it."""
    Table(
        "idempotency_keys",
        metadata,
        Column("owner_id", Uuid(), primary_key=True),
        Column("key", Text(), primary_key=True),
        Column("fingerprint", Text(), nullable=False),
        Column("answer", JSONB(), nullable=False),
        Column("created_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    )


async def once(
    session: AsyncSession,
    *,
    owner_id: UUID,
    key: str | None,
    operation: str,
    request: BaseModel,
    effect: Callable[[], Awaitable[M]],
    answer_type: type[M],
) -> M:
    """Run `effect` unless this owner's key already has an answer; then return that answer.

    Without a key the effect simply runs. Raises IdempotencyKeyReused.
    """
    if key is None:
        return await effect()
    await session.execute(
        text("SELECT pg_advisory_xact_lock(hashtextextended(:lock, 0))"),
        {"lock": f"{owner_id}:{key}"},
    )
    fingerprint = hashlib.sha256(f"{operation}\n{request.model_dump_json()}".encode()).hexdigest()
    known = (
        await session.execute(select(_keys).where(_keys.c.owner_id == owner_id, _keys.c.key == key))
    ).first()
    if known is not None:
        if known.fingerprint != fingerprint:
            raise IdempotencyKeyReused(field="Idempotency-Key")
        return answer_type.model_validate(known.answer)
    answer = await effect()
    await session.execute(
        _keys.insert().values(
            owner_id=owner_id,
            key=key,
            fingerprint=fingerprint,
            answer=answer.model_dump(mode="json"),
        )
    )
    return answer
