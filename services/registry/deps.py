"""What routes are given."""

from typing import Annotated

from fastapi import Depends, Query, Request
from pydantic import StringConstraints

from services.registry.domain.filters import Filters, Tab
from services.registry.domain.states import State
from services.registry.tools import Tools

# The database takes no NUL.
_Words = Annotated[str, StringConstraints(max_length=100, pattern=r"^[^\x00-\x1f\x7f]*$")]
Narrow = Annotated[_Words | None, Query()]


def _tools(request: Request) -> Tools:
    tools: Tools = request.app.state.tools
    return tools


def _filters(
    tab: Tab | None = None,
    name: Narrow = None,
    framework: Narrow = None,
    python: Narrow = None,
    cuda: Narrow = None,
    status: State | None = None,
) -> Filters:
    return Filters(tab=tab, name=name, framework=framework, python=python, cuda=cuda, status=status)


ToolsDep = Annotated[Tools, Depends(_tools)]
FiltersDep = Annotated[Filters, Depends(_filters)]
