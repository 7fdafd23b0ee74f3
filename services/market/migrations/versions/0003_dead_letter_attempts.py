"""Dead letters count how often they were tried."""

from shared.platform_tables import count_dead_letter_attempts

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    count_dead_letter_attempts()


def downgrade() -> None:
    # The column harms nobody, and the first revision makes it too.
    pass
