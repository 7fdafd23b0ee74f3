"""Who may open the apps of an instance, and what passes."""

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest

from shared.ids import new_id
from tests.service.gateway.conftest import Doorway, OpenDoorway
from tests.service.gateway.playing import APP_TOKEN
from tests.service.gateway.serving import free_port

MIB = 1 << 20
EN = {"accept-language": "en"}


async def test_a_link_opens_the_app_once_and_leaves_no_ticket_in_the_address(
    doorway: Doorway,
) -> None:
    instance = doorway.new_instance()
    asked = await doorway.ask(instance)
    assert asked.headers["cache-control"] == "no-store"
    assert asked.json()["expires_in"] == 60
    url = asked.json()["url"]
    root = f"/apps/{instance.instance_id}/"
    assert url.startswith(f"{root}lab?ticket=")
    opened = await doorway.http.get(f"{url}&reset=1")
    assert (opened.status_code, opened.headers["location"]) == (303, f"{root}lab?reset=1")
    assert opened.headers["referrer-policy"] == "no-referrer"
    cookie, *attributes = opened.headers["set-cookie"].split("; ")
    assert sorted(attributes) == ["HttpOnly", f"Path={root}", "SameSite=lax"]
    lab = await doorway.get(instance, "lab", cookie)
    assert (lab.status_code, lab.json()["raw"]) == (200, f"{root}lab")
    again = await doorway.http.get(url, headers=EN)
    assert again.status_code == 401
    assert "set-cookie" not in again.headers


async def test_whoever_reloads_a_used_link_with_their_session_is_let_in(doorway: Doorway) -> None:
    instance = doorway.new_instance()
    url = await doorway.link(instance)
    cookie = (await doorway.http.get(url)).headers["set-cookie"].partition(";")[0]
    again = await doorway.http.get(url, headers={"cookie": cookie})
    assert (again.status_code, "set-cookie" in again.headers) == (303, False)


async def test_tickets_live_a_minute_and_sessions_twelve_hours_after_their_last_use(
    doorway: Doorway,
) -> None:
    instance = doorway.new_instance()
    late = await doorway.link(instance)
    (ticket,) = await doorway.redis.keys("gateway:app:ticket:*")
    assert 55 < await doorway.redis.ttl(ticket) <= 60
    await doorway.redis.pexpire(ticket, 1)
    while await doorway.redis.exists(ticket):
        await asyncio.sleep(0)
    assert (await doorway.http.get(late)).status_code == 401
    cookie = await doorway.opened(instance)
    (session,) = await doorway.redis.keys("gateway:app:session:*")
    assert cookie.partition("=")[2] not in session
    await doorway.redis.expire(session, 100)
    await doorway.get(instance, "lab", cookie)
    assert await doorway.redis.ttl(session) > 12 * 3600 - 10


async def test_the_cookie_is_secure_where_the_browser_came_by_https(doorway: Doorway) -> None:
    instance = doorway.new_instance()
    url = await doorway.link(instance)
    opened = await doorway.http.get(url, headers={"x-forwarded-proto": "https"})
    assert "Secure" in opened.headers["set-cookie"]


async def test_a_ticket_and_a_session_open_their_own_instance_alone(doorway: Doorway) -> None:
    mine, other = doorway.new_instance(), doorway.new_instance()
    ticket = (await doorway.link(mine)).partition("?")[2]
    assert (await doorway.http.get(f"{doorway.path(other)}?{ticket}")).status_code == 401
    cookie = await doorway.opened(mine)
    assert (await doorway.get(other, "lab", cookie)).status_code == 401
    assert doorway.app.seen == {}


async def test_a_session_ends_when_the_instance_has_another_owner(doorway: Doorway) -> None:
    instance = doorway.new_instance()
    cookie = await doorway.opened(instance)
    assert (await doorway.get(instance, "lab", cookie)).status_code == 200
    instance.account_id = new_id()
    await _until_status(doorway, instance.instance_id, cookie, 401)


async def test_a_stopped_instance_is_closed_at_once_and_says_the_cure(doorway: Doorway) -> None:
    instance = doorway.new_instance()
    cookie = await doorway.opened(instance)
    instance.running = False
    shown = await _until_status(doorway, instance.instance_id, cookie, 409)
    assert "Start it first" in shown.text
    asked = await doorway.ask(instance)
    assert (asked.status_code, asked.json()["code"]) == (409, "instance_not_running")
    del doorway.instances[instance.instance_id]
    await _until_status(doorway, instance.instance_id, cookie, 404)


async def _until_status(
    doorway: Doorway, instance_id: object, cookie: str, status: int
) -> httpx.Response:
    async with asyncio.timeout(5):
        while True:
            headers = {"cookie": cookie, **EN}
            answer = await doorway.http.get(f"/apps/{instance_id}/lab", headers=headers)
            if answer.status_code == status:
                return answer


async def test_only_the_owner_gets_a_link_and_only_for_what_the_image_brings(
    doorway: Doorway,
) -> None:
    instance = doorway.new_instance()
    instance.apps += [{"name": "odd", "path": "../../api/v1"}]
    others = await doorway.ask(instance, account_id=new_id())
    assert (others.status_code, others.json()["code"]) == (404, "not_found")
    missing = await doorway.ask(instance, "vscode")
    assert (missing.status_code, missing.json()["code"]) == (404, "app_not_found")
    assert "jupyterlab" in missing.json()["detail"]
    assert (await doorway.ask(instance, "odd")).status_code == 404
    assert (await doorway.ask(instance, "%20")).status_code == 422
    path = f"/api/v1/instances/{instance.instance_id}/apps/jupyterlab"
    assert (await doorway.http.post(path)).status_code == 401
    assert await doorway.redis.keys("*:ticket:*") == []


async def test_without_a_session_a_page_says_how_to_open_it(doorway: Doorway) -> None:
    instance = doorway.new_instance()
    english = await doorway.http.get(doorway.path(instance, "lab"), headers=EN)
    chinese = await doorway.http.get(
        doorway.path(instance, "lab"),
        headers={"accept-language": "zh-CN", "cookie": "chusuan_app=guess"},
    )
    assert (english.status_code, chinese.status_code) == (401, 401)
    assert "chusuan open" in english.text
    assert "请从控制台打开此应用" in chinese.text
    assert "default-src 'none'" in english.headers["content-security-policy"]


async def test_an_app_that_does_not_answer_yet_is_asked_again_by_the_page(
    doorway: Doorway,
) -> None:
    instance = doorway.new_instance()
    instance.port = free_port()
    cookie = await doorway.opened(instance)
    page = await doorway.get(instance, "lab", cookie, headers=EN)
    assert page.status_code == 502
    assert '<meta http-equiv=refresh content="2">' in page.text


async def test_the_app_gets_its_own_token_and_none_of_the_platforms_secrets(
    doorway: Doorway,
) -> None:
    instance = doorway.new_instance()
    cookie = await doorway.opened(instance)
    await doorway.get(
        instance, "api", f"_xsrf=2|a; {cookie}; __Host-refresh=r; chusuan_x=y",
        headers={
            **doorway.identity.headers(),
            "x-forwarded-host": "evil.example",
            "forwarded": "host=evil.example",
            "x-kept": "yes",
        },
    )  # fmt: skip
    seen = doorway.app.seen["api"]
    assert seen["authorization"] == f"token {APP_TOKEN}"
    assert seen["cookie"] == "_xsrf=2|a"
    host = f"127.0.0.1:{doorway.port}"
    assert (seen["host"], seen["x-forwarded-host"]) == (host, host)
    assert (seen["x-forwarded-proto"], seen["x-kept"]) == ("http", "yes")
    assert "forwarded" not in seen


async def test_the_apps_token_never_reaches_the_browser(doorway: Doorway) -> None:
    instance = doorway.new_instance()
    answers = [await doorway.ask(instance)]
    answers.append(await doorway.http.get(answers[0].json()["url"]))
    cookie = answers[-1].headers["set-cookie"].partition(";")[0]
    for path in ("lab", "greedy", "elsewhere"):
        answers.append(await doorway.get(instance, path, cookie))
    answers.append(await doorway.http.request("TRACE", doorway.path(instance, "lab")))
    instance.running = False
    answers.append(await doorway.ask(instance))
    for answer in answers:
        assert APP_TOKEN not in answer.text + str(answer.headers.raw)
    assert APP_TOKEN in doorway.app.seen["lab"]["authorization"]


async def test_an_answer_of_an_app_reaches_no_further_than_its_instance(doorway: Doorway) -> None:
    instance = doorway.new_instance()
    answer = await doorway.get(instance, "greedy", await doorway.opened(instance))
    root = doorway.path(instance)
    assert answer.headers.get_list("set-cookie") == [f"own=1; Path={root}; HttpOnly"]
    assert answer.headers["service-worker-allowed"] == root
    assert "clear-site-data" not in answer.headers
    assert "strict-transport-security" not in answer.headers
    policies = answer.headers.get_list("content-security-policy")
    assert policies == ["default-src 'self'", "frame-ancestors 'self'"]
    assert answer.headers["cross-origin-resource-policy"] == "same-origin"


async def test_a_redirect_of_an_app_is_the_browsers_to_follow(doorway: Doorway) -> None:
    instance = doorway.new_instance()
    answer = await doorway.get(instance, "elsewhere", await doorway.opened(instance))
    assert (answer.status_code, answer.headers["location"]) == (302, "other")


async def test_any_method_and_status_pass_with_query_and_body(doorway: Doorway) -> None:
    instance = doorway.new_instance()
    cookie = await doorway.opened(instance)
    answer = await doorway.http.request(
        "DELETE", doorway.path(instance, "a%20b/100%25/@x%3Ay?q=%2F&status=418"),
        headers={"cookie": cookie}, content=b"x" * (3 * MIB),
    )  # fmt: skip
    assert answer.status_code == 418
    seen = answer.json()
    assert seen["raw"].endswith("/a%20b/100%25/@x%3Ay")
    assert (seen["method"], seen["query"], len(seen["body"])) == (
        "DELETE", "q=%2F&status=418", 3 * MIB,
    )  # fmt: skip


async def test_an_upload_waits_for_a_slow_app_instead_of_being_held(doorway: Doorway) -> None:
    instance = doorway.new_instance()
    cookie = await doorway.opened(instance)
    sent = 0

    async def chunks() -> AsyncIterator[bytes]:
        nonlocal sent
        for _ in range(50 * 16):
            sent += MIB // 16
            yield b"x" * (MIB // 16)

    upload = asyncio.create_task(
        doorway.http.put(
            doorway.path(instance, "upload"), content=chunks(), headers={"cookie": cookie}
        )
    )
    before, still = -1, 0
    while still < 200:
        still = still + 1 if sent == before and sent else 0
        before = sent
        await asyncio.sleep(0.001)
    assert sent < 20 * MIB
    doorway.app.may_read.set()
    assert (await upload).json() == {"received": 50 * MIB}


async def test_an_answer_arrives_as_it_is_written_and_ends_when_its_reader_leaves(
    doorway: Doorway,
) -> None:
    instance = doorway.new_instance()
    headers = {"cookie": await doorway.opened(instance)}
    path = doorway.path(instance, "stream")
    async with doorway.http.stream("GET", path, headers=headers) as answer:
        chunks = answer.aiter_raw()
        assert await anext(chunks) == b"first"
        doorway.app.may_go_on.set()
        assert await anext(chunks) == b"second"
    async with asyncio.timeout(5):
        await doorway.app.ended.wait()


@pytest.mark.parametrize(
    ("method", "headers", "allowed"),
    [
        ("POST", {"origin": "{self}"}, True),
        ("POST", {"origin": "http://evil.example"}, False),
        ("POST", {"origin": "null"}, False),
        ("POST", {"sec-fetch-site": "same-site"}, False),
        ("POST", {}, True),
        ("GET", {"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors"}, False),
        ("GET", {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}, True),
        ("GET", {"sec-fetch-site": "same-origin", "sec-fetch-mode": "cors"}, True),
    ],
)
async def test_another_sites_page_cannot_act_on_an_instance(
    doorway: Doorway, method: str, headers: dict[str, str], allowed: bool
) -> None:
    instance = doorway.new_instance()
    cookie = await doorway.opened(instance)
    own = f"http://127.0.0.1:{doorway.port}"
    sent = {name: value.format(self=own) for name, value in headers.items()}
    answer = await doorway.http.request(
        method, doorway.path(instance, "run"), headers={"cookie": cookie, **sent}
    )
    assert answer.status_code == (200 if allowed else 403)
    assert ("run" in doorway.app.seen) is allowed


async def test_another_sites_link_opens_nothing_on_the_platforms_own_host(
    doorway: Doorway,
) -> None:
    url = await doorway.link(doorway.new_instance())
    lured = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}
    assert (await doorway.http.get(url, headers=lured)).status_code == 403
    typed = {"sec-fetch-site": "none", "sec-fetch-mode": "navigate"}
    assert (await doorway.http.get(url, headers=typed)).status_code == 303


@pytest.mark.parametrize(
    "path",
    [
        "/apps/{id}/../{id}/lab",
        "/apps/{id}/%2e%2e/lab",
        "/apps/{id}/a%2flab",
        "/apps/{id}/a%252f..%252flab",
        "/apps/{id}//lab",
        "/apps/{id}/a%5clab",
        "/apps//{id}/lab",
        "/apps/{id}",
        "/apps/",
        "/%61pps/{id}/lab",
        "/apps/{ID}/lab",
    ],
)
async def test_a_path_that_could_be_read_in_two_ways_reaches_nothing(
    doorway: Doorway, path: str
) -> None:
    instance = doorway.new_instance()
    cookie = await doorway.opened(instance)
    key = str(instance.instance_id)
    target = path.format(id=key, ID=key.upper())
    reader, writer = await asyncio.open_connection("127.0.0.1", doorway.port)
    request = f"GET {target} HTTP/1.1\r\nHost: x\r\nCookie: {cookie}\r\nConnection: close\r\n\r\n"
    writer.write(request.encode())
    answer = await reader.read()
    writer.close()
    assert answer.split()[1] == b"404"
    assert doorway.app.seen == {}


async def test_apps_on_a_host_of_their_own_leave_the_platforms_host(
    open_doorway: OpenDoorway,
) -> None:
    async with open_doorway(apps_url="https://apps.example.net") as doorway:
        instance = doorway.new_instance()
        url = await doorway.link(instance)
        assert url.startswith(f"https://apps.example.net/apps/{instance.instance_id}/lab?ticket=")
        path = url.removeprefix("https://apps.example.net")
        assert (await doorway.http.get(path)).status_code == 404
        apart = {"host": "apps.example.net", "sec-fetch-site": "cross-site"}
        opened = await doorway.http.get(path, headers={**apart, "sec-fetch-mode": "navigate"})
        assert opened.status_code == 303
        assert "Secure" in opened.headers["set-cookie"]
        cookie = opened.headers["set-cookie"].partition(";")[0]
        assert (await doorway.get(instance, "lab", cookie)).status_code == 404
        headers = {"host": "apps.example.net"}
        assert (await doorway.get(instance, "lab", cookie, headers=headers)).status_code == 200
        for platform in ("/healthz", "/api/docs", "/api/v1/instances", "/problems/not_found"):
            assert (await doorway.http.get(platform, headers=headers)).status_code == 404


async def test_each_instance_on_a_host_of_its_own_is_not_served_on_anothers(
    open_doorway: OpenDoorway,
) -> None:
    async with open_doorway(apps_url="http://{instance}.apps.example.net:8080") as doorway:
        mine, other = doorway.new_instance(), doorway.new_instance()
        url = await doorway.link(mine)
        host = f"{mine.instance_id}.apps.example.net:8080"
        assert url.startswith(f"http://{host}/apps/")
        path = url.removeprefix(f"http://{host}")
        elsewhere = {"host": f"{other.instance_id}.apps.example.net:8080"}
        assert (await doorway.http.get(path, headers=elsewhere)).status_code == 404
        assert (await doorway.http.get(path, headers={"host": host})).status_code == 303


async def test_opening_an_app_is_in_the_joined_reference(doorway: Doorway) -> None:
    document = (await doorway.http.get("/api/openapi.json")).json()
    call = document["paths"]["/api/v1/instances/{instance_id}/apps/{app}"]["post"]
    assert (call["x-policy"], call["tags"]) == ("active", ["gateway"])
