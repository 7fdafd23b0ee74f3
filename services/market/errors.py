"""Refusals of the market.

DomainError
├── InsufficientBalance  402
├── NotFound   UnknownHost, UnknownWallet, UnknownTransaction
├── Conflict   HostNotOffered, AuthorisationReused, NotCorrectable
└── Invalid    ListPriceTooLow
"""

from shared.errors import Conflict, DomainError, Invalid, NotFound
from shared.text import Text


class InsufficientBalance(DomainError):
    code = "insufficient_balance"
    status = 402
    title = Text("余额不足", "Not enough money in your wallet")
    detail = Text(
        "开机需要冻结一小时费用 {needed} 元，您的可用余额为 {available} 元。"
        "请联系管理员充值，或减少 GPU 数量、选择更便宜的主机、以无卡模式开机。",
        "A start holds one hour's price, {needed} CNY, and {available} CNY is available. Have an "
        "operator top up your wallet, or take fewer GPUs, a cheaper host or no-card mode.",
    )


class UnknownHost(NotFound):
    code = "offer_not_found"
    title = Text("没有这台主机", "There is no such host")
    detail = Text("请在算力市场重新选择主机。", "Choose a host in the market again.")


class UnknownWallet(NotFound):
    code = "wallet_not_found"
    title = Text("没有这个钱包", "There is no such wallet")
    detail = Text(
        "钱包在账号通过审核后建立。请检查账号编号；刚通过审核的账号请稍后再试。",
        "A wallet is made when an account is approved. Check the account's id; if it was approved "
        "a moment ago, try again shortly.",
    )


class UnknownTransaction(NotFound):
    code = "transaction_not_found"
    title = Text("没有这笔流水", "There is no such transaction")
    detail = Text(
        "请从该钱包的流水中选择编号。", "Take the id from the entries of this very wallet."
    )


class HostNotOffered(Conflict):
    code = "host_not_offered"
    title = Text("主机暂不出租", "The host is not offered right now")
    detail = Text(
        "主机失联。请等其恢复，或选择另一台主机。",
        "The host is not answering. Wait until it is back, or choose another host.",
    )


class AuthorisationReused(Conflict):
    code = "authorisation_reused"
    title = Text("授权编号已被使用", "The authorisation's id is taken")
    detail = Text(
        "此编号属于另一次开机，请换一个新编号。", "This id belongs to another start. Make a new id."
    )


class NotCorrectable(Conflict):
    code = "not_correctable"
    title = Text("此流水不能更正", "This transaction cannot be corrected")
    detail = Text(
        "它本身是更正，或已全部更正。如需改动请另行充值。",
        "It is a correction itself, or has been corrected in full. Credit the wallet instead.",
    )


class ListPriceTooLow(Invalid):
    code = "list_price_too_low"
    title = Text("原价低于现价", "The list price is below the price")
    detail = Text(
        "原价应不低于现价 {price} 元/时。", "The list price is at least the price, {price} an hour."
    )
