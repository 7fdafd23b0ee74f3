"""What one check found: a verdict, a sentence and, where something is wrong, its cure."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from shared.text import Language, Text


class Verdict(StrEnum):
    """unknown: it could not be looked at; no fault in itself."""

    ok = "ok"
    wrong = "wrong"
    unknown = "unknown"


SIGNS: Mapping[Verdict, str] = {Verdict.ok: "✓", Verdict.wrong: "✗", Verdict.unknown: "–"}


@dataclass(frozen=True, slots=True)
class Finding:
    """about: a short name, the same in both languages."""

    about: str
    verdict: Verdict
    what: Text
    cure: Text | None = None

    def line(self, language: Language) -> str:
        cure = f" → {self.cure.render(language)}" if self.cure is not None else ""
        return f"{SIGNS[self.verdict]} {self.about}: {self.what.render(language)}{cure}"

    def document(self, language: Language) -> dict[str, object]:
        return {
            "about": self.about,
            "verdict": self.verdict.value,
            "what": self.what.render(language),
            "cure": self.cure.render(language) if self.cure is not None else None,
        }


def fine(about: str, zh: str, en: str) -> Finding:
    return Finding(about, Verdict.ok, Text(zh, en))


def wrong(about: str, what: tuple[str, str], cure: tuple[str, str]) -> Finding:
    return Finding(about, Verdict.wrong, Text(*what), Text(*cure))


def unknown(about: str, what: tuple[str, str], cure: tuple[str, str] | None = None) -> Finding:
    return Finding(about, Verdict.unknown, Text(*what), Text(*cure) if cure else None)
