"""What routes are given."""

from ipaddress import ip_address
from typing import Annotated

from fastapi import Depends, Request

from services.scheduler.tools import Tools


def _tools(request: Request) -> Tools:
    tools: Tools = request.app.state.tools
    return tools


def _address(request: Request) -> str:
    """The client's, as the gateway wrote it: the last entry of X-Forwarded-For. Earlier entries
    are the client's own words. Behind a Unix socket there is no other source."""
    forwarded = request.headers.get("x-forwarded-for", "").rpartition(",")[2].strip()
    peer = request.client.host if request.client else ""
    for candidate in (forwarded, peer):
        try:
            return str(ip_address(candidate))
        except ValueError:
            continue
    return "unknown"


ToolsDep = Annotated[Tools, Depends(_tools)]
ClientAddress = Annotated[str, Depends(_address)]
