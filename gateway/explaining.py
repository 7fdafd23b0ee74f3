"""`GET /problems/{code}`: what an error means and what to do, for every `type` we send."""

import asyncio
import re
import time
from collections.abc import Mapping, Sequence
from typing import Annotated

import structlog
from fastapi import APIRouter, Path, Request
from fastapi.responses import HTMLResponse
from pydantic import TypeAdapter, ValidationError

from gateway.errors import NoSuchProblem
from gateway.pages import Said, page
from gateway.proxy import Proxy, UpstreamAway
from shared.errors import Unavailable
from shared.policy import Policy, policy
from shared.problems import ProblemKind, problem_kinds
from shared.text import preferred_language

log = structlog.get_logger(__name__)

router = APIRouter(include_in_schema=False)

FRESH_S = 60.0
_KINDS = TypeAdapter(list[ProblemKind])
_BLANK = re.compile(r"\{[^{}]*\}")


class Explanations:
    """The services' own lists, joined; `app.state.explanations`."""

    def __init__(self, proxy: Proxy, services: Sequence[str]) -> None:
        self._proxy = proxy
        self._services = services
        self._known: Mapping[str, ProblemKind] = {}
        self._fresh_until = 0.0

    async def find(self, code: str) -> ProblemKind:
        """Raises NoSuchProblem; Unavailable when a service that may know it is away."""
        complete = time.monotonic() < self._fresh_until or await self._ask_all()
        if code not in self._known:
            raise NoSuchProblem if complete else Unavailable
        return self._known[code]

    async def _ask_all(self) -> bool:
        lists = await asyncio.gather(*(self._ask(service) for service in self._services))
        known = {kind.code: kind for kind in problem_kinds()}
        for kinds in lists:
            for kind in kinds or ():
                known.setdefault(kind.code, kind)
        self._known = {**self._known, **known}
        complete = None not in lists
        if complete:
            self._fresh_until = time.monotonic() + FRESH_S
        return complete

    async def _ask(self, service: str) -> list[ProblemKind] | None:
        try:
            status, document = await self._proxy.get_json(service, "/problems.json")
            return _KINDS.validate_python(document) if status == 200 else None
        except (UpstreamAway, ValidationError) as error:
            log.warning("problems_unknown", service=service, error=repr(error))
            return None


@router.get("/problems/{code}", **policy(Policy.PUBLIC))
async def explain(code: Annotated[str, Path(max_length=64)], request: Request) -> HTMLResponse:
    explanations: Explanations = request.app.state.explanations
    kind = await explanations.find(code)
    language = preferred_language(request.headers.get("accept-language"))
    title = kind.title.zh if language == "zh" else kind.title.en
    detail = kind.detail.zh if language == "zh" else kind.detail.en
    # Values are known where the error happened, not here.
    said = Said(title, (_BLANK.sub("…", detail),), note=f"{kind.status} {kind.code}")
    return page(said, language)
