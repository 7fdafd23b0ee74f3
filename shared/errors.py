"""Refusals that the domain raises and the edge turns into RFC 9457 problems.

    DomainError                     the caller can do something about it
    ├── NotFound            404     it is not there, or not yours
    ├── Conflict            409     it is there, but not in a state for this
    ├── Forbidden           403     you may not
    ├── Unauthenticated     401     we do not know you
    ├── Invalid             422     a field is wrong; `field` names it
    └── Unavailable         503     a part of the platform is away; try again

A room subclasses these in its `errors.py`. `detail` names the cure.
"""

from typing import ClassVar

from shared.text import Language, Text


class DomainError(Exception):
    """Raised with the values that its sentences need.

    code: stable name, also the last part of the problem `type`.
    field: the offending field of the request, where there is one.
    """

    code: ClassVar[str] = "error"
    status: ClassVar[int] = 400
    title: ClassVar[Text] = Text("请求无法完成", "The request cannot be done")
    detail: ClassVar[Text] = Text("", "")

    def __init__(self, *, field: str | None = None, **values: object) -> None:
        super().__init__(self.code)
        self.field = field
        self.values = values

    def render_title(self, language: Language) -> str:
        return self.title.render(language)

    def render_detail(self, language: Language) -> str:
        return self.detail.render(language, **self.values)

    def __str__(self) -> str:
        return f"{self.code}: {self.render_detail('en')}"


class NotFound(DomainError):
    code = "not_found"
    status = 404
    title = Text("没有找到", "Not found")
    detail = Text(
        "它不存在，或者不属于您。请检查编号。", "It does not exist or is not yours. Check the id."
    )


class Conflict(DomainError):
    code = "conflict"
    status = 409
    title = Text("当前状态不允许", "Not possible in its present state")


class Forbidden(DomainError):
    code = "forbidden"
    status = 403
    title = Text("没有权限", "Not allowed")
    detail = Text("您的账号没有此操作的权限。", "Your account may not do this.")


class Unauthenticated(DomainError):
    code = "unauthenticated"
    status = 401
    title = Text("请先登录", "Please log in")
    detail = Text(
        "令牌缺失、无效或已过期，请重新登录。",
        "The token is missing, invalid or expired. Log in again.",
    )


class Invalid(DomainError):
    code = "invalid"
    status = 422
    title = Text("输入有误", "The input is not valid")


class Unavailable(DomainError):
    code = "unavailable"
    status = 503
    title = Text("服务暂时不可用", "Temporarily unavailable")
    detail = Text(
        "平台的一部分暂时没有响应，请稍后重试。",
        "A part of the platform does not answer right now. Try again shortly.",
    )
