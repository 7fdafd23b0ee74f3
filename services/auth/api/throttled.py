"""429 with Retry-After (RFC 6585): the shared problem handler sends no such header."""

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse

from services.auth.errors import TooManyAttempts
from shared.problems import problem
from shared.text import preferred_language


def install_throttled_handler(app: FastAPI) -> None:
    app.add_exception_handler(TooManyAttempts, _too_many)


async def _too_many(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, TooManyAttempts)  # noqa: S101 - registered for this type only
    language = preferred_language(request.headers.get("accept-language"))
    retry_after_s = error.values["retry_after_s"]
    response = problem(
        error.status,
        error.code,
        error.render_title(language),
        error.render_detail(language),
        request=request,
        retry_after_s=retry_after_s,
    )
    response.headers["Retry-After"] = str(retry_after_s)
    return response
