"""Small pages for people, in their language. They ask nothing of anywhere and run no script."""

import base64
import hashlib
import html
from dataclasses import dataclass

from starlette.responses import HTMLResponse

from shared.text import Language, Text

_STYLE = (
    "body{font:16px/1.6 system-ui,sans-serif;color:#222;margin:15vh auto;max-width:34rem;"
    "padding:0 1.5rem}h1{font-size:1.4rem}p{margin:.6rem 0}small{color:#666}"
    "@media(prefers-color-scheme:dark){body{background:#18181b;color:#eee}small{color:#aaa}}"
)
_STYLE_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
_HEADERS = {
    "content-security-policy": (
        f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; base-uri 'none'; "
        "form-action 'none'; frame-ancestors 'self'"
    ),
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "cache-control": "no-store",
    "vary": "accept-language",
}
_TAG = {"zh": "zh-CN", "en": "en"}
_PLATFORM = Text("楚算 Chusuan", "Chusuan 楚算")


@dataclass(frozen=True, slots=True)
class Said:
    """refresh_s: asks again by itself; 0 never."""

    title: str
    sentences: tuple[str, ...]
    note: str = ""
    refresh_s: int = 0


def page(said: Said, language: Language, status: int = 200) -> HTMLResponse:
    refresh = f'<meta http-equiv=refresh content="{said.refresh_s}">' if said.refresh_s else ""
    body = "".join(f"<p>{html.escape(sentence)}</p>" for sentence in said.sentences if sentence)
    note = html.escape(said.note)
    content = (
        f"<!doctype html><html lang={_TAG[language]}><meta charset=utf-8>{refresh}"
        "<meta name=viewport content='width=device-width'>"
        f"<title>{html.escape(said.title)}</title><style>{_STYLE}</style>"
        f"<h1>{html.escape(said.title)}</h1>{body}"
        f"<p><small>{_PLATFORM.render(language)}{f' · {note}' if note else ''}</small></html>"
    )
    return HTMLResponse(content, status, headers=_HEADERS)
