"""Words in the two languages of the platform, and the choice between them."""

from dataclasses import dataclass
from typing import Literal

Language = Literal["zh", "en"]


@dataclass(frozen=True, slots=True)
class Text:
    """One sentence in both languages; `{name}` marks what `render` fills in."""

    zh: str
    en: str

    def render(self, language: Language, **values: object) -> str:
        """A value that is itself a Text is rendered in the same language."""
        template = self.zh if language == "zh" else self.en
        words = {k: v.render(language) if isinstance(v, Text) else v for k, v in values.items()}
        return template.format(**words) if words else template


def preferred_language(accept_language: str | None) -> Language:
    """The caller's language by RFC 9110 §12.5.4; Chinese when nothing is said."""
    best: tuple[float, Language] = (0.0, "zh")
    for part in (accept_language or "").split(","):
        tag, _, parameters = part.strip().partition(";")
        language: Language | None = (
            "zh" if tag.lower().startswith("zh") else "en" if tag.lower().startswith("en") else None
        )
        if language is None:
            continue
        _, _, weight = parameters.partition("q=")
        try:
            quality = float(weight) if weight else 1.0
        except ValueError:
            quality = 0.0
        if quality > best[0]:
            best = (quality, language)
    return best[1]
