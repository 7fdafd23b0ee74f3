"""A route that does not say who may call it keeps the app from starting."""

import pytest
from fastapi import APIRouter, FastAPI
from httpx import ASGITransport, AsyncClient

from shared.policy import Policy, RouteWithoutPolicy, check_policies, policy
from shared.problems import install_problem_handlers
from shared.tokens import AccountStatus, Role, Verifier
from tests.identity import TestIdentity


def test_a_silent_route_is_refused() -> None:
    app = FastAPI()

    @app.get("/silent")
    async def silent() -> None: ...

    with pytest.raises(RouteWithoutPolicy, match="/silent"):
        check_policies(app)


ALLOWED = {
    Policy.PUBLIC: {"none", "pending", "disabled", "active", "operator", "service"},
    Policy.ANY_ACCOUNT: {"pending", "active", "operator"},
    Policy.ACTIVE: {"active", "operator"},
    Policy.OPERATOR: {"operator"},
    Policy.SERVICE: {"service"},
}


@pytest.mark.parametrize("who", list(Policy))
async def test_each_policy_admits_exactly_its_callers(who: Policy) -> None:
    identity = TestIdentity()
    router = APIRouter()

    @router.get("/door", **policy(who))
    async def door() -> None: ...

    app = FastAPI()
    app.include_router(router)
    install_problem_handlers(app)
    app.state.verifier = Verifier(identity)
    callers = {
        "none": {},
        "pending": identity.headers(status=AccountStatus.pending),
        "disabled": identity.headers(status=AccountStatus.disabled),
        "active": identity.headers(),
        "operator": identity.headers(role=Role.operator),
        "service": identity.headers(role=Role.service),
    }
    admitted = set()
    async with AsyncClient(transport=ASGITransport(app), base_url="http://t") as http:
        for name, headers in callers.items():
            if (await http.get("/door", headers=headers)).is_success:
                admitted.add(name)
    assert admitted == ALLOWED[who]
