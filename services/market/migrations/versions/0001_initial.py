"""Hosts and prices, wallets and authorisations, and the ledger that only grows and balances."""

from uuid import UUID

import sqlalchemy as sa
from alembic import op

from shared.platform_tables import create_platform_tables

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

INCOME = "00000000-0000-7000-8000-000000000001"
TOP_UPS = "00000000-0000-7000-8000-000000000002"
STATES = "'open', 'active', 'closed', 'void', 'expired'"


def upgrade() -> None:
    create_platform_tables()
    _create_hosts()
    _create_prices()
    _create_wallets()
    _create_authorisations()
    _create_ledger()
    _let_the_ledger_only_grow()
    _let_the_ledger_balance()


def _moment(name: str, *, nullable: bool = False) -> sa.Column[object]:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=nullable)


def _words(*names: str) -> list[sa.Column[object]]:
    return [sa.Column(name, sa.String(), nullable=False) for name in names]


def _ids(*names: str, nullable: bool = False) -> list[sa.Column[object]]:
    return [sa.Column(name, sa.Uuid(), nullable=nullable) for name in names]


def _counts(*names: str) -> list[sa.Column[object]]:
    return [sa.Column(name, sa.Integer(), nullable=False) for name in names]


def _money(name: str, *, nullable: bool = False) -> sa.Column[object]:
    return sa.Column(name, sa.Numeric(18, 4), nullable=nullable)


def _create_hosts() -> None:
    op.create_table(
        "hosts",
        *_ids("id"),
        sa.Column("sequence", sa.BigInteger(), nullable=False),
        *_words("name", "region", "state", "gpu_model", "cpu_model", "driver_version", "max_cuda"),
        sa.Column("simulated", sa.Boolean(), nullable=False),
        *_counts("gpu_memory_gb", "gpu_total", "gpu_free", "memory_gb", "cuda_rank"),
        sa.Column("disk_gb", sa.BigInteger(), nullable=False),
        sa.Column("cpu_cores", sa.Float(), nullable=False),
        sa.Column("tflops", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_hosts"),
    )
    op.create_index("ix_hosts_gpu_model", "hosts", ["gpu_model"])


def _create_prices() -> None:
    op.create_table(
        "prices",
        *_words("model"),
        _money("list_price_per_hour"),
        _money("price_per_hour"),
        _money("no_card_price_per_hour", nullable=True),
        _moment("changed_at"),
        *_ids("changed_by"),
        sa.PrimaryKeyConstraint("model", name="pk_prices"),
        sa.CheckConstraint("price_per_hour > 0", name=op.f("ck_prices_price_per_hour")),
        sa.CheckConstraint(
            "list_price_per_hour >= price_per_hour", name=op.f("ck_prices_list_price_per_hour")
        ),
        sa.CheckConstraint(
            "no_card_price_per_hour > 0", name=op.f("ck_prices_no_card_price_per_hour")
        ),
    )


def _create_wallets() -> None:
    accounts = op.create_table(
        "ledger_accounts",
        *_ids("id"),
        *_words("kind"),
        sa.PrimaryKeyConstraint("id", name="pk_ledger_accounts"),
        sa.CheckConstraint(
            "kind IN ('wallet', 'income', 'top_ups')", name=op.f("ck_ledger_accounts_kind")
        ),
    )
    op.bulk_insert(
        accounts, [{"id": UUID(INCOME), "kind": "income"}, {"id": UUID(TOP_UPS), "kind": "top_ups"}]
    )
    op.create_table(
        "wallets",
        *_ids("account_id"),
        _money("balance"),
        _money("held"),
        _moment("exhausted_told_at", nullable=True),
        _moment("created_at"),
        sa.PrimaryKeyConstraint("account_id", name="pk_wallets"),
        sa.ForeignKeyConstraint(
            ["account_id"], ["ledger_accounts.id"], name="fk_wallets_account_id_ledger_accounts"
        ),
        sa.CheckConstraint("held >= 0", name=op.f("ck_wallets_held")),
    )


def _create_authorisations() -> None:
    op.create_table(
        "authorisations",
        *_ids("id", "account_id", "instance_id", "node_id"),
        *_words("node_name", "gpu_model", "mode", "state"),
        *_counts("gpu_count"),
        _money("price_per_hour"),
        _money("held"),
        _money("billed"),
        _moment("created_at"),
        _moment("expires_at"),
        *(
            _moment(name, nullable=True)
            for name in ("started_at", "proven_until", "stopped_at", "billed_until")
        ),
        sa.PrimaryKeyConstraint("id", name="pk_authorisations"),
        sa.ForeignKeyConstraint(
            ["account_id"], ["wallets.account_id"], name="fk_authorisations_account_id_wallets"
        ),
        sa.CheckConstraint(f"state IN ({STATES})", name=op.f("ck_authorisations_state")),
        sa.CheckConstraint("mode IN ('gpu', 'cpu')", name=op.f("ck_authorisations_mode")),
        sa.CheckConstraint("held >= 0", name=op.f("ck_authorisations_held")),
        sa.CheckConstraint(
            "held = 0 OR state IN ('open', 'active')", name=op.f("ck_authorisations_hold_ends")
        ),
        sa.CheckConstraint(
            "state NOT IN ('active', 'closed') OR started_at IS NOT NULL",
            name=op.f("ck_authorisations_started"),
        ),
        sa.CheckConstraint(
            "state <> 'closed' OR stopped_at IS NOT NULL", name=op.f("ck_authorisations_stopped")
        ),
    )
    for columns in (["account_id", "started_at"], ["state", "expires_at"]):
        op.create_index(f"ix_authorisations_{'_'.join(columns)}", "authorisations", columns)


def _create_ledger() -> None:
    op.create_table(
        "ledger_transactions",
        *_ids("id"),
        _moment("at"),
        *_words("kind", "note"),
        *_ids("authorisation_id", "corrects_id", "actor_id", nullable=True),
        _moment("paid_until", nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_ledger_transactions"),
        sa.ForeignKeyConstraint(
            ["authorisation_id"],
            ["authorisations.id"],
            name="fk_ledger_transactions_authorisation_id_authorisations",
        ),
        sa.ForeignKeyConstraint(
            ["corrects_id"],
            ["ledger_transactions.id"],
            name="fk_ledger_transactions_corrects_id_ledger_transactions",
        ),
        sa.UniqueConstraint(
            "authorisation_id",
            "paid_until",
            name="uq_ledger_transactions_authorisation_id_paid_until",
        ),
        sa.CheckConstraint(
            "kind IN ('credit', 'usage', 'correction')", name=op.f("ck_ledger_transactions_kind")
        ),
        sa.CheckConstraint(
            "(kind = 'correction') = (corrects_id IS NOT NULL)",
            name=op.f("ck_ledger_transactions_corrects"),
        ),
        sa.CheckConstraint(
            "kind <> 'usage' OR paid_until IS NOT NULL", name=op.f("ck_ledger_transactions_usage")
        ),
        sa.CheckConstraint(
            "(paid_until IS NULL) OR (authorisation_id IS NOT NULL)",
            name=op.f("ck_ledger_transactions_paid"),
        ),
    )
    op.create_index("ix_ledger_transactions_corrects_id", "ledger_transactions", ["corrects_id"])
    op.create_table(
        "ledger_entries",
        sa.Column("position", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        *_ids("transaction_id", "ledger_account_id"),
        _money("amount"),
        _money("balance_after", nullable=True),
        sa.PrimaryKeyConstraint("position", name="pk_ledger_entries"),
        sa.ForeignKeyConstraint(
            ["transaction_id"],
            ["ledger_transactions.id"],
            name="fk_ledger_entries_transaction_id_ledger_transactions",
        ),
        sa.ForeignKeyConstraint(
            ["ledger_account_id"],
            ["ledger_accounts.id"],
            name="fk_ledger_entries_ledger_account_id_ledger_accounts",
        ),
        sa.UniqueConstraint(
            "transaction_id",
            "ledger_account_id",
            name="uq_ledger_entries_transaction_id_ledger_account_id",
        ),
        sa.CheckConstraint("amount <> 0", name=op.f("ck_ledger_entries_amount")),
    )
    op.create_index(
        "ix_ledger_entries_ledger_account_id_position",
        "ledger_entries",
        ["ledger_account_id", "position"],
    )


def _let_the_ledger_only_grow() -> None:
    # The owner of a table keeps its rights whatever is revoked; a trigger refuses the owner too.
    op.execute(
        """
        CREATE FUNCTION refuse_ledger_change() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN RAISE EXCEPTION '% only grows', TG_TABLE_NAME; END $$
        """
    )
    for table in ("ledger_transactions", "ledger_entries"):
        op.execute(
            f"""
            CREATE TRIGGER {table}_only_grow
            BEFORE UPDATE OR DELETE OR TRUNCATE ON {table}
            FOR EACH STATEMENT EXECUTE FUNCTION refuse_ledger_change()
            """
        )


def _let_the_ledger_balance() -> None:
    op.execute(
        """
        CREATE FUNCTION require_ledger_balance() RETURNS trigger LANGUAGE plpgsql AS $$
        DECLARE
            checked uuid;
            sides integer;
            total numeric;
        BEGIN
            IF TG_TABLE_NAME = 'ledger_entries' THEN
                checked := NEW.transaction_id;
            ELSE
                checked := NEW.id;
            END IF;
            SELECT count(*), coalesce(sum(amount), 0) INTO sides, total
            FROM ledger_entries WHERE transaction_id = checked;
            IF sides < 2 OR total <> 0 THEN
                RAISE EXCEPTION 'ledger transaction % is unbalanced: % entries, sum %',
                    checked, sides, total;
            END IF;
            RETURN NULL;
        END $$
        """
    )
    for table in ("ledger_transactions", "ledger_entries"):
        op.execute(
            f"""
            CREATE CONSTRAINT TRIGGER {table}_balance AFTER INSERT ON {table}
            DEFERRABLE INITIALLY DEFERRED
            FOR EACH ROW EXECUTE FUNCTION require_ledger_balance()
            """
        )


def downgrade() -> None:
    for table in ("ledger_entries", "ledger_transactions", "authorisations", "wallets"):
        op.drop_table(table)
    for table in ("ledger_accounts", "prices", "hosts"):
        op.drop_table(table)
    op.execute("DROP FUNCTION require_ledger_balance()")
    op.execute("DROP FUNCTION refuse_ledger_change()")
    for table in ("idempotency_keys", "dead_letters", "inbox", "outbox"):
        op.drop_table(table)
