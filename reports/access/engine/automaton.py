"""The product automaton: the combinations of conditions that texts of one form can satisfy, each with a shortest text.

All conditions on a caller are patterns over parts of one text, such as an ARN. Walking the sets of positions that a text
reaches in each pattern, over the characters that the patterns contain plus one other, visits every combination that some
text satisfies. A combination that the walk does not visit is impossible.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from reports.access.engine.wildcards import unescape

_MAX_STATES = 20_000


class TooManyStatesError(Exception):
    """The patterns are too many or too complex to try all combinations."""


@dataclass(frozen=True, slots=True)
class Part:
    """A part of the text: literal, or ``minimum`` or more characters of an alphabet (exactly ``minimum`` if ``exact``)."""

    attributes: frozenset[str]
    """The attributes that the part belongs to."""
    literal: str = ""
    alphabet: str = ""
    minimum: int = 1
    exact: bool = False


@dataclass(frozen=True, slots=True)
class Atom:
    """A condition on an attribute: it equals or matches one of the values."""

    attribute: str
    family: str
    """text, caseless, like or arn."""
    values: tuple[str, ...]


State = tuple[int, ...]
"""For each atom, the set of positions that the text reaches in its patterns, as bits."""
Texts = tuple[str, ...]


@lru_cache(maxsize=8_192)
def walk(
    parts: tuple[Part, ...], atoms: tuple[Atom, ...], excluded: frozenset[str] = frozenset()
) -> dict[tuple[bool, ...], Texts]:
    """Return the combinations of the atoms' results that some text has, each with a shortest text by parts.

    Exact parts do not take the ``excluded`` texts. Raises TooManyStatesError.
    """
    matchers = [_matcher(atom.family, atom.values) for atom in atoms]
    states: dict[State, Texts] = {tuple(matcher.initial for matcher in matchers): ()}
    for part in parts:
        readers = tuple(
            matcher if atom.attribute in part.attributes else None
            for atom, matcher in zip(atoms, matchers, strict=True)
        )
        following: dict[State, Texts] = {}
        for state, texts in _after(part, readers, states, excluded if part.exact else frozenset()):
            following.setdefault(state, texts)
        states = following
    combinations: dict[tuple[bool, ...], Texts] = {}
    for state, texts in states.items():
        accepted = (bool(matcher.final & positions) for matcher, positions in zip(matchers, state, strict=True))
        combinations.setdefault(tuple(accepted), texts)
    return combinations


def _after(
    part: Part, readers: tuple[_Matcher | None, ...], states: dict[State, Texts], excluded: frozenset[str]
) -> Iterator[tuple[State, Texts]]:
    """Yield the states after a part, the shortest texts first."""
    if part.literal:
        for state, texts in states.items():
            yield _step(readers, state, part.literal), (*texts, part.literal)
        return
    alphabet = part.alphabet if excluded else _relevant(part.alphabet, readers)
    # A text that leads to an excluded one is a state of its own until it differs.
    prefixes = {text[:length] for text in excluded for length in range(1, len(text) + 1)}
    layer = {(0, state, ""): (texts, "") for state, texts in states.items()}
    seen = set(layer)
    while layer:
        following: dict[tuple[int, State, str], tuple[Texts, str]] = {}
        for (count, state, _), (texts, text) in layer.items():
            for character in alphabet if not part.exact or count < part.minimum else "":
                longer = text + character
                key = (
                    min(count + 1, part.minimum),
                    _step(readers, state, character),
                    longer if longer in prefixes else "",
                )
                if key not in seen:
                    seen.add(key)
                    following[key] = (texts, longer)
        if len(seen) > _MAX_STATES:
            raise TooManyStatesError
        for (count, state, _), (texts, text) in following.items():
            if count == part.minimum and text not in excluded:
                yield state, (*texts, text)
        layer = following


def _step(readers: tuple[_Matcher | None, ...], state: State, text: str) -> State:
    return tuple(
        [
            positions if reader is None else reader.after(positions, text)
            for reader, positions in zip(readers, state, strict=True)
        ]
    )


def _relevant(alphabet: str, readers: tuple[_Matcher | None, ...]) -> str:
    """Return the characters that the patterns distinguish, after one that they do not contain."""
    distinguished = {character for reader in readers if reader is not None for character in reader.characters}
    other = next((character for character in alphabet if character not in distinguished), "")
    return other + "".join(character for character in alphabet if character in distinguished)


class _Matcher:
    """The positions in the patterns of one atom, as the bits of one number; a pattern of n tokens has n + 1 positions."""

    def __init__(self, family: str, values: tuple[str, ...]) -> None:
        caseless = family == "caseless"
        self._next: dict[tuple[int, str], int] = {}
        self._advance: dict[str, tuple[int, int]] = {}
        self.initial = self.final = self._stars = self._universal = 0
        tokens: list[tuple[int, str, bool]] = []
        base = 0
        for value in values:
            pattern = _tokens(family, value)
            if pattern is None:
                continue
            self.initial |= 1 << base
            tokens += ((1 << base + offset, *token) for offset, token in enumerate(pattern))
            if pattern and pattern[-1] == ("*", True):
                self._universal |= 1 << base + len(pattern) - 1
            base += len(pattern) + 1
            self.final |= 1 << base - 1
        self.characters = {character for _, token, wild in tokens if not wild for character in token}
        if any(wild and not token.strip("*?:") and token.endswith(":") for _, token, wild in tokens):
            self.characters.add(":")
        if caseless:
            self.characters |= {character.upper() for character in self.characters}
        for character in (*self.characters, ""):
            folded = character.lower() if caseless else character
            advance = stay = 0
            for bit, token, wild in tokens:
                if wild and not (token.endswith(":") and character == ":"):
                    advance |= bit if token[0] == "?" else 0
                    stay |= bit if token[0] == "*" else 0
                elif not wild and token == folded:
                    advance |= bit
            self._advance[character] = advance, stay
        self._stars = sum(bit for bit, token, wild in tokens if wild and token[0] == "*")
        self._saturated = self._universal & -self._universal
        self._saturated |= self._saturated << 1
        self.initial = self._closed(self.initial)

    def after(self, positions: int, text: str) -> int:
        """Return the positions after more text."""
        known = self._next.get((positions, text))
        if known is None:
            known = positions
            for character in text:
                advance, stay = self._advance.get(character) or self._advance[""]
                known = self._closed((known & advance) << 1 | known & stay)
            self._next[positions, text] = known
        return known

    def _closed(self, positions: int) -> int:
        """Add the positions after stars. Once a pattern accepts any continuation, no other position matters."""
        positions |= (positions & self._stars) << 1
        return self._saturated if positions & self._universal else positions


def _tokens(family: str, value: str) -> list[tuple[str, bool]] | None:
    """Return the tokens of a pattern, each with whether it is a wildcard; ``*:`` and ``?:`` match no colon."""
    if family in {"text", "caseless"}:
        text = unescape(value)
        return [(character, False) for character in (text.lower() if family == "caseless" else text)]
    if family == "arn" and not value.strip("*"):
        value, family = "arn:*", "like"
    pieces = value.split(":", 5) if family == "arn" else [value]
    if family == "arn" and len(pieces) < 6:
        return None
    tokens: list[tuple[str, bool]] = []
    for index, piece in enumerate(pieces):
        last = index == len(pieces) - 1
        for character in piece:
            token = (
                (character if last else f"{character}:", True) if character in "*?" else (unescape(character), False)
            )
            if token[0][0] != "*" or not token[1] or tokens[-1:] != [token]:
                tokens.append(token)
        if not last:
            tokens.append((":", False))
    return tokens


@lru_cache(maxsize=4_096)
def _matcher(family: str, values: tuple[str, ...]) -> _Matcher:
    return _Matcher(family, values)
