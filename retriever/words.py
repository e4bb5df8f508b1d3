"""Query texts: what is taken out of them before encoding, and notes for the user on it.

A text may hold what prompts of image models have (weights, embeddings, LoRA tags), say what a
garment should not be, stand in a language that the encoder never saw, or be longer than it reads.
Every host takes texts through `plain_words`, so that the same query finds the same garments.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from typing import Any

_WEIGHT = re.compile(r"([^()]*):\s*[+-]?(?:\d(?:\.\d*)?|\.\d+)\s*")
_EMPHASIS = re.compile(r"\(([^()]*)\)")
_BRACKET = re.compile(r"([()])")
_WHOLE = re.compile(r"\s*\(([^()]*)\)\s*")
_EMBEDDING = re.compile(r"(?<![^\s(,])embedding:[^\s,，;；)]+[\s,，;；]*", re.IGNORECASE)
_TAG = re.compile(r"<(?:lora|lyco|hypernet):[^<>]*>[\s,]*", re.IGNORECASE)
_ESCAPED = {"\\(": "\ue000", "\\)": "\ue001"}

_SEPARATOR = re.compile(r"[,;\n\r、，；،؛。\u2028\u2029]")
_NEGATION = re.compile(
    r"\b(?:not|without|no(?![.\w])|never|neither|nor|except|excluding|instead of|rather than|"
    r"\w+n['’]t|sans|pas de|ohne|nicht|kein\w*|sin|senza)\b|"
    r"\b(?:не|без)\b|不是|不要|不带|没有|無し|なし",
    re.IGNORECASE,
)

_SCRIPTS = {
    "CJK": "Chinese or Japanese", "HIRAGANA": "Japanese", "KATAKANA": "Japanese",
    "HANGUL": "Korean", "CYRILLIC": "Russian or another language in Cyrillic letters",
    "ARABIC": "Arabic or Persian", "HEBREW": "Hebrew", "GREEK": "Greek", "THAI": "Thai",
    "DEVANAGARI": "Hindi", "BENGALI": "Bengali", "TAMIL": "Tamil", "GEORGIAN": "Georgian",
    "ARMENIAN": "Armenian",
}  # fmt: skip

# Words for garments, colours and what joins them that are no English words of fashion.
_FOREIGN = {
    "French": "robe rouge bleu bleue vert verte noir noire blanc blanche jaune rose gris grise "
    "chemise chemisier jupe pantalon veste manteau pull haut avec sans manches manche longues "
    "longue courtes courte en et pour femme homme fleurs soie coton laine cuir dentelle de à une "
    "un le la les du des col rayures",
    "German": "kleid rotes rote roter rot blaues blaue blauer blau grünes grüne grün schwarzes "
    "schwarze schwarz weißes weiße weiß gelbes gelbe gelb hemd bluse rock hose jacke mantel mit "
    "ohne und langen kurzen ärmeln lange kurze aus seide wolle baumwolle leder damen herren ein "
    "eine der die das für gestreift geblümt",
    "Spanish": "vestido rojo roja azul verde negro negra blanco blanca amarillo amarilla camisa "
    "blusa falda pantalón chaqueta abrigo con sin mangas manga largas larga cortas corta de y para "
    "mujer hombre flores seda algodón lana cuero una un el la los las del rayas",
    "Italian": "vestito abito rosso rossa blu verde nero nera bianco bianca giallo gialla camicia "
    "gonna pantaloni giacca cappotto maglia con senza maniche manica lunghe lunga corte corta di e "
    "per donna uomo fiori seta cotone lana pelle una un il la gli le del righe",
    "Portuguese": "vestido vermelho vermelha azul verde preto preta branco branca amarelo camisa "
    "saia calça jaqueta casaco com sem mangas manga longas longa curtas curta de e para mulher "
    "homem flores seda algodão couro uma um o a os as do da listras",
    "Dutch": "jurk rode rood blauwe blauw groene groen zwarte zwart witte wit gele geel overhemd "
    "rok broek jas trui met zonder lange korte mouwen van en voor dames heren bloemen zijde katoen "
    "wol leer een de het gestreept",
    "Polish": "sukienka czerwona niebieska zielona czarna biała żółta koszula spódnica spodnie "
    "kurtka płaszcz z bez długie krótkie rękawy rękawami i dla w kwiaty jedwab bawełna",
    "Turkish": "elbise kırmızı mavi yeşil siyah beyaz sarı gömlek etek pantolon ceket mont uzun "
    "kısa kollu ve ile kadın erkek çiçekli",
}  # fmt: skip
_WORDS = {language: frozenset(words.split()) for language, words in _FOREIGN.items()}
_ALSO_ENGLISH = frozenset("robe rose a as e i o y de la le un die het en for with no".split())


def noun_chunks(text: str) -> tuple[str, ...]:
    """Split a text at commas, semicolons and line ends, of any script; empty parts are left out."""
    return tuple(part.strip() for part in _SEPARATOR.split(text) if part.strip())


def plain_words(text: str) -> tuple[str, tuple[str, ...]]:
    """Return a query's text as an encoder gets it, and a note on all that was taken out.

    `(red dress:1.3)` becomes `red dress`; `embedding:NAME` and `<lora:NAME:1>` are left out.
    """
    words = text
    for escaped, stand_in in _ESCAPED.items():
        words = words.replace(escaped, stand_in)
    notes = []
    words, embeddings = _EMBEDDING.subn("", words)
    words, tags = _TAG.subn("", words)
    before, weights = words, 0
    for pattern in (_WEIGHT, _EMPHASIS):
        words, count = _without_brackets(words, pattern)
        weights += count
    if match := _WHOLE.fullmatch(words):
        words, weights = match[1], weights + 1
    if weights:
        notes.append(
            f"A search knows no weights: {_quoted(before)} is read as {_quoted(words)}. To "
            "make parts count the same, take chunks singly."
        )
    if embeddings or tags:
        what = "embedding:NAME" if embeddings else "<lora:...>"
        notes.append(f"{what} is not searched for: an encoder reads words alone; it was taken out.")
    if embeddings or tags or weights:
        words = words.strip().strip(",;，；").strip()
    for letter, stand_in in (("(", "\ue000"), (")", "\ue001")):
        words = words.replace(stand_in, letter)
    return words, tuple(notes)


def _without_brackets(text: str, pattern: re.Pattern[str]) -> tuple[str, int]:
    """Put the first group of `pattern` in the place of brackets whose whole content matches it.

    Inner brackets come before outer ones. Returns the text, and how many brackets were replaced.
    """
    first, *rest = _BRACKET.split(text)
    count, levels = 0, [[first]]  # a level is what stands in brackets that are still open
    for bracket, words in zip(rest[::2], rest[1::2], strict=True):
        if bracket == "(":
            levels.append([words])
            continue
        if len(levels) == 1:  # opened nowhere
            levels[0] += [bracket, words]
            continue
        content = "".join(levels.pop())
        match = pattern.fullmatch(content)
        count += match is not None
        levels[-1] += [match[1] if match else f"({content})", words]
    return "(".join(map("".join, levels)), count


def remarks(text: str, encoder: Any) -> list[str]:
    """Note which negations, which language and which end of a text an encoder does not read."""
    notes = []
    if match := _NEGATION.search(text):
        notes.append(
            f"{_quoted(text)} says {_quoted(match[0])}: an encoder sees the words beside it and "
            "not the negation. Say what it should be, and put what it should not be into "
            "negative_text (`--negative`)."
        )
    language = None if getattr(encoder, "multilingual", False) else language_of(text)
    if language:
        notes.append(
            f"{_quoted(text)} seems to be {language}: the encoder {encoder.name!r} was trained on "
            "English, so what is found is arbitrary. Ask in English, or use an encoder of many "
            "languages."
        )
    count = getattr(encoder, "count_tokens", None)
    if count is not None:
        limit = encoder.context_length
        if (tokens := count(text)) > limit:
            notes.append(
                f"The text is {tokens} tokens long, the encoder reads {limit}: its end, "
                f"{_quoted(_beyond(text, count, limit))}, is not searched for. Shorten it, or "
                "separate its parts by commas and take chunks singly."
            )
    return notes


def language_of(text: str) -> str | None:
    """Guess the language of a text; None where it may be English.

    Letters of another script tell, else words: at least half of them must belong to one language,
    and one of them to no English.
    """
    for letter in text:
        if letter.isalpha() and not letter.isascii():
            script = unicodedata.name(letter, "").replace("FULLWIDTH ", "").split(" ")[0]
            if script.split("-")[0] not in ("LATIN", "MODIFIER", "FEMININE", "MASCULINE", "MICRO"):
                return _SCRIPTS.get(script.split("-")[0], "another language than English")
    words = re.findall(r"[^\W\d_]+", unicodedata.normalize("NFC", text).lower())
    counts = {
        language: sum(word in known for word in words)
        for language, known in _WORDS.items()
        if any(word in known and word not in _ALSO_ENGLISH for word in words)
    }
    best = max(counts, key=counts.get, default=None)
    return best if best and 2 * counts[best] >= len(words) else None


def _beyond(text: str, count: Callable[[str], int], limit: int) -> str:
    """Return the words of a text beyond the number of tokens that an encoder reads."""
    words = text.split()
    low, high = 0, len(words)  # `low` words fit, `high` don't
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if count(" ".join(words[:middle])) <= limit else (low, middle)
    return " ".join(words[low:])


def _quoted(text: str) -> str:
    text = " ".join(text.split())
    return f"“{text if len(text) <= 60 else text[:57].rstrip() + '...'}”"
