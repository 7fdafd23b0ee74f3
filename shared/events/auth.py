"""Facts that auth tells."""

from typing import ClassVar
from uuid import UUID

from shared.events.envelope import Payload


class AccountRegistered(Payload):
    type: ClassVar[str] = "auth.account.registered"
    account_id: UUID
    username: str


class AccountApproved(Payload):
    type: ClassVar[str] = "auth.account.approved"
    account_id: UUID
    username: str


class AccountRejected(Payload):
    type: ClassVar[str] = "auth.account.rejected"
    account_id: UUID
    reason: str


class AccountDisabled(Payload):
    type: ClassVar[str] = "auth.account.disabled"
    account_id: UUID
    reason: str


class AccountEnabled(Payload):
    type: ClassVar[str] = "auth.account.enabled"
    account_id: UUID


class SshKeyAdded(Payload):
    """public_key: one authorized_keys line, `type base64 comment`."""

    type: ClassVar[str] = "auth.ssh_key.added"
    key_id: UUID
    account_id: UUID
    public_key: str


class SshKeyRemoved(Payload):
    type: ClassVar[str] = "auth.ssh_key.removed"
    key_id: UUID
    account_id: UUID


class OutsideSubscriberAdded(Payload):
    """A program outside the platform may read a queue of facts that fit these patterns."""

    type: ClassVar[str] = "auth.outside_subscriber.added"
    subscriber_id: UUID
    name: str
    patterns: list[str]


class OutsideSubscriberDismissed(Payload):
    type: ClassVar[str] = "auth.outside_subscriber.dismissed"
    subscriber_id: UUID
    name: str
