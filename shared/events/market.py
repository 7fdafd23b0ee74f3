"""Facts that market tells."""

from typing import ClassVar
from uuid import UUID

from shared.events.envelope import Payload


class WalletExhausted(Payload):
    """The account can pay for nothing more: its running instances must stop."""

    type: ClassVar[str] = "market.wallet.exhausted"
    account_id: UUID
