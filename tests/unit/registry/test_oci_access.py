"""What a request to the OCI registry is taken for, and whose an image is while it is made."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.registry.domain.access import MAX_URI, Access, Verb, accesses
from services.registry.domain.claims import Claim

D = "sha256:" + "a" * 64
SYSTEM = "chusuan/minimal"
SAVED = "chusuan/u-0123456789/" + "b" * 32
PULL, PUSH = Verb.pull, Verb.push
MOUNT = f"/v2/{SAVED}/blobs/uploads/?mount=sha256%3A{'a' * 64}&from="


@pytest.mark.parametrize(
    ("method", "uri", "wanted"),
    [
        ("GET", "/v2/", ()),
        ("HEAD", "/v2", ()),
        ("GET", f"/v2/{SYSTEM}/manifests/1", (Access(PULL, SYSTEM, "1"),)),
        ("HEAD", f"/v2/{SAVED}/manifests/{D}", (Access(PULL, SAVED),)),
        ("PUT", f"/v2/{SYSTEM}/manifests/1.2-x", (Access(PUSH, SYSTEM, "1.2-x"),)),
        ("PUT", f"/v2/{SYSTEM}/manifests/{D}", (Access(PUSH, SYSTEM),)),
        ("GET", f"/v2/{SAVED}/blobs/{D}", (Access(PULL, SAVED),)),
        ("HEAD", f"/v2/{SAVED}/blobs/{D}", (Access(PULL, SAVED),)),
        ("POST", f"/v2/{SAVED}/blobs/uploads/", (Access(PUSH, SAVED),)),
        ("PATCH", f"/v2/{SAVED}/blobs/uploads/1b-2?_state=x%2Fy", (Access(PUSH, SAVED),)),
        ("PUT", f"/v2/{SAVED}/blobs/uploads/1b?digest=sha256%3Aa", (Access(PUSH, SAVED),)),
        ("DELETE", f"/v2/{SAVED}/blobs/uploads/1b", (Access(PUSH, SAVED),)),
        ("POST", f"{MOUNT}chusuan/minimal", (Access(PUSH, SAVED), Access(PULL, SYSTEM))),
        ("POST", f"{MOUNT}chusuan%2Fminimal", (Access(PUSH, SAVED), Access(PULL, SYSTEM))),
    ],
)
def test_what_docker_asks_is_understood(method: str, uri: str, wanted: tuple[Access, ...]) -> None:
    assert accesses(method, uri) == wanted


@pytest.mark.parametrize(
    ("method", "uri"),
    [
        ("POST", "/v2/"),
        ("GET", "/v2/_catalog"),
        ("GET", "/v2/_catalog?n=5"),
        ("GET", f"/v2/{SYSTEM}/tags/list"),
        ("GET", f"/v2/{SYSTEM}/referrers/{D}"),
        ("DELETE", f"/v2/{SYSTEM}/manifests/{D}"),
        ("DELETE", f"/v2/{SYSTEM}/blobs/{D}"),
        ("PUT", f"/v2/{SYSTEM}/blobs/{D}"),
        ("GET", f"/v2/{SYSTEM}/blobs/uploads/"),
        ("POST", f"/v2/{SYSTEM}/blobs/uploads/1b"),
        ("GET", "/v2/library/debian/manifests/1"),
        ("GET", "/v2/minimal/manifests/1"),
        ("GET", f"/v2/{SYSTEM}/x/manifests/1"),
        ("GET", f"/v2/{SYSTEM}/../minimal/manifests/1"),
        ("GET", "/v2/chusuan/a/../b/manifests/1"),
        ("GET", "/v2/chusuan/..%2fother/manifests/1"),
        ("GET", "/v2/chusuan%2Fminimal/manifests/1"),
        ("GET", f"/v2//{SYSTEM}/manifests/1"),
        ("GET", f"//v2/{SYSTEM}/manifests/1"),
        ("GET", f"/v2/{SYSTEM}/manifests/1/"),
        ("GET", f"/v2/{SYSTEM}/manifests/.."),
        ("GET", f"/v2/{SYSTEM}/manifests/1\n"),
        ("GET", f"/v2/{SYSTEM}/manifests/１"),
        ("GET", f"/v2/Chusuan/minimal/manifests/{D}"),
        ("PATCH", f"/v2/{SAVED}/blobs/uploads/.."),
        ("GET", f"http://x/v2/{SYSTEM}/manifests/1"),
        ("GET", f"/v2/{SYSTEM}/manifests/1#x"),
        ("GET", ""),
        ("", f"/v2/{SYSTEM}/manifests/1"),
        ("get", f"/v2/{SYSTEM}/manifests/1"),
        ("POST", f"{MOUNT}library/debian"),
        ("POST", f"{MOUNT}"),
        ("POST", f"{MOUNT}chusuan/minimal&from=chusuan/jupyter"),
        ("POST", f"{MOUNT}chusuan/minimal;from=chusuan/jupyter"),
        ("POST", f"{MOUNT}chusuan/minimal%00"),
        ("POST", f"{MOUNT}chusuan/minimal" + "&a=1" * 30),
        ("GET", "/v2/?" + "x" * MAX_URI),
    ],
)
def test_all_else_is_refused(method: str, uri: str) -> None:
    assert accesses(method, uri) is None


@given(st.sampled_from(["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"]), st.text(max_size=200))
def test_no_text_is_too_odd_and_only_our_names_are_ever_granted(method: str, tail: str) -> None:
    for uri in (tail, f"/v2/{tail}", f"/v2/chusuan/{tail}", f"{MOUNT}{tail}"):
        for access in accesses(method, uri) or ():
            assert access.repository.startswith("chusuan/")
            assert ".." not in access.repository
            assert "%" not in access.repository


NOW = datetime(2026, 1, 1, tzinfo=UTC)
ONE, OTHER = (f"node.00000000-0000-0000-0000-00000000000{n}" for n in (1, 2))
LAPSES_S = 60.0


@pytest.mark.parametrize(
    ("builder", "silent_s", "source", "counts"),
    [
        (None, 0, ONE, True),
        (None, 0, "agent", True),
        (ONE, 0, ONE, True),
        (ONE, 9999, ONE, True),
        (ONE, 59, OTHER, False),
        (ONE, 61, OTHER, True),
        (ONE, 59, "agent", False),
        (None, 0, "", False),
        (None, 0, "node.", False),
        (None, 0, "scheduler", False),
        (None, 0, ONE + "\n", False),
    ],
)
def test_a_report_counts_from_the_builder_or_when_that_is_silent(
    builder: str | None, silent_s: float, source: str, counts: bool
) -> None:
    claim = Claim(builder, NOW - timedelta(seconds=silent_s))
    assert claim.admits(source, NOW, LAPSES_S) is counts


@given(st.lists(st.tuples(st.floats(0, 100), st.sampled_from([ONE, OTHER])), max_size=60))
def test_two_builders_never_take_turns_while_both_are_heard(
    reports: list[tuple[float, str]],
) -> None:
    claim, now = Claim(None, NOW), NOW
    for pause_s, source in reports:
        now += timedelta(seconds=pause_s)
        if not claim.admits(source, now, LAPSES_S):
            continue
        if claim.builder not in (None, source):
            assert (now - claim.heard_at).total_seconds() > LAPSES_S
        claim = Claim(source, now)
