"""What storage refuses, and the cure."""

from shared.errors import Conflict, DomainError, Forbidden, Invalid, NotFound
from shared.text import Text


class BadPath(Invalid):
    code = "bad_path"
    detail = Text(
        "路径须以 / 开头，不含 . 或 .. 或空名称，每级不超过 255 字节。",
        "A path starts with /, has no . or .. or empty names, and at most 255 bytes a name.",
    )


class NoSuchFile(NotFound):
    code = "no_such_file"
    detail = Text("网盘中没有 {path}。", "There is no {path} on the net disk.")


class LeadsOutside(Forbidden):
    code = "leads_outside"
    title = Text("链接指向网盘之外", "A link leads out of the net disk")
    detail = Text(
        "{path} 经过指向网盘之外的链接，请直接使用目标文件。",
        "{path} passes a link that leads out of the net disk. Use the file itself.",
    )


class WrongKind(Conflict):
    code = "wrong_kind"
    title = Text("类型不符", "Not the right kind")
    detail = Text(
        "{path} 不是此操作所需的文件或文件夹。",
        "{path} is not the file or folder that this needs.",
    )


class AlreadyThere(Conflict):
    code = "already_there"
    title = Text("已存在", "Already there")
    detail = Text(
        "{path} 已存在；覆盖请加 overwrite=true，或换一个名称。",
        "{path} is already there. Pass overwrite=true to replace it, or choose another name.",
    )


class NotEmpty(Conflict):
    code = "not_empty"
    title = Text("文件夹非空", "The folder is not empty")
    detail = Text("{path} 中还有内容，请先清空。", "{path} has something in it. Empty it first.")


class IntoItself(Conflict):
    code = "into_itself"
    title = Text("不能移入自身", "Not into itself")
    detail = Text("不能把文件夹移到它自己里面。", "A folder cannot move into itself.")


class InsufficientQuota(DomainError):
    code = "insufficient_quota"
    status = 507
    title = Text("网盘空间不足", "Not enough room on the net disk")
    detail = Text(
        "已用 {used_bytes} 字节，配额 {quota_bytes} 字节。请删除文件或申请扩容。",
        "{used_bytes} of {quota_bytes} bytes are used. Delete files or ask for more room.",
    )


class TooManyFiles(DomainError):
    code = "too_many_files"
    status = 507
    title = Text("网盘文件数已达上限", "Too many files on the net disk")
    detail = Text(
        "最多 {quota_files} 个文件和文件夹。请删除一些，或打包后上传。",
        "At most {quota_files} files and folders. Delete some, or upload an archive.",
    )


class DiskFull(DomainError):
    code = "disk_full"
    status = 507
    title = Text("平台存储已满", "The platform's storage is full")
    detail = Text(
        "未写入任何内容。请联系管理员后重试。",
        "Nothing was written. Tell the operator, then retry.",
    )


class RangeNotSatisfiable(DomainError):
    code = "range_not_satisfiable"
    status = 416
    title = Text("请求的范围不存在", "There is no such range")
    detail = Text("文件长 {size_bytes} 字节。", "The file has {size_bytes} bytes.")
