"""Alembic's entry."""

from services.scheduler.models import Base
from shared.migration import run_migrations

run_migrations(Base.metadata)
