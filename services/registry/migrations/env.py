"""Alembic's entry."""

from services.registry.models import Base
from shared.migration import run_migrations

run_migrations(Base.metadata)
