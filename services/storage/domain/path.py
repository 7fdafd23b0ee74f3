"""A tenant's path, checked before anything opens it."""

from services.storage.errors import BadPath

NAME_BYTES = 255
PATH_BYTES = 4000


def parse(path: str, *, field: str = "path") -> tuple[str, ...]:
    """`/a/b` → ("a", "b"); `/` → (). Raises BadPath."""
    if not path.startswith("/") or "\0" in path:
        raise BadPath(field=field)
    names = tuple(path[1:].removesuffix("/").split("/")) if path != "/" else ()
    try:
        sizes = [len(name.encode()) for name in names]
    except UnicodeEncodeError as error:
        raise BadPath(field=field) from error
    if any(name in ("", ".", "..") for name in names):
        raise BadPath(field=field)
    if any(size > NAME_BYTES for size in sizes) or sum(sizes) + len(sizes) > PATH_BYTES:
        raise BadPath(field=field)
    return names


def join(names: tuple[str, ...]) -> str:
    return "/" + "/".join(names)
