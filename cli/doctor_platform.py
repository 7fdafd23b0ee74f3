"""The platform as its gateway tells it: every service, its database, its events, its hosts."""

from collections.abc import Iterator

import httpx

from cli.client import ClientError, Gateway, Json, NotLoggedIn, Refused, Unreachable
from cli.doctor_finding import Finding, fine, unknown, wrong

OUTBOX_OLD_S = 60.0
# A worker that had no good pass for so many intervals, and so many seconds, is stuck.
WORKER_INTERVALS, WORKER_GRACE_S = 3, 60.0
# figure → (what in Chinese, what in English, cure in Chinese, cure in English)
FIGURES: dict[str, tuple[str, str, str, str]] = {
    "nodes_silent": (
        "{n} 台主机没有应答", "silent hosts: {n}",
        "查看 chusuan nodes list；在主机上检查 agent 与网络，运行 chusuan doctor --host",
        "see chusuan nodes list; on the host look at agent and network: chusuan doctor --host",
    ),
    "nodes_lost": (
        "{n} 台主机失联", "lost hosts: {n}",
        "修复主机；无法修复的用 chusuan nodes remove 移除",
        "repair the host, or take it out: chusuan nodes remove",
    ),
    "instances_lost": (
        "{n} 个实例失联", "lost instances: {n}",
        "主机恢复后自动处理；否则由用户释放", "they come back with their host, or are released",
    ),
    "gpus_unhealthy": (
        "{n} 张 GPU 异常", "unhealthy GPUs: {n}",
        "在主机上运行 nvidia-smi 与 dmesg", "on the host: nvidia-smi, dmesg",
    ),
    "system_images_failed": (
        "{n} 个系统镜像构建失败", "system images that failed to build: {n}",
        "chusuan images 显示原因；自动重试", "chusuan images says why; it is tried again",
    ),
    "ledger_faults": (
        "账本有 {n} 处不平", "wrong sums of the ledger: {n}",
        "停止充值与结算，查日志 ledger_broken，见 docs/operate.md",
        "stop crediting, see ledger_broken in the log and docs/operate.md",
    ),
}  # fmt: skip


def check_platform(gateway: Gateway) -> Iterator[Finding]:
    reachable = check_gateway(gateway.url)
    yield reachable
    try:
        health = gateway.get("/health")
    except NotLoggedIn:
        yield unknown(
            "platform", ("未以运营身份登录", "not logged in as an operator"),
            ("chusuan login admin", "chusuan login admin"),
        )  # fmt: skip
    except Unreachable:
        return
    except ClientError as error:
        denied = isinstance(error, Refused) and error.status == 403
        zh, en = error.lines("zh")[0], error.lines("en")[0]
        cure = ("以运营账号登录", "log in as an operator") if denied else None
        yield unknown("platform", (zh, en), cure)
    else:
        yield from judge(health)


def check_gateway(url: str) -> Finding:
    try:
        answer = httpx.get(f"{url}/readyz", timeout=10, trust_env=False)
        is_ready = answer.status_code == 200
        waiting = [] if is_ready else answer.json().get("for") or [f"HTTP {answer.status_code}"]
    except (httpx.HTTPError, ValueError) as error:
        return wrong(
            "gateway", (f"{url} 没有应答（{error}）", f"{url}: no answer ({error})"),
            ("检查 --url，平台是否在运行：make run", "check --url, and that it runs: make run"),
        )  # fmt: skip
    if waiting:
        names = ", ".join(waiting)
        return wrong(
            "gateway", (f"在等待：{names}", f"waits for {names}"),
            ("查看这些服务的日志", "see the logs of these services"),
        )  # fmt: skip
    return fine("gateway", f"{url} 就绪", f"{url} is ready")


def judge(health: Json) -> Iterator[Finding]:
    """health: as `GET /api/v1/health` answers it."""
    yield _alive("gateway.redis", health["redis_alive"], "Redis")
    for part in health["services"]:
        name, found = part["service"], part["health"]
        if found is None:
            yield wrong(
                name, ("没有应答", "does not answer"),
                ("查看该服务的日志并重启它", "see its log, and start it again"),
            )  # fmt: skip
            continue
        faults = [finding for finding in _faults(name, found) if finding is not None]
        yield from faults or [fine(name, "正常", "is well")]


def _faults(name: str, found: Json) -> Iterator[Finding | None]:
    if not found["bus_alive"]:
        yield _alive(f"{name}.bus", False, "RabbitMQ")
    if not found["redis_alive"]:
        yield _alive(f"{name}.redis", False, "Redis")
    yield from (_worker(name, worker) for worker in found["workers"])
    database = found["database"]
    if database is None:
        yield wrong(
            f"{name}.database", ("数据库没有应答", "its database does not answer"),
            ("检查 PostgreSQL 是否运行、磁盘是否已满", "see whether PostgreSQL runs, and its disk"),
        )  # fmt: skip
        return
    yield from _database(name, database)


def _database(name: str, database: Json) -> Iterator[Finding | None]:
    now, head = database["migration"], database["head"]
    if now != head:
        yield wrong(
            f"{name}.migration", (f"{now}，程序需要 {head}", f"{now}, the program wants {head}"),
            ("以同一版本重启该服务", "start that service again, in one version"),
        )  # fmt: skip
    oldest_s = database["outbox_oldest_s"]
    if oldest_s > OUTBOX_OLD_S:
        count = database["outbox_waiting"]
        yield wrong(
            f"{name}.outbox",
            (
                f"{count} 个事件未送出，最久 {oldest_s:.0f} 秒",
                f"{count} events wait, the oldest for {oldest_s:.0f} s",
            ),
            ("检查消息总线与消费者的日志", "see the bus, and the consumers' logs"),
        )  # fmt: skip
    if database["dead_letters"]:
        count = database["dead_letters"]
        yield wrong(
            f"{name}.dead_letters", (f"{count} 个死信", f"{count} dead letters"),
            (
                "逐个查看原因，修复后重放：chusuan events",
                "look at each, repair the cause, replay: chusuan events",
            ),
        )  # fmt: skip
    for figure, count in database["figures"].items():
        if figure in FIGURES and count:
            zh, en, cure_zh, cure_en = FIGURES[figure]
            n = f"{count:.0f}"
            yield wrong(f"{name}.{figure}", (zh.format(n=n), en.format(n=n)), (cure_zh, cure_en))


def _worker(name: str, worker: Json) -> Finding | None:
    ago_s, failures = worker["done_ago_s"], worker["failures"]
    most_s = WORKER_INTERVALS * worker["interval_s"] + WORKER_GRACE_S
    if ago_s <= most_s:
        return None
    what = (
        f"{ago_s:.0f} 秒没有完成，连续失败 {failures} 次",
        f"no pass done for {ago_s:.0f} s, {failures} failures in a row",
    )
    cure = (
        f"在日志中查 worker_step_failed {worker['name']}",
        f"see worker_step_failed {worker['name']} in the log",
    )
    return wrong(f"{name}.worker.{worker['name'].partition('.')[2]}", what, cure)


def _alive(about: str, alive: bool, program: str) -> Finding:
    if alive:
        return fine(about, "正常", "answers")
    return wrong(
        about, ("没有应答", "does not answer"),
        (
            f"检查 {program} 是否运行、地址与密码",
            f"see whether {program} runs, its address and login",
        ),
    )  # fmt: skip
