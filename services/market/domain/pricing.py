"""What a card costs, and what a whole instance costs."""

from dataclasses import dataclass
from decimal import Decimal
from typing import Literal, assert_never


@dataclass(frozen=True, slots=True)
class Price:
    """In 元 an hour. listed: before the reduction. card: one card. no_card: a whole instance in
    no-card mode."""

    listed: Decimal
    card: Decimal
    no_card: Decimal


def instance_price(price: Price, mode: Literal["gpu", "cpu"], gpu_count: int) -> Decimal:
    """The wanted cards stay on record in no-card mode and cost nothing there."""
    match mode:
        case "gpu":
            return price.card * gpu_count
        case "cpu":
            return price.no_card
        case _:
            assert_never(mode)
