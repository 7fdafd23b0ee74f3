"""What routes are given."""

from typing import Annotated

from fastapi import Depends, Request

from services.scheduler.tools import Tools


def _tools(request: Request) -> Tools:
    tools: Tools = request.app.state.tools
    return tools


ToolsDep = Annotated[Tools, Depends(_tools)]
