"""What the scheduler hears: reports of agents, keys and accounts of auth, empty wallets."""

import structlog
from sqlalchemy.ext.asyncio import AsyncSession

from services.scheduler.clients.admission import login_of
from services.scheduler.domain.states import StopReason
from services.scheduler.entering import keep_key
from services.scheduler.heartbeats import Heartbeats
from services.scheduler.leasing import note_reach
from services.scheduler.observing import take_report
from services.scheduler.stopping import stop_all_of
from services.scheduler.tools import Tools
from shared.bus import Keeping, Subscription
from shared.crashing import doing
from shared.events import Envelope
from shared.events.agent import NodeReported
from shared.events.auth import AccountDisabled, SshKeyAdded, SshKeyRemoved
from shared.events.market import WalletExhausted, WalletReaches
from shared.inbox import consume, on

log = structlog.get_logger(__name__)

OUR_OWN_PROCESS = "agent"


def reports(tools: Tools) -> Subscription:
    """Agents report whole states without an outbox, so nothing is remembered of a message. One
    that cannot be taken is dropped: the next one says it again, or is as wrong."""

    heartbeats = Heartbeats(tools.database, tools.settings.usage_proof_s)

    async def take(envelope: Envelope) -> None:
        try:
            report = NodeReported.model_validate(envelope.data)
            if envelope.source not in (OUR_OWN_PROCESS, login_of(report.node_id)):
                log.warning(
                    "report_of_another", source=envelope.source, node_id=str(report.node_id)
                )
                return
            with doing(lambda: "scheduler.reports"):
                await take_report(tools, heartbeats, report)
        except OSError:
            # The database is away: the bus brings it again.
            raise
        except Exception as error:
            log.warning("report_not_taken", source=envelope.source, error=repr(error))

    return Subscription("scheduler.reports", (NodeReported.type,), take, keeping=Keeping.states)


def ssh_keys(tools: Tools) -> Subscription:
    async def added(session: AsyncSession, key: SshKeyAdded, _: Envelope) -> None:
        await keep_key(
            session,
            tools.signals,
            key_id=key.key_id,
            account_id=key.account_id,
            line=key.public_key,
        )

    async def removed(session: AsyncSession, key: SshKeyRemoved, _: Envelope) -> None:
        await keep_key(
            session, tools.signals, key_id=key.key_id, account_id=key.account_id, line=None
        )

    return consume(
        tools.database, "scheduler.ssh_keys", on(SshKeyAdded, added), on(SshKeyRemoved, removed)
    )


def leases(tools: Tools) -> Subscription:
    async def reaches(session: AsyncSession, wallet: WalletReaches, said: Envelope) -> None:
        await note_reach(
            session,
            tools.signals,
            account_id=wallet.account_id,
            paid_until=wallet.paid_until,
            said_at=said.time,
        )

    return consume(tools.database, "scheduler.leases", on(WalletReaches, reaches))


def enforced_stops(tools: Tools) -> Subscription:
    async def exhausted(session: AsyncSession, wallet: WalletExhausted, said: Envelope) -> None:
        await stop_all_of(
            session, tools.signals, wallet.account_id, StopReason.balance, said_at=said.time
        )

    async def disabled(session: AsyncSession, account: AccountDisabled, said: Envelope) -> None:
        await stop_all_of(
            session, tools.signals, account.account_id, StopReason.operator, said_at=said.time
        )

    return consume(
        tools.database,
        "scheduler.stops",
        on(WalletExhausted, exhausted),
        on(AccountDisabled, disabled),
    )
