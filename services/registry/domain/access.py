"""What a request to the OCI registry would do, read from its method and URI. Pure.

Only what Docker needs is let through, only in the spelling that the platform itself uses: nothing
is decoded or cleaned up here, so that nobody behind this reads a path in another way.
"""

import re
from dataclasses import dataclass
from enum import StrEnum
from urllib.parse import parse_qs

MAX_URI = 4000
_NAME = r"(?P<name>chusuan/(?:u-[a-z0-9]{1,64}/[0-9a-f]{32}|[a-z0-9][a-z0-9-]{0,62}))"
_DIGEST = r"sha256:[0-9a-f]{64}"
_TAG = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}"
_REPOSITORY = re.compile(_NAME)
_BASE = re.compile(r"/v2/?")
_MANIFEST = re.compile(rf"/v2/{_NAME}/manifests/(?:{_DIGEST}|(?P<tag>{_TAG}))")
_BLOB = re.compile(rf"/v2/{_NAME}/blobs/{_DIGEST}")
_UPLOADS = re.compile(rf"/v2/{_NAME}/blobs/uploads/?")
_UPLOAD = re.compile(rf"/v2/{_NAME}/blobs/uploads/[A-Za-z0-9][A-Za-z0-9_=-]{{0,199}}")


class Verb(StrEnum):
    pull = "pull"
    push = "push"


@dataclass(frozen=True, slots=True)
class Access:
    """tag: None where a request names none: blobs, and manifests by digest."""

    verb: Verb
    repository: str
    tag: str | None = None


def accesses(method: str, uri: str) -> tuple[Access, ...] | None:
    """All that must be allowed; nothing for the question whether a login is good. None: no request
    that this platform's hosts make."""
    path, _, query = uri.partition("?")
    if len(uri) > MAX_URI or not uri.isascii():
        return None
    if _BASE.fullmatch(path):
        return () if method in ("GET", "HEAD") else None
    if found := _MANIFEST.fullmatch(path):
        verbs = {"GET": Verb.pull, "HEAD": Verb.pull, "PUT": Verb.push}
        return _one(verbs.get(method), found["name"], found["tag"])
    if found := _BLOB.fullmatch(path):
        return _one(Verb.pull if method in ("GET", "HEAD") else None, found["name"])
    if found := _UPLOAD.fullmatch(path):
        sends = method in ("GET", "HEAD", "PATCH", "PUT", "DELETE")
        return _one(Verb.push if sends else None, found["name"])
    if (found := _UPLOADS.fullmatch(path)) and method == "POST":
        return _begun(found["name"], query)
    return None


def _one(verb: Verb | None, repository: str, tag: str | None = None) -> tuple[Access, ...] | None:
    return None if verb is None else (Access(verb, repository, tag),)


def _begun(repository: str, query: str) -> tuple[Access, ...] | None:
    """Mounting a blob of another repository needs the right to pull there."""
    try:
        sources = parse_qs(query, keep_blank_values=True, max_num_fields=20).get("from", [])
    except ValueError:
        return None
    push = Access(Verb.push, repository)
    if not sources:
        return (push,)
    if len(sources) > 1 or not _REPOSITORY.fullmatch(sources[0]):
        return None
    return (push, Access(Verb.pull, sources[0]))
