"""Facts that were told before are told again, because an operator says that somebody lost them.

A fact keeps its id, so the inboxes of those who had it absorb the second telling: they never forget
an id (`shared/inbox.py`), while the outbox forgets a fact (`shared/outbox.py`). Facts keep their
places too, so the relay tells those of a subject in their old order; whoever has heard a later one
meanwhile skips the lower sequence.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

import structlog
from sqlalchemy import DateTime, Text, bindparam, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.ext.asyncio import AsyncSession

from shared.bus.protocol import matches
from shared.database import OUTBOX_WRITTEN, Database, call_after_commit, database_now
from shared.errors import Conflict, Invalid
from shared.events.outbox import retold
from shared.ids import first_id, new_id
from shared.outbox import emit
from shared.text import Text as Words

log = structlog.get_logger(__name__)

# New facts wait behind those that are told again: so many take a minute or two.
MOST = 100_000
# Between an event's id and its time, which are taken one after the other.
SLACK = timedelta(minutes=1)

# The id alone has an index.
_TOLD = """
    published_at IS NOT NULL AND id >= :first
    AND CAST(envelope ->> 'time' AS timestamptz) >= :since
    AND (:until IS NULL OR CAST(envelope ->> 'time' AS timestamptz) < :until)
"""
_MOMENTS = (
    bindparam("since", type_=DateTime(timezone=True)),
    bindparam("until", type_=DateTime(timezone=True)),
)
_COUNT = text(
    f"SELECT envelope ->> 'type' AS type, count(*) AS told FROM outbox WHERE {_TOLD} GROUP BY 1"  # noqa: S608 - a constant of ours
).bindparams(*_MOMENTS)
# As if they had never been told: the relay tells them in their old places.
_UNTELL = text(
    f"UPDATE outbox SET published_at = NULL, claimed_until = NULL WHERE {_TOLD} "  # noqa: S608 - a constant of ours
    "AND envelope ->> 'type' = ANY(:types) RETURNING id"
).bindparams(*_MOMENTS, bindparam("types", type_=ARRAY(Text())))


class NoSuchSpan(Invalid):
    code = "no_such_span"
    title = Words("时间范围为空", "The span is empty")
    detail = Words(
        "since 必须早于 until，也早于现在。", "`since` must be earlier than `until`, and than now."
    )


class ForgottenSince(Invalid):
    code = "facts_forgotten"
    title = Words("这么早的事件已不再保存", "Facts of that time are kept no longer")
    detail = Words(
        "{service} 已发出的事件只保存到 {oldest} 为止，再早的无法重发。请给出不早于此刻的 since；"
        "更早的差异由各服务自行对账，或由管理员按 docs/operate.md 处理。"
        "调大 CHUSUAN_OUTBOX_KEPT_S 可使今后保存更久。",
        "What {service} has told is kept back to {oldest}; what is older cannot be told again. "
        "Give a `since` that is not before it. What differs from before then is found by the "
        "services' own comparisons, or put right by hand (docs/operate.md). A larger "
        "CHUSUAN_OUTBOX_KEPT_S keeps more from now on.",
    )


class TooManyFacts(Conflict):
    code = "too_many_facts"
    title = Words("一次重发的事件过多", "Too many facts to tell again at once")
    detail = Words(
        "范围内有 {count} 个事件，一次最多 {most} 个，因为新事件要排在它们之后。"
        "请用 until 或 type 缩小范围，分几次进行。",
        "There are {count} in this span, and at most {most} are told again at once, since new "
        "facts wait behind them. Take a part by `until` or `type`, then the next.",
    )


@dataclass(frozen=True, slots=True)
class Retelling:
    """Of one service; `app.state.retelling`. kept: how long facts are there after their telling."""

    service: str
    database: Database
    kept: timedelta

    async def retell(
        self, since: datetime, until: datetime | None, pattern: str, *, actor: UUID
    ) -> int:
        """How many of those that became true in [since, until) are told again; what still waits
        for its first telling is none of them. pattern: of their types, as a subscription's.
        Harmless to repeat. Raises ForgottenSince, NoSuchSpan, TooManyFacts."""
        async with self.database.transaction() as session:
            now = await database_now(session)
            oldest = now - self.kept
            if since < oldest:
                raise ForgottenSince(
                    field="since",
                    service=self.service,
                    oldest=f"{oldest:%Y-%m-%dT%H:%M:%SZ}",
                )
            if until is not None and until > now:
                until = None
            if (until or now) <= since:
                raise NoSuchSpan(field="since" if until is None else "until")
            count = await _untell(session, since, until, pattern)
            fact = retold(
                self.service, pattern=pattern, since=since, until=until or now, events=count
            )
            await emit(session, fact, subject=new_id(), actor=actor)
        log.warning("facts_told_again", service=self.service, pattern=pattern, count=count)
        return count


async def _untell(
    session: AsyncSession, since: datetime, until: datetime | None, pattern: str
) -> int:
    span = {"first": first_id(since - SLACK), "since": since, "until": until}
    found = {row.type: row.told for row in await session.execute(_COUNT, span)}
    types = sorted(type_ for type_ in found if matches(pattern, type_))
    count = sum(found[type_] for type_ in types)
    if count > MOST:
        raise TooManyFacts(count=count, most=MOST)
    if not count:
        return 0
    done = (await session.execute(_UNTELL, {**span, "types": types})).all()
    call_after_commit(session, session.info[OUTBOX_WRITTEN].set)
    return len(done)
