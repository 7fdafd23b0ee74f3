"""Who may call a route. Every route states one policy; an app with a silent route does not start.

    @router.get("/wallet", **policy(Policy.ACTIVE))
    async def show_wallet(caller: Caller, session: Session) -> WalletView: ...

The policy is also written into the OpenAPI document (`x-policy`), where tests read it.
"""

from collections.abc import Awaitable, Callable
from enum import StrEnum
from typing import Annotated, Any, TypedDict

from fastapi import Depends, FastAPI, Request
from fastapi.params import Depends as DependsMarker
from fastapi.routing import APIRoute

from shared.errors import Forbidden, Unauthenticated
from shared.text import Text
from shared.tokens import AccountStatus, Principal, Role, Verifier


class Policy(StrEnum):
    PUBLIC = "public"
    ANY_ACCOUNT = "any_account"  # also pending, rejected: they see their state and browse
    ACTIVE = "active"  # approved people
    OPERATOR = "operator"
    SERVICE = "service"  # other parts of the platform; never routed by the gateway


class AwaitingApproval(Forbidden):
    code = "awaiting_approval"
    title = Text("账号尚未通过审核", "Your account is not approved yet")
    detail = Text(
        "账号状态为“{account_status}”，通过审核后才能使用此功能。",
        "Your account is {account_status}. This opens once an operator has approved it.",
    )


class _RouteOptions(TypedDict):
    dependencies: list[DependsMarker]
    openapi_extra: dict[str, Any]


async def get_caller(request: Request) -> Principal:
    """The verified bearer token's account. Raises Unauthenticated."""
    known: Principal | None = getattr(request.state, "caller", None)
    if known is not None:
        return known
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token:
        raise Unauthenticated
    verifier: Verifier = request.app.state.verifier
    caller = await verifier.verify(token)
    request.state.caller = caller
    return caller


Caller = Annotated[Principal, Depends(get_caller)]

_STATUS_WORDS = {
    AccountStatus.pending: Text("待审核", "pending"),
    AccountStatus.rejected: Text("已驳回", "rejected"),
    AccountStatus.disabled: Text("已停用", "disabled"),
}


async def _any_account(caller: Caller) -> None:
    if caller.role is Role.service or caller.status is AccountStatus.disabled:
        raise Forbidden


async def _active(caller: Caller) -> None:
    await _any_account(caller)
    if caller.status is not AccountStatus.active:
        raise AwaitingApproval(account_status=_STATUS_WORDS[caller.status])


async def _operator(caller: Caller) -> None:
    await _active(caller)
    if caller.role is not Role.operator:
        raise Forbidden


async def _service(caller: Caller) -> None:
    if caller.role is not Role.service:
        raise Forbidden


async def _public() -> None:
    return None


_CHECKS: dict[Policy, Callable[..., Awaitable[None]]] = {
    Policy.PUBLIC: _public,
    Policy.ANY_ACCOUNT: _any_account,
    Policy.ACTIVE: _active,
    Policy.OPERATOR: _operator,
    Policy.SERVICE: _service,
}


def policy(who: Policy) -> _RouteOptions:
    extra: dict[str, Any] = {"x-policy": who.value}
    if who is not Policy.PUBLIC:
        extra["security"] = [{"bearer": []}]
    return {"dependencies": [Depends(_CHECKS[who])], "openapi_extra": extra}


class RouteWithoutPolicy(Exception):
    pass


def check_policies(app: FastAPI) -> None:
    """Raises RouteWithoutPolicy when any route of ours forgot to say who may call it."""
    for route in app.routes:
        if isinstance(route, APIRoute) and "x-policy" not in (route.openapi_extra or {}):
            raise RouteWithoutPolicy(f"{sorted(route.methods or ())} {route.path}")
