"""Refusals of the image centre.

DomainError
└── Conflict   ImageNameTaken, ImageIdTaken, ImageLocked
"""

from shared.errors import Conflict
from shared.text import Text


class ImageNameTaken(Conflict):
    code = "image_name_taken"
    title = Text("镜像名称已被使用", "You have an image of this name")
    detail = Text(
        "您已有名为“{name}”的镜像。请换一个名称，或先删除旧镜像。",
        "You already have an image called {name}. Choose another name, or delete the old one.",
    )


class ImageIdTaken(Conflict):
    code = "image_id_taken"
    title = Text("镜像编号已被使用", "The image id is taken")
    detail = Text(
        "此 image_id 已用于另一个镜像，请换一个新编号。",
        "This image_id belongs to another image. Make a new one.",
    )


class ImageLocked(Conflict):
    code = "image_locked"
    title = Text("镜像已锁定", "The image is locked")
    detail = Text("请先解除锁定，再删除镜像。", "Unlock it first, then delete it.")
