"""Refusals of the scheduler.

DomainError
├── NotFound   OfferNotFound, InvitationUnknown
├── Conflict   IllegalMove, GpusTaken, HostSilent, HostDraining, ImageNotReady, ImageTooNew,
│              NoPortsLeft, NeedsSplitShape, InvitationUsed, AgentJoined, NodeInUse, NodeAlive
├── Invalid    TooManyGpus
├── InvitationOver    410
└── TooManyAttempts   429
"""

from services.scheduler.domain.states import MOVES, WORDS, Move, State
from shared.errors import Conflict, DomainError, Invalid, NotFound
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


class HostDraining(Conflict):
    code = "host_draining"
    title = Text("主机不再接受新的开机", "The host takes no new start")
    detail = Text(
        "主机将停机维护。请选择另一台主机；已在运行的实例不受影响。",
        "The host is being emptied for maintenance. Choose another host; what runs there runs on.",
    )


class NodeInUse(Conflict):
    code = "node_in_use"
    title = Text("主机上还有实例", "Instances stand on the host")
    detail = Text(
        "还有 {instances} 个未释放的实例、{promises} 个占用的 GPU。"
        "请先停止调度（drain）并等其释放；"
        "若主机确已不存在，可加 force 移除。",
        "{instances} instances are not released and {promises} GPUs are held. Drain the host and "
        "wait for them; where the machine is gone for good, remove it with force.",
    )


class NodeAlive(Conflict):
    code = "node_alive"
    title = Text("主机仍在上报", "The host still reports")
    detail = Text(
        "强制移除只用于确已不存在的主机。请先停止该主机的 agent，待其失联后再试。",
        "Force is for a machine that is gone. Stop the host's agent, and try again once it is "
        "silent.",
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


class NeedsSplitShape(Conflict):
    code = "needs_split_shape"
    title = Text("单进程形态不能接入其他主机", "One process takes no other hosts")
    detail = Text(
        "平台以单进程运行，没有消息代理。请以分离形态部署（docker-compose），再邀请主机。",
        "The platform runs in one process, without a message broker. Deploy it split "
        "(docker-compose), then invite hosts.",
    )


class InvitationUnknown(NotFound):
    code = "invitation_not_found"
    title = Text("没有这个邀请", "There is no such invitation")
    detail = Text(
        "请检查邀请码是否完整，或请管理员重新邀请。",
        "Check that the token is whole, or have an operator invite the host anew.",
    )


class InvitationUsed(Conflict):
    code = "invitation_used"
    title = Text("邀请已被另一台主机使用", "Another host has used the invitation")
    detail = Text(
        "一个邀请只接入一台主机，请管理员再发一个。",
        "An invitation is for one host. Have an operator make another one.",
    )


class AgentJoined(Conflict):
    code = "agent_joined"
    title = Text("这台主机已经接入", "This host has joined already")
    detail = Text(
        "请用主机上已有的凭据；若已丢失，请管理员先执行 chusuan nodes revoke，再重新邀请。",
        "Use the credential that the host has. If it is lost, an operator runs "
        "`chusuan nodes revoke` first, and then invites it anew.",
    )


class InvitationOver(DomainError):
    code = "invitation_over"
    status = 410
    title = Text("邀请已失效", "The invitation is over")
    detail = Text("请管理员重新邀请。", "Have an operator invite the host anew.")


class TooManyAttempts(DomainError):
    code = "too_many_attempts"
    status = 429
    title = Text("尝试次数过多", "Too many attempts")
    detail = Text("请在 {retry_after_s} 秒后重试。", "Try again in {retry_after_s} seconds.")
