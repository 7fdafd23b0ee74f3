"""What auth hears: everything worth a line in the audit trail."""

from services.auth.auditing import record_fact
from shared.bus import Subscription
from shared.database import Database
from shared.inbox import consume, on_any


def audit_subscription(database: Database) -> Subscription:
    return consume(
        database,
        "auth.audit",
        on_any("auth.#", record_fact),
        on_any("scheduler.instance.*", record_fact),
        on_any("market.*.*", record_fact),
        # Where no pattern above takes them already: each fact is kept once.
        on_any("scheduler.dead_letter.*", record_fact),
        on_any("storage.dead_letter.*", record_fact),
        on_any("registry.dead_letter.*", record_fact),
    )


def retelling_subscription(database: Database) -> Subscription:
    """The like of services whose facts no pattern above takes; a queue of its own, since copies of
    an older version may share the other one."""
    return consume(
        database,
        "auth.audit_retellings",
        on_any("scheduler.outbox.*", record_fact),
        on_any("storage.outbox.*", record_fact),
        on_any("registry.outbox.*", record_fact),
    )
