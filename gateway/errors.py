"""What the gateway itself refuses.

DomainError
├── NotFound         NoSuchAddress, NoSuchApp, NoSuchProblem
├── Conflict         InstanceNotRunning
├── Forbidden        ForeignPage
├── Unauthenticated  AppNotOpened
├── TooManyRequests, RequestTooLarge
└── AppNotAnswering
"""

from shared.errors import Conflict, DomainError, Forbidden, NotFound, Unauthenticated
from shared.text import Text


class NoSuchAddress(NotFound):
    detail = Text(
        "没有这个地址；接口列表见 /api/docs。",
        "There is nothing at this address; /api/docs lists the calls.",
    )


class NoSuchProblem(NotFound):
    detail = Text(
        "平台没有这种错误；请检查地址。", "The platform knows no such problem. Check the address."
    )


class TooManyRequests(DomainError):
    code = "too_many_requests"
    status = 429
    title = Text("请求过于频繁", "Too many requests")
    detail = Text("请在 {wait_s} 秒后重试。", "Try again in {wait_s} seconds.")


class RequestTooLarge(DomainError):
    code = "request_too_large"
    status = 413
    title = Text("请求内容过大", "The request body is too large")
    detail = Text(
        "此接口最多接受 {most_bytes} 字节；文件请用 PUT /api/v1/files/content 上传。",
        "At most {most_bytes} bytes here; upload files with PUT /api/v1/files/content.",
    )


class NoSuchApp(NotFound):
    code = "app_not_found"
    title = Text("镜像中没有该应用", "The image brings no such app")
    detail = Text(
        "该实例的应用：{has}。请选择其中之一，或换一个镜像。",
        "The apps of this instance: {has}. Choose one of them, or another image.",
    )


class InstanceNotRunning(Conflict):
    code = "instance_not_running"
    title = Text("实例未在运行", "The instance is not running")
    detail = Text(
        "请先开机，待状态为“运行中”后再打开应用。",
        "Start it first, and open the app once it is running.",
    )


class AppNotOpened(Unauthenticated):
    code = "app_not_opened"
    title = Text("请从控制台打开此应用", "Open this app from the console")
    detail = Text(
        "链接只能使用一次，一分钟内有效。请在控制台的实例列表中点击该应用，"
        "或运行 chusuan open 实例名 获取新链接。",
        "A link works once, within a minute. Choose the app in the console's list of instances, "
        "or run `chusuan open INSTANCE` for a new link.",
    )


class ForeignPage(Forbidden):
    code = "foreign_page"
    title = Text("请求来自其他网站", "This came from another site")
    detail = Text(
        "为保护您的实例，其他网站不能代您操作它。请从控制台打开应用。",
        "Other sites may not act on your instance. Open the app from the console.",
    )


class AppNotAnswering(DomainError):
    code = "app_not_answering"
    status = 502
    title = Text("应用正在启动", "The app is starting")
    detail = Text(
        "它还没有响应。本页会自动刷新；若一分钟后仍未打开，请重启实例。",
        "It does not answer yet. This page refreshes itself; restart the instance if it is still "
        "not open after a minute.",
    )
