"""What the gateway itself refuses."""

from shared.errors import DomainError
from shared.text import Text


class NoSuchAddress(DomainError):
    code = "not_found"
    status = 404
    title = Text("没有找到", "Not found")
    detail = Text(
        "没有这个地址；接口列表见 /api/docs。",
        "There is nothing at this address; /api/docs lists the calls.",
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
