"""Every problem type is a page."""

import pytest

from shared.errors import DomainError
from shared.problems import problem_kinds
from tests.service.gateway.conftest import Doorway, OpenDoorway


async def test_every_code_that_is_sent_has_a_page_in_both_languages(doorway: Doorway) -> None:
    kinds = problem_kinds()
    assert len(kinds) > 10
    for kind in kinds:
        english = await doorway.http.get(
            f"/problems/{kind.code}", headers={"accept-language": "en"}
        )
        chinese = await doorway.http.get(f"/problems/{kind.code}")
        assert (english.status_code, chinese.status_code) == (200, 200)
        assert kind.title.zh in chinese.text
        assert kind.code in english.text
        assert "{" not in english.text.partition("</style>")[2]


async def test_a_code_that_only_a_service_knows_is_explained_by_it(doorway: Doorway) -> None:
    page = await doorway.http.get("/problems/only_auth", headers={"accept-language": "en"})
    assert "Known to auth alone: …" in page.text


@pytest.mark.parametrize("code", ["nothing", "%3Cscript%3E", "a%00b"])
async def test_an_unknown_code_is_a_problem_itself(doorway: Doorway, code: str) -> None:
    answer = await doorway.http.get(f"/problems/{code}")
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


async def test_a_code_is_not_denied_while_a_service_is_away(open_doorway: OpenDoorway) -> None:
    async with open_doorway(upstreams={"auth": "http://127.0.0.1:1"}) as doorway:
        assert (await doorway.http.get("/problems/only_auth")).status_code == 503
        assert (await doorway.http.get("/problems/not_found")).status_code == 200


def test_each_error_class_has_words_for_its_code() -> None:
    known = {kind.code: kind for kind in problem_kinds()}

    def classes(error: type[DomainError]) -> list[type[DomainError]]:
        return [error, *(c for below in error.__subclasses__() for c in classes(below))]

    for error in classes(DomainError):
        kind = known[error.code]
        assert kind.title.zh
        assert kind.title.en
        assert kind.detail.zh
        assert kind.detail.en
