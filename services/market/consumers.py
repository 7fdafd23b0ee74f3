"""What the market hears: hosts, runs and their proofs of the scheduler, approvals of auth."""

from sqlalchemy.ext.asyncio import AsyncSession

from services.market.booking import lock_wallet
from services.market.metering import note_abandoned, note_proof, note_start, note_stop
from services.market.offering import note_host
from shared.bus import Subscription
from shared.database import Database
from shared.events import Envelope
from shared.events.auth import AccountApproved
from shared.events.scheduler import (
    InstanceStarted,
    InstanceStopped,
    NodeChanged,
    StartAbandoned,
    UsageProven,
)
from shared.inbox import consume, on


def offers(database: Database) -> Subscription:
    async def changed(session: AsyncSession, node: NodeChanged, said: Envelope) -> None:
        await note_host(session, node, said.sequence)

    return consume(database, "market.offers", on(NodeChanged, changed))


def runs(database: Database) -> Subscription:
    async def started(session: AsyncSession, run: InstanceStarted, _: Envelope) -> None:
        await note_start(session, run.authorisation_id, run.started_at)

    async def stopped(session: AsyncSession, run: InstanceStopped, _: Envelope) -> None:
        await note_stop(session, run.authorisation_id, run.stopped_at)

    async def abandoned(session: AsyncSession, run: StartAbandoned, _: Envelope) -> None:
        await note_abandoned(session, run.authorisation_id)

    return consume(
        database,
        "market.runs",
        on(InstanceStarted, started),
        on(InstanceStopped, stopped),
        on(StartAbandoned, abandoned),
    )


def proofs(database: Database) -> Subscription:
    async def proven(session: AsyncSession, proof: UsageProven, _: Envelope) -> None:
        await note_proof(session, proof.authorisations, proof.until)

    return consume(database, "market.proofs", on(UsageProven, proven))


def wallets(database: Database) -> Subscription:
    async def approved(session: AsyncSession, account: AccountApproved, _: Envelope) -> None:
        await lock_wallet(session, account.account_id)

    return consume(database, "market.wallets", on(AccountApproved, approved))
