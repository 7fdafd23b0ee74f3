"""The joined OpenAPI document of all services, and a page that shows it with no outside request."""

import html
import re
from typing import Any

Document = dict[str, Any]

METHODS = ("get", "post", "put", "patch", "delete", "head")


def join(documents: dict[str, Document], version: str) -> Document:
    """documents: by service name. Only public paths; a component name that two services use for
    different things gets the service's name before it."""
    joined: Document = {
        "openapi": "3.1.0",
        "info": {"title": "Chusuan 楚算", "version": version},
        "paths": {},
        "components": {
            "schemas": {},
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}},
        },
    }
    schemas = joined["components"]["schemas"]
    for service, document in sorted(documents.items()):
        own = document.get("components", {}).get("schemas", {})
        renamed = {
            name: f"{service.title()}{name}"
            for name, schema in own.items()
            if name in schemas and schemas[name] != schema
        }
        for name, schema in own.items():
            schemas[renamed.get(name, name)] = _point_anew(schema, renamed)
        for path, operations in document.get("paths", {}).items():
            if path.startswith("/api/v1/"):
                joined["paths"][path] = {
                    key: {**_point_anew(value, renamed), "tags": [service]}
                    for key, value in operations.items()
                    if key in METHODS
                }
    return joined


def _point_anew(node: Any, renamed: dict[str, str]) -> Any:
    if isinstance(node, dict):
        return {
            key: _new_reference(value, renamed)
            if key == "$ref" and isinstance(value, str)
            else _point_anew(value, renamed)
            for key, value in node.items()
        }
    if isinstance(node, list):
        return [_point_anew(item, renamed) for item in node]
    return node


def _new_reference(reference: str, renamed: dict[str, str]) -> str:
    return re.sub(r"[^/]+$", lambda name: renamed.get(name[0], name[0]), reference)


def page(document: Document) -> str:
    """A plain list of every call, by service."""
    rows = []
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            cells = (
                operation["tags"][0],
                method.upper(),
                path,
                operation.get("x-policy", ""),
                operation.get("summary", ""),
            )
            rows.append("".join(f"<td>{html.escape(cell)}</td>" for cell in cells))
    body = "".join(f"<tr>{row}</tr>" for row in rows)
    return (
        "<!doctype html><html lang=en><meta charset=utf-8><title>Chusuan API</title>"
        "<style>body{font:15px/1.5 system-ui;margin:2rem auto;max-width:70rem}"
        "table{border-collapse:collapse;width:100%}"
        "td,th{padding:.3rem .6rem;border-bottom:1px solid #ddd;text-align:left}"
        "td:nth-child(2),td:nth-child(3){font-family:monospace}</style>"
        "<h1>Chusuan 楚算 API</h1><p>The whole document: "
        "<a href=/api/openapi.json>/api/openapi.json</a>; its events: "
        "<a href=/api/asyncapi.json>/api/asyncapi.json</a></p>"
        "<table><tr><th>part<th>method<th>path<th>who<th>what</tr>"
        f"{body}</table></html>"
    )
