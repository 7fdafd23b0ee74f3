"""Alembic's entry."""

from services.market.models import Base
from shared.migration import run_migrations

run_migrations(Base.metadata)
