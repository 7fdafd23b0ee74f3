"""Facts that market tells."""

from datetime import datetime
from decimal import Decimal
from typing import ClassVar
from uuid import UUID

from shared.events.envelope import Payload


class WalletExhausted(Payload):
    """The account can pay for nothing more: its running instances must stop."""

    type: ClassVar[str] = "market.wallet.exhausted"
    account_id: UUID


class WalletReaches(Payload):
    """Until when the account's money pays for all that it runs now. Told again when that changes
    by more than a tenth of the time left, and every hour while something runs."""

    type: ClassVar[str] = "market.wallet.reaches"
    account_id: UUID
    paid_until: datetime


class WalletCredited(Payload):
    """An operator put money in. amount: 元. by: the operator."""

    type: ClassVar[str] = "market.wallet.credited"
    account_id: UUID
    transaction_id: UUID
    amount: Decimal
    note: str
    by: UUID


class WalletCorrected(Payload):
    """An operator took back what an earlier transaction did. amount: 元, signed, as the wallet
    got it."""

    type: ClassVar[str] = "market.wallet.corrected"
    account_id: UUID
    transaction_id: UUID
    corrects_id: UUID
    amount: Decimal
    note: str
    by: UUID


class PriceChanged(Payload):
    """What new starts on this model cost from now on, 元 an hour; running ones keep their price.
    no_card_price_per_hour: None where the platform's default holds."""

    type: ClassVar[str] = "market.price.changed"
    model: str
    list_price_per_hour: Decimal
    price_per_hour: Decimal
    no_card_price_per_hour: Decimal | None
    by: UUID
