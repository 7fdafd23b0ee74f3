"""Addresses of images, and what may be shown of words that came from a build."""

from uuid import UUID

from shared.ids import short_name

NAMESPACE = "chusuan"
MESSAGE_LENGTH = 500


def system_address(name: str, version: str, *, registry: str) -> str:
    """registry: HOST:PORT, or empty."""
    return _on(registry, f"{NAMESPACE}/{name}:{version}")


def saved_address(owner_id: UUID, image_id: UUID, *, registry: str) -> str:
    """Never used twice: the image's own id is in it whole."""
    return _on(registry, f"{NAMESPACE}/u-{short_name(owner_id)}/{image_id.hex}:1")


def _on(registry: str, name: str) -> str:
    return f"{registry}/{name}" if registry else name


def readable(text: str) -> str:
    """One line of what can be shown, its end where it is too long: errors come last."""
    line = " ".join(text.split())
    return "".join(c for c in line if c.isprintable())[-MESSAGE_LENGTH:]


def share(progress: float) -> float | None:
    """0..1; None for what is no number."""
    return min(1.0, max(0.0, progress)) if progress == progress else None
