"""Paths, cookies and origins of apps."""

import pytest

from gateway.headers import confine_cookie
from gateway.origins import Ask, Origins, check_apps_url
from gateway.routes import app_path
from shared.ids import new_id

ID = "0192f000-0000-7000-8000-00000000000a"
ROOT = f"/apps/{ID}/"


@pytest.mark.parametrize(
    "rest",
    ["", "lab", "lab/", "a%20b/100%25.ipynb", "api/%40x%3Ay", "files/.hidden", "a;b", "a...b"],
)
def test_a_plain_path_beneath_an_instance_is_its_own(rest: str) -> None:
    found = app_path(ROOT + rest)
    assert found is not None
    assert (str(found.instance_id), found.raw, found.root) == (ID, ROOT + rest, ROOT)


@pytest.mark.parametrize(
    "rest",
    [
        "..", "../x", "a/../x", "./x", ".", "/x", "a//x", "%2e%2e/x", "%2E./x", "a%2fx", "a%2Fx",
        "%252e%252e/x", "a%252fx", "a%5cx", "a\\x", "a%00", "..;/x", "..%3b/x", "é",
    ],
)  # fmt: skip
def test_a_path_that_may_leave_the_instance_is_nobodys(rest: str) -> None:
    assert app_path(ROOT + rest) is None


@pytest.mark.parametrize(
    ("said", "sent"),
    [
        ("a=1", f"a=1; Path={ROOT}"),
        ("a=1; Domain=example.org; Path=/", f"a=1; Path={ROOT}"),
        (f"a=1; path={ROOT}lab; HttpOnly", f"a=1; Path={ROOT}lab; HttpOnly"),
        (f"a=1; path={ROOT}../x", f"a=1; Path={ROOT}"),
        ("a=1; Path=/; Path=/apps/", f"a=1; Path={ROOT}"),
        ("a=1; Max-Age=0; SameSite=Strict", f"a=1; Path={ROOT}; Max-Age=0; SameSite=Strict"),
        ("chusuan_app=1", None),
        (" Chusuan_App =1", None),
        ("__Host-x=1; Path=/", None),
        ("=chusuan_app=1", None),
        ("chusuan_app", None),
    ],
)
def test_a_cookie_of_an_app_stays_with_its_instance(said: str, sent: str | None) -> None:
    assert confine_cookie(said, ROOT) == sent


def ask(**said: str) -> Ask:
    headers = {name.replace("_", "-").encode(): value.encode() for name, value in said.items()}
    method = headers.pop(b"method", b"GET").decode()
    kind = headers.pop(b"kind", b"http").decode()
    return Ask.of(kind, method, headers.pop(b"scheme", b"http").decode(), headers)


@pytest.mark.parametrize(
    ("host", "origin", "foreign"),
    [
        ("chusuan.cn", "https://chusuan.cn", False),
        ("chusuan.cn:443", "https://chusuan.cn", False),
        ("Chusuan.cn:8080", "http://chusuan.cn:8080", False),
        ("chusuan.cn:8080", "http://chusuan.cn:9090", True),
        ("chusuan.cn", "https://chusuan.cn.evil.example", True),
        ("chusuan.cn", "null", True),
        ("chusuan.cn", "file://chusuan.cn", True),
        ("", "null", True),
        ("", "", True),
    ],
)
def test_a_socket_is_taken_from_the_very_origin_alone(
    host: str, origin: str, foreign: bool
) -> None:
    seen = ask(kind="websocket", host=host, origin=origin)
    assert Origins("").is_foreign(seen) is foreign


def test_each_instance_may_have_a_host_that_serves_nothing_else() -> None:
    mine, other = new_id(), new_id()
    origins = Origins("https://{instance}.apps.example.net")
    assert origins.of_apps(mine) == f"https://{mine}.apps.example.net"
    seen = ask(host=f"{mine}.apps.example.net")
    assert origins.is_for_apps(seen)
    assert origins.serves(seen, mine)
    assert not origins.serves(seen, other)
    for host in ("apps.example.net", "x.apps.example.net", f"{mine}.apps.example.net.evil.org"):
        assert not origins.is_for_apps(ask(host=host))


@pytest.mark.parametrize(
    "url",
    [
        "apps.example.net",
        "https://apps.example.net/x",
        "https://a@apps.example.net",
        "https://x.{instance}.net",
        "ftp://apps.example.net",
        "https://",
    ],
)
def test_an_apps_url_is_an_origin_or_nothing(url: str) -> None:
    with pytest.raises(ValueError, match="apps_url"):
        check_apps_url(url)
    assert check_apps_url("https://apps.example.net/") == "https://apps.example.net"
