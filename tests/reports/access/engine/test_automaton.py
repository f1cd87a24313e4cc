"""The product automaton, compared with trying all short texts."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reports.access.engine.automaton import Atom, Part, Texts, TooManyStatesError, walk
from reports.access.engine.condition_operators import value_test

LETTERS = "xabA:"
HEADS = st.sampled_from(["", "a:b:c:d:", "*:*:?:*:", "a:*:"])
PATTERNS = st.tuples(HEADS, st.text("aAb*?:", max_size=4)).map("".join)
ATOMS = st.lists(
    st.builds(
        Atom,
        st.sampled_from("pq"),
        st.sampled_from(["text", "caseless", "like", "arn"]),
        st.lists(PATTERNS, max_size=2).map(tuple),
    ),
    max_size=3,
).map(tuple)
OWNERS = st.sampled_from(["p", "q", "pq"]).map(frozenset)
FORMS = st.tuples(
    st.builds(Part, OWNERS, st.sampled_from(["a:b:c:d:", "a"])),
    st.builds(Part, OWNERS, st.just(""), st.just("xaA"), st.just(2), st.just(True)),
    st.builds(Part, OWNERS, st.just(":")),
    st.builds(Part, OWNERS, st.just(""), st.just(LETTERS)),
)
EXCLUDED = st.sets(st.text("xaA", min_size=2, max_size=2), max_size=8).map(frozenset)


def results(parts: tuple[Part, ...], atoms: tuple[Atom, ...], texts: Texts) -> tuple[bool, ...]:
    """Return the results of the condition operators on texts for the parts."""
    attributes = {
        name: "".join(text for part, text in zip(parts, texts, strict=True) if name in part.attributes) for name in "pq"
    }
    return tuple(
        any(
            test(attributes[atom.attribute])
            for value in atom.values
            if (test := value_test(atom.family, value)) is not None
        )
        for atom in atoms
    )


@given(FORMS, ATOMS, EXCLUDED)
def test_walk_finds_every_combination_and_no_other(
    parts: tuple[Part, ...], atoms: tuple[Atom, ...], excluded: frozenset[str]
) -> None:
    """Every combination that a short text has is found, and the text found for a combination has it."""
    found = walk(parts, atoms, excluded)
    assert all(results(parts, atoms, texts) == combination for combination, texts in found.items())
    exact = [text for pair in itertools.product("xaA", repeat=2) if (text := "".join(pair)) not in excluded]
    free = ["".join(letters) for length in (1, 2, 3) for letters in itertools.product(LETTERS, repeat=length)]
    head, _, colon, _ = parts
    tried = {results(parts, atoms, (head.literal, *two, colon.literal, tail)) for two in zip(exact) for tail in free}
    assert tried <= found.keys()


def test_too_many_combinations_are_an_error() -> None:
    """Patterns whose combinations are too many to walk raise an error instead of returning some of them."""
    atoms = tuple(Atom("p", "like", (f"*{letter}*",)) for letter in "abcdefghijklmno")
    with pytest.raises(TooManyStatesError):
        walk((Part(frozenset("p"), alphabet="abcdefghijklmnop"),), atoms)
