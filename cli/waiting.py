"""Follows an instance or an image until it is where it should be, and shows each state once."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from cli.client import Json, Trouble
from cli.output import Desk

POLL_S = 0.4


def wait_for_state(
    desk: Desk, instance: Json, target: frozenset[str], *, ended: frozenset[str], timeout_s: float
) -> Json:
    """The instance in one of `target`. Raises Trouble when it ends elsewhere or time is up."""
    path = f"/instances/{instance['id']}"
    deadline = time.monotonic() + timeout_s
    with _progress(desk, instance["short_name"]) as show:
        while True:
            show(_words(instance))
            status = instance["status"]
            if status in target:
                return instance
            if status in ended:
                reason = instance.get("status_reason") or instance.get("stop_reason") or ""
                raise Trouble(
                    f"实例 {instance['short_name']} 变为 {status}：{reason}",
                    f"Instance {instance['short_name']} became {status}: {reason}",
                )
            _pause(deadline, instance["short_name"], status)
            instance = desk.gateway.get(path)


def wait_for_image(desk: Desk, name: str, *, timeout_s: float) -> Json:
    """My newest image of that name, ready. Raises Trouble when it failed or time is up."""
    deadline = time.monotonic() + timeout_s
    with _progress(desk, name) as show:
        while True:
            mine = desk.gateway.items("/images", tab="mine", name=name)
            named = [image for image in mine if image["name"] == name]
            image = max(named, key=lambda i: str(i["created_at"]), default=None)
            status = image["status"] if image else "building"
            show(status)
            if image is not None and status == "ready":
                return image
            if image is not None and status == "failed":
                reason = image.get("message") or ""
                raise Trouble(
                    f"镜像 {name} 保存失败：{reason}", f"Saving image {name} failed: {reason}"
                )
            _pause(deadline, name, status)


def _words(instance: Json) -> str:
    progress = instance.get("progress")
    return str(instance["status"]) + (f" · {progress}" if progress not in (None, "", 0) else "")


def _pause(deadline: float, what: str, status: str) -> None:
    if time.monotonic() > deadline:
        raise Trouble(
            f"{what} 仍为 {status}，不再等待；可用 chusuan show 查看。",
            f"{what} is still {status}; stopped waiting. Look again with: chusuan show",
        )
    time.sleep(POLL_S)


@contextmanager
def _progress(desk: Desk, what: str) -> Iterator[Callable[[str], None]]:
    """A spinner on a screen; elsewhere a line on stderr for each change."""
    console = desk.output.err
    started = time.monotonic()
    if console.is_terminal:
        with console.status(what) as spinner:
            yield lambda words: spinner.update(f"{what}: {words} {time.monotonic() - started:.0f}s")
        return
    shown = ""

    def show(words: str) -> None:
        nonlocal shown
        if words != shown:
            shown = words
            console.print(f"{what}: {words}", markup=False)

    yield show
