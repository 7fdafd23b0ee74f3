"""Refusals of the scheduler.

DomainError
├── NotFound   OfferNotFound
├── Conflict   IllegalMove, GpusTaken, HostSilent, ImageNotReady, ImageTooNew, NoPortsLeft
└── Invalid    TooManyGpus
"""

from services.scheduler.domain.states import MOVES, WORDS, Move, State
from shared.errors import Conflict, Invalid, NotFound
from shared.text import Text


class OfferNotFound(NotFound):
    code = "offer_not_found"
    title = Text("没有这台主机", "There is no such host")
    detail = Text("请在算力市场重新选择主机。", "Choose a host in the market again.")


class IllegalMove(Conflict):
    code = "illegal_transition"
    detail = Text(
        "实例{words}，不能执行 {move}；可执行：{possible}。",
        "The instance is {words}, so {move} is not possible; possible: {possible}.",
    )

    def __init__(self, state: State, move: Move) -> None:
        allowed = [m.value for m in MOVES[state]]
        super().__init__(
            state=state.value,
            words=WORDS[state],
            move=move.value,
            allowed=allowed,
            possible=", ".join(allowed) or "-",
        )


class GpusTaken(Conflict):
    code = "gpus_taken"
    title = Text("GPU 已被占用", "The GPUs are taken")
    detail = Text(
        "{reason}。可稍后再试，或以无卡模式开机。",
        "{reason}. Try again later, or start without GPU.",
    )


class HostSilent(Conflict):
    code = "host_silent"
    title = Text("主机暂时失联", "The host is not answering")
    detail = Text(
        "主机恢复后即可操作；急用请选择另一台主机。",
        "It works again once the host is back; choose another host if you cannot wait.",
    )


class ImageNotReady(Conflict):
    code = "image_not_ready"
    title = Text("镜像尚不可用", "The image is not ready")
    detail = Text(
        "镜像状态为 {image_status}，请等其就绪或换一个镜像。",
        "The image is {image_status}. Wait until it is ready, or choose another.",
    )


class ImageTooNew(Conflict):
    code = "image_too_new"
    title = Text("镜像与主机不匹配", "The image does not fit the host")
    detail = Text(
        "{reason}。请换一个镜像或另一台主机。", "{reason}. Choose another image or another host."
    )


class NoPortsLeft(Conflict):
    code = "no_ports_left"
    title = Text("主机端口已用完", "The host has no port left")
    detail = Text("请选择另一台主机。", "Choose another host.")


class TooManyGpus(Invalid):
    code = "too_many_gpus"
    title = Text("主机没有这么多 GPU", "The host has fewer GPUs")
    detail = Text(
        "{reason}。请减少数量或选择另一台主机。", "{reason}. Ask for fewer, or choose another host."
    )
