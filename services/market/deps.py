"""What routes are given."""

from typing import Annotated

from fastapi import Depends, Request

from services.market.tools import Tools
from shared.text import Language, preferred_language


def _tools(request: Request) -> Tools:
    tools: Tools = request.app.state.tools
    return tools


def _language(request: Request) -> Language:
    return preferred_language(request.headers.get("accept-language"))


ToolsDep = Annotated[Tools, Depends(_tools)]
LanguageDep = Annotated[Language, Depends(_language)]
