"""What wakes the workers: told inside a transaction, heard after its commit."""

import asyncio
from functools import partial
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from shared.database import call_after_commit


class Signals:
    """orders: a node's agent must be told anew. capacity: a queued instance may fit now.
    joining: the broker must be told of a node's credential."""

    def __init__(self) -> None:
        self.orders = asyncio.Event()
        self.capacity = asyncio.Event()
        self.joining = asyncio.Event()
        self._changed: set[UUID] = set()
        self._followed: dict[UUID, bool] = {}

    def order_changed(self, session: AsyncSession, node_id: UUID) -> None:
        call_after_commit(session, partial(self._mark, node_id))

    def capacity_returned(self, session: AsyncSession) -> None:
        call_after_commit(session, self.capacity.set)

    def joining_changed(self, session: AsyncSession) -> None:
        call_after_commit(session, self.joining.set)

    def followed(self, session: AsyncSession, node_id: UUID) -> None:
        """By its report, the node acts on its newest orders."""
        call_after_commit(session, partial(self._followed.__setitem__, node_id, True))

    def fell_behind(self, session: AsyncSession, node_id: UUID) -> None:
        """By its report, the node may not know its newest orders."""
        call_after_commit(session, partial(self._mark_behind, node_id))

    def take_followed(self) -> dict[UUID, bool]:
        """What was heard last of each node since the last asking."""
        followed, self._followed = self._followed, {}
        return followed

    def take_changed(self) -> set[UUID]:
        changed, self._changed = self._changed, set()
        return changed

    def _mark(self, node_id: UUID) -> None:
        self._changed.add(node_id)
        self.orders.set()

    def _mark_behind(self, node_id: UUID) -> None:
        self._followed[node_id] = False
        self.orders.set()
