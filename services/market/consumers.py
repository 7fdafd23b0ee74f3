"""What the market hears: hosts, runs and their proofs of the scheduler, approvals of auth."""

from sqlalchemy.ext.asyncio import AsyncSession

from services.market.booking import lock_wallet
from services.market.metering import (
    note_abandoned,
    note_proof,
    note_resume,
    note_start,
    note_stop,
)
from services.market.offering import note_host
from services.market.tools import Tools
from shared.bus import Subscription
from shared.events import Envelope
from shared.events.auth import AccountApproved
from shared.events.scheduler import (
    InstanceResumed,
    InstanceStarted,
    InstanceStopped,
    NodeChanged,
    StartAbandoned,
    UsageProven,
)
from shared.inbox import consume, on


def offers(tools: Tools) -> Subscription:
    async def changed(session: AsyncSession, node: NodeChanged, said: Envelope) -> None:
        await note_host(session, node, said.sequence)

    return consume(tools.database, "market.offers", on(NodeChanged, changed))


def runs(tools: Tools) -> Subscription:
    lives_s = tools.settings.authorisation_lives_s

    async def started(session: AsyncSession, run: InstanceStarted, _: Envelope) -> None:
        await note_start(session, run.authorisation_id, run.started_at)

    async def stopped(session: AsyncSession, run: InstanceStopped, _: Envelope) -> None:
        await note_stop(session, run.authorisation_id, run.stopped_at, run.instance_id)

    async def resumed(session: AsyncSession, run: InstanceResumed, _: Envelope) -> None:
        await note_resume(session, run, lives_s)

    async def abandoned(session: AsyncSession, run: StartAbandoned, _: Envelope) -> None:
        await note_abandoned(session, run.authorisation_id)

    return consume(
        tools.database,
        "market.runs",
        on(InstanceStarted, started),
        on(InstanceStopped, stopped),
        on(InstanceResumed, resumed),
        on(StartAbandoned, abandoned),
    )


def proofs(tools: Tools) -> Subscription:
    async def proven(session: AsyncSession, proof: UsageProven, _: Envelope) -> None:
        await note_proof(session, proof.authorisations, proof.until)

    return consume(tools.database, "market.proofs", on(UsageProven, proven))


def wallets(tools: Tools) -> Subscription:
    async def approved(session: AsyncSession, account: AccountApproved, _: Envelope) -> None:
        await lock_wallet(session, account.account_id)

    return consume(tools.database, "market.wallets", on(AccountApproved, approved))
