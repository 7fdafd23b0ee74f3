"""Identifiers: UUIDv7, so that rows sort by the time they were made."""

from datetime import datetime
from typing import NewType
from uuid import UUID

import uuid6

AccountId = NewType("AccountId", UUID)
InstanceId = NewType("InstanceId", UUID)
NodeId = NewType("NodeId", UUID)
ImageId = NewType("ImageId", UUID)


def new_id() -> UUID:
    """A fresh UUIDv7 (RFC 9562)."""
    return UUID(bytes=uuid6.uuid7().bytes)


def first_id(at: datetime) -> UUID:
    """No id made then or later is lower. One made before may be higher: where many are made in a
    moment they run ahead of the clock. at: from 1970 on, aware."""
    return UUID(int=int(at.timestamp() * 1000) << 80)


def short_name(id_: UUID) -> str:
    """What people see instead of a UUID: ten characters of its random tail."""
    return id_.hex[-10:]
