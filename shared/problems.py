"""Every error an API answers is an RFC 9457 problem in the caller's language."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from shared.errors import Conflict, DomainError, Invalid, NotFound, Unavailable
from shared.text import Language, Text, preferred_language

log = structlog.get_logger(__name__)

MEDIA_TYPE = "application/problem+json"
RETRY_AFTER_S = 2

_INVALID = Text("输入有误", "The input is not valid")
_INVALID_DETAIL = Text(
    "请按 errors 中的说明修改后重试。", "Correct the fields listed in errors and try again."
)
_INTERNAL = Text("平台内部错误", "Something went wrong on our side")
_INTERNAL_DETAIL = Text(
    "我们已记录此问题。请稍后重试；若仍出现，请把 request_id 告诉管理员。",
    "It has been recorded. Try again; if it persists, give the operator the request_id.",
)

_REFUSED = Text("请求被拒绝", "The request was refused")
_REFUSED_DETAIL = Text(
    "请对照接口说明检查方法、地址和内容。",
    "Check method, address and body against the API reference.",
)
_CONFLICT_DETAIL = Text(
    "对象当前的状态不允许此操作；请刷新后按其允许的操作重试。",
    "The object is not in a state for this. Look at it anew, and do what it allows.",
)

# pydantic's error types (its documented, stable names) → Chinese; English is pydantic's own.
_FIELD_MESSAGES_ZH = {
    "missing": "必填",
    "extra_forbidden": "不支持此字段",
    "string_too_short": "至少 {min_length} 个字符",
    "string_too_long": "最多 {max_length} 个字符",
    "string_pattern_mismatch": "格式不符，应匹配 {pattern}",
    "greater_than": "应大于 {gt}",
    "greater_than_equal": "应不小于 {ge}",
    "less_than": "应小于 {lt}",
    "less_than_equal": "应不大于 {le}",
    "int_parsing": "应为整数",
    "int_type": "应为整数",
    "int_from_float": "应为整数",
    "float_parsing": "应为数字",
    "decimal_parsing": "应为数字",
    "decimal_max_places": "最多 {decimal_places} 位小数",
    "decimal_max_digits": "最多 {max_digits} 位数字",
    "bool_parsing": "应为 true 或 false",
    "string_type": "应为字符串",
    "list_type": "应为列表",
    "dict_type": "应为对象",
    "model_attributes_type": "应为对象",
    "too_long": "最多 {max_length} 项",
    "too_short": "至少 {min_length} 项",
    "uuid_parsing": "应为 UUID",
    "uuid_type": "应为 UUID",
    "enum": "应为以下之一：{expected}",
    "literal_error": "应为以下之一：{expected}",
    "json_invalid": "不是有效的 JSON",
    "datetime_parsing": "应为 ISO 8601 时间",
}


def problem(
    status: int, code: str, title: str, detail: str, *, request: Request, **extras: Any
) -> JSONResponse:
    body = {
        "type": f"/problems/{code}",
        "title": title,
        "status": status,
        "detail": detail,
        "code": code,
        "instance": request.url.path,
        "request_id": getattr(request.state, "request_id", None),
        **extras,
    }
    headers = {"WWW-Authenticate": "Bearer"} if status == 401 else {}
    return JSONResponse(body, status, headers=headers, media_type=MEDIA_TYPE)


class Words(BaseModel):
    zh: str
    en: str

    @classmethod
    def of(cls, text: Text) -> "Words":
        return cls(zh=text.zh, en=text.en)


class ProblemKind(BaseModel):
    """One `type` that we send. detail: meaning and cure; `{name}` marks what each case fills in."""

    code: str
    status: int
    title: Words
    detail: Words


def problem_kinds() -> list[ProblemKind]:
    """Every kind that this process can answer, each code once: of classes that share one, the
    most general."""
    kinds: dict[str, ProblemKind] = {}
    missing = {Conflict: _CONFLICT_DETAIL, Invalid: _INVALID_DETAIL, DomainError: _REFUSED_DETAIL}

    def add(code: str, status: int, title: Text, detail: Text) -> None:
        kind = ProblemKind(code=code, status=status, title=Words.of(title), detail=Words.of(detail))
        kinds.setdefault(code, kind)

    for error in _error_classes():
        detail = error.detail
        if not detail.zh:
            detail = next(words for base, words in missing.items() if issubclass(error, base))
        add(error.code, error.status, error.title, detail)
    add("internal", 500, _INTERNAL, _INTERNAL_DETAIL)
    add("http_error", 400, _REFUSED, _REFUSED_DETAIL)
    return list(kinds.values())


def _error_classes() -> Iterator[type[DomainError]]:
    """The most general first."""
    level: list[type[DomainError]] = [DomainError]
    while level:
        yield from level
        level = [below for error in level for below in error.__subclasses__()]


def install_problem_handlers(app: FastAPI) -> None:
    app.add_exception_handler(DomainError, _domain_error)
    app.add_exception_handler(RequestValidationError, _validation_error)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(OSError, _database_away)
    app.add_exception_handler(Exception, _internal_error)


def _language(request: Request) -> Language:
    return preferred_language(request.headers.get("accept-language"))


async def _domain_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, DomainError)  # noqa: S101 - registered for this type only
    return refuse(request, error)


def refuse(request: Request, error: DomainError) -> JSONResponse:
    """The problem that tells this refusal to this caller."""
    language = _language(request)
    extras = {k: v for k, v in error.values.items() if _is_plain(v)}
    if error.field is not None:
        extras["field"] = error.field
    response = problem(
        error.status,
        error.code,
        error.render_title(language),
        error.render_detail(language),
        request=request,
        **extras,
    )
    if error.status in (429, 503):
        response.headers["Retry-After"] = str(error.values.get("wait_s", RETRY_AFTER_S))
    return response


def _is_plain(value: object) -> bool:
    if isinstance(value, list):
        return all(_is_plain(item) for item in value)
    return isinstance(value, str | int | float | bool) or value is None


async def _validation_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)  # noqa: S101 - registered for this type only
    language = _language(request)
    errors = [
        {"field": _field_name(item["loc"]), "message": _field_message(item, language)}
        for item in error.errors()
    ]
    return problem(
        422,
        "invalid",
        _INVALID.render(language),
        _INVALID_DETAIL.render(language),
        request=request,
        errors=errors,
        field=errors[0]["field"] if errors else None,
    )


def _field_name(location: Sequence[int | str]) -> str:
    return ".".join(str(part) for part in location[1:]) or str(location[0])


def _field_message(item: Mapping[str, Any], language: Language) -> str:
    chinese = _FIELD_MESSAGES_ZH.get(item["type"])
    if language == "zh" and chinese is not None:
        return chinese.format_map({k: str(v) for k, v in item.get("ctx", {}).items()})
    return str(item["msg"])


async def _http_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)  # noqa: S101 - registered for this type only
    language = _language(request)
    if error.status_code == 404:
        missing = NotFound()
        return problem(
            404,
            missing.code,
            missing.render_title(language),
            Text("没有这个地址。", "There is nothing at this address.").render(language),
            request=request,
        )
    response = problem(error.status_code, "http_error", str(error.detail), "", request=request)
    response.headers.update(error.headers or {})
    return response


async def _database_away(request: Request, error: Exception) -> JSONResponse:
    log.error("dependency_away", error=repr(error), path=request.url.path)
    away = Unavailable()
    language = _language(request)
    response = problem(
        503, away.code, away.render_title(language), away.render_detail(language), request=request
    )
    response.headers["Retry-After"] = str(RETRY_AFTER_S)
    return response


async def _internal_error(request: Request, error: Exception) -> JSONResponse:
    log.exception("unhandled_error", path=request.url.path, exc_info=error)
    language = _language(request)
    return problem(
        500,
        "internal",
        _INTERNAL.render(language),
        _INTERNAL_DETAIL.render(language),
        request=request,
    )
