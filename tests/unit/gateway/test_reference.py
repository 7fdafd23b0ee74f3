"""The joined document keeps every service's meaning."""

from gateway.reference import join, page


def _document(path: str, schema: dict[str, object]) -> dict[str, object]:
    reference = {"schema": {"$ref": "#/components/schemas/Thing"}}
    return {
        "paths": {path: {"get": {"summary": "<b>", "x-policy": "active", "content": reference}}},
        "components": {"schemas": {"Thing": schema}},
    }


def test_equal_names_with_different_meanings_are_told_apart() -> None:
    joined = join(
        {
            "auth": _document("/api/v1/a", {"type": "string"}),
            "market": _document("/api/v1/m", {"type": "integer"}),
        },
        "1",
    )
    paths = joined["paths"]
    schemas = joined["components"]["schemas"]
    assert schemas == {"Thing": {"type": "string"}, "MarketThing": {"type": "integer"}}
    assert paths["/api/v1/a"]["get"]["content"]["schema"]["$ref"].endswith("/Thing")
    assert paths["/api/v1/m"]["get"]["content"]["schema"]["$ref"].endswith("/MarketThing")
    assert paths["/api/v1/m"]["get"]["tags"] == ["market"]


def test_internal_paths_are_not_told() -> None:
    assert join({"auth": _document("/internal/x", {})}, "1")["paths"] == {}


def test_the_page_asks_nothing_of_the_outside_and_escapes_what_it_shows() -> None:
    shown = page(join({"auth": _document("/api/v1/a", {})}, "1"))
    assert "http" not in shown.replace("http-", "")
    assert "&lt;b&gt;" in shown


def test_the_page_leads_to_both_documents() -> None:
    shown = page(join({}, "1"))
    assert "href=/api/openapi.json" in shown
    assert "href=/api/asyncapi.json" in shown
