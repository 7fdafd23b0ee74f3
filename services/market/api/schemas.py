"""What the market reads and answers. Money is in 元 with four decimals."""

from datetime import datetime
from decimal import Decimal
from typing import Annotated, Generic, Literal, Self, TypeVar
from uuid import UUID

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints

from services.market.authorising import Authorised, Start
from services.market.crediting import Booked
from services.market.domain.metering import UNIT
from services.market.domain.offer import OfferStatus
from services.market.domain.wallet import available
from services.market.models import Wallet
from services.market.offering import Options
from services.market.pricing import ModelPrice
from services.market.reading import Bill
from services.market.repository.hosts import PricedHost
from services.market.repository.wallets import Movement
from shared.events.scheduler import Mode
from shared.text import Language, Text

BANNER = Text("严禁挖矿，一经发现封号", "Mining is forbidden: it ends the account")

# No control character; the database takes no NUL.
LINE = r"^[^\x00-\x1f\x7f]*$"

Note = Annotated[str, StringConstraints(max_length=200, pattern=LINE, strip_whitespace=True)]
Amount = Annotated[Decimal, Field(gt=0, le=1_000_000, decimal_places=4)]
HourPrice = Annotated[Decimal, Field(ge=Decimal("0.01"), le=100_000, decimal_places=4)]
Money = Annotated[Decimal, BeforeValidator(lambda value: Decimal(value).quantize(UNIT))]

N = TypeVar("N", int, Decimal)


class _Input(BaseModel):
    model_config = ConfigDict(extra="forbid")


class NewAuthorisation(_Input):
    """gpu_count: the wanted cards; on record, not paid, in no-card mode."""

    id: UUID
    instance_id: UUID
    node_id: UUID
    gpu_count: Annotated[int, Field(ge=1, le=64, strict=True)]
    mode: Mode

    def start(self) -> Start:
        return Start(self.id, self.instance_id, self.node_id, self.gpu_count, self.mode)


class NewCredit(_Input):
    """amount: 元. note: shown in the wallet."""

    amount: Amount
    note: Note = ""


class NewCorrection(_Input):
    """transaction_id: of the original, as the wallet's entries list it."""

    transaction_id: UUID
    note: Note = ""


class PriceWish(_Input):
    """no_card_price_per_hour: of a whole instance; left out for the platform's default."""

    list_price_per_hour: HourPrice
    price_per_hour: HourPrice
    no_card_price_per_hour: HourPrice | None = None


class AuthorisationView(BaseModel):
    """price_per_hour: of the whole instance. hold: what a start holds of the wallet.
    paid_until: how far the money reaches for all that runs and for this start; None where nothing
    costs anything."""

    id: UUID
    price_per_hour: Money
    hold: Money
    expires_at: datetime
    paid_until: datetime | None

    @classmethod
    def of(cls, answer: Authorised) -> Self:
        made = answer.authorisation
        return cls(
            paid_until=answer.paid_until,
            id=made.id,
            price_per_hour=made.price_per_hour,
            hold=made.price_per_hour,
            expires_at=made.expires_at,
        )


class OfferView(BaseModel):
    """id: of the host. Prices are of one card and hour; no_card_price_per_hour of an instance."""

    id: UUID
    name: str
    region: str
    simulated: bool
    gpu_model: str
    gpu_memory_gb: int
    gpu_free: int
    gpu_total: int
    cpu_model: str
    cpu_cores: float
    cpu_cores_per_gpu: float
    memory_gb: int
    memory_gb_per_gpu: int
    disk_gb: int
    driver_version: str
    max_cuda: str
    tflops: float
    list_price_per_hour: Money
    price_per_hour: Money
    no_card_price_per_hour: Money
    status: OfferStatus

    @classmethod
    def of(cls, priced: PricedHost) -> Self:
        host = priced.host
        cards = max(1, host.gpu_total)
        derived = {
            "cpu_cores_per_gpu": round(host.cpu_cores / cards, 1),
            "memory_gb_per_gpu": host.memory_gb // cards,
            "list_price_per_hour": priced.price.listed,
            "price_per_hour": priced.price.card,
            "no_card_price_per_hour": priced.price.no_card,
            "status": priced.status,
        }
        plain = {n: getattr(host, n) for n in cls.model_fields if n not in derived}
        return cls.model_validate({**plain, **derived})


class ModelView(BaseModel):
    model: str
    free: int
    total: int


class RangeView(BaseModel, Generic[N]):
    min: N
    max: N

    @classmethod
    def of(cls, pair: tuple[N, N] | None) -> Self | None:
        return None if pair is None else cls(min=pair[0], max=pair[1])


class OptionsView(BaseModel):
    """What the filters offer; the ranges are null while there is no host."""

    banner: str
    regions: list[str]
    gpu_models: list[ModelView]
    gpu_count: RangeView[int] | None
    gpu_memory_gb: RangeView[int] | None
    price_per_hour: RangeView[Decimal] | None

    @classmethod
    def of(cls, options: Options, language: Language) -> Self:
        return cls(
            banner=BANNER.render(language),
            regions=options.regions,
            gpu_models=[
                ModelView(model=m.model, free=m.free, total=m.total) for m in options.models
            ],
            gpu_count=RangeView[int].of(options.gpu_count),
            gpu_memory_gb=RangeView[int].of(options.gpu_memory_gb),
            price_per_hour=RangeView[Decimal].of(options.price_per_hour),
        )


class WalletView(BaseModel):
    """available = balance − held, at least 0: what a new start may use."""

    account_id: UUID
    balance: Money
    held: Money
    available: Money

    @classmethod
    def of(cls, wallet: Wallet) -> Self:
        return cls(
            account_id=wallet.account_id,
            balance=wallet.balance,
            held=wallet.held,
            available=available(wallet.balance, wallet.held),
        )


class EntryView(BaseModel):
    """id: of the transaction. amount: signed. corrects_id: the transaction it corrects."""

    id: UUID
    at: datetime
    kind: Literal["credit", "usage", "correction"]
    amount: Money
    balance_after: Money
    note: str
    authorisation_id: UUID | None
    corrects_id: UUID | None

    @classmethod
    def of(cls, movement: Movement) -> Self:
        transaction = movement.transaction
        fields = ("id", "at", "kind", "note", "authorisation_id", "corrects_id")
        return cls.model_validate(
            {name: getattr(transaction, name) for name in fields}
            | {"amount": movement.amount, "balance_after": movement.balance_after}
        )


class BookedView(BaseModel):
    """id: of the transaction. amount: as the wallet got it."""

    id: UUID
    at: datetime
    amount: Money
    note: str
    wallet: WalletView

    @classmethod
    def of(cls, booked: Booked) -> Self:
        return cls(
            id=booked.transaction.id,
            at=booked.transaction.at,
            amount=booked.amount,
            note=booked.transaction.note,
            wallet=WalletView.of(booked.wallet),
        )


class BillView(BaseModel):
    """id: of the authorisation. settled: false while it runs; then seconds and amount are what is
    proven so far."""

    id: UUID
    instance_id: UUID
    mode: Mode
    gpu_count: int
    node_name: str
    gpu_model: str
    started_at: datetime
    ended_at: datetime | None
    seconds: int
    price_per_hour: Money
    amount: Money
    settled: bool

    @classmethod
    def of(cls, bill: Bill) -> Self:
        row = bill.authorisation
        fields = ("id", "instance_id", "mode", "gpu_count", "node_name", "gpu_model")
        return cls.model_validate(
            {name: getattr(row, name) for name in fields}
            | {
                "started_at": bill.started_at,
                "ended_at": row.stopped_at,
                "seconds": bill.seconds,
                "price_per_hour": row.price_per_hour,
                "amount": bill.amount,
                "settled": bill.settled,
            }
        )


class PriceView(BaseModel):
    """is_default: from the platform's settings, nobody has set it."""

    model: str
    list_price_per_hour: Money
    price_per_hour: Money
    no_card_price_per_hour: Money
    is_default: bool

    @classmethod
    def of(cls, priced: ModelPrice) -> Self:
        return cls(
            model=priced.model,
            list_price_per_hour=priced.price.listed,
            price_per_hour=priced.price.card,
            no_card_price_per_hour=priced.price.no_card,
            is_default=priced.is_default,
        )
