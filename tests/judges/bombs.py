"""The bomb corpus: documents made to be expensive to read, check or answer."""

from collections.abc import Callable, Iterator

ROOM = 60_000
"""A bomb fits into a message of a socket (64 KiB), so that it goes off if it can."""
TYPES = "name kind description"


def bombs() -> Iterator[tuple[str, str]]:
    """Each with a name, cut to fit."""
    for doublings in range(10, 90, 10):
        yield f"fragments doubled {doublings} times", doubled(doublings, "id")
        yield f"fragments doubled {doublings} times under fields", nested_doubled(doublings)
    yield "a cycle of fragments", "{ viewer { ...A } } " + _cycle(40)
    yield "200 fragments that overlap", overlapping(200)
    yield "50 fragments that overlap", overlapping(50)
    yield "10 000 aliases", _until_full("{", lambda n: f" a{n}: __typename", "}", 10_000)
    yield "aliases of a list", _until_full("{", lambda n: f" a{n}: customers {{ totalCount }}", "}")
    yield "one field, again and again", _until_full("{", lambda _: " viewer { actor { id } }", "}")
    yield "7 in 7 in 7", repeated("business", 3, 7)
    yield "2 in 2, eight deep", repeated("business", 8, 2)
    yield "10 in 10", repeated("business", 2, 10)
    yield "nested 3 000 deep", "{ a " * 3_000 + "}" * 3_000
    yield "nested 12 deep", "{ viewer " + "{ business " * 11 + "{ id }" + "}" * 12
    yield "inline fragments, 3 000 deep", "{ ...{ " * 2_500 + "__typename" + " } }" * 2_500
    yield "lists 10 000 deep", f"{{ node(id: {'[' * 10_000}{']' * 10_000}) {{ id }} }}"
    yield (
        "objects 5 000 deep",
        f"{{ customers(filter: {'{a: ' * 5_000}1{'}' * 5_000}) {{ totalCount }} }}",
    )
    yield (
        "types of lists 10 000 deep",
        f"query($a: {'[' * 10_000}Int{']' * 10_000}) {{ __typename }}",
    )
    yield "a huge text", f'{{ node(id: "{"x" * 59_000}") {{ id }} }}'
    yield "a huge block of text", f'{{ node(id: """{"x" * 100}{chr(10) * 29_000}""") {{ id }} }}'
    yield "a huge number", f"{{ customers(first: {'9' * 59_000}) {{ totalCount }} }}"
    yield "a huge fraction", f"{{ customers(first: 0.{'9' * 59_000}) {{ totalCount }} }}"
    yield "a huge exponent", f"{{ customers(first: 1e{'9' * 50_000}) {{ totalCount }} }}"
    yield "a huge name", f"{{ {'x' * 59_000} }}"
    yield "a long list", f"{{ node(id: [{'1,' * 29_000}]) {{ id }} }}"
    yield (
        "a wide object",
        _until_full("{ customers(filter: {", lambda n: f"a{n}: 1 ", "}) { totalCount } }"),
    )
    yield "escapes", f'{{ node(id: "{chr(92)}u0041{f"{chr(92)}u0041" * 8_000}") {{ id }} }}'
    yield "directives", "{ __typename " + "@skip(if: false) " * 3_400 + "}"
    yield "unknown directives", "{ __typename " + "@a " * 19_000 + "}"
    yield "directives on fields", _until_full("{", lambda _: " __typename @include(if: true)", "}")
    yield "comments", "#" * 100 + "\n#" * 19_000 + "\n{ __typename }"
    yield "commas", "{ __typename " + "," * 59_000 + "}"
    yield "variables", _until_full("query(", lambda n: f"$a{n}: Int ", ") { __typename }")
    yield "operations", _until_full("", lambda n: f"query Q{n} {{ __typename }} ", "")
    yield "operations without names", "{ __typename } " * 3_900
    yield "introspection of types of types", introspection(14)
    yield "introspection, 100 deep", introspection(100)
    yield (
        "introspection of fields of types of fields",
        ("{ __schema { types { fields { type { fields { type { fields { name } } } } } } } }"),
    )
    yield (
        "introspection, again and again",
        _until_full("{", lambda n: f" a{n}: __schema {{ types {{ {TYPES} }} }}", "}"),
    )
    yield (
        "introspection within the limits",
        "{ __schema { types { fields { args { type { name } } } } } }",
    )
    yield "unknown fields", _until_full("{", lambda n: f" abcdefgh{n}", "}")
    yield "unknown fields, likely ones", _until_full("{", lambda n: f" viewe{n}", "}", 300)
    yield "braces that never close", "{" * 59_000
    yield "braces that never opened", "}" * 59_000
    yield "a quote that never closes", '{ node(id: "' + "x" * 59_000
    yield "nothing of GraphQL", "\u202e" * 15_000


def doubled(times: int, leaf: str) -> str:
    """Each fragment spreads the next one twice."""
    chain = (f"fragment F{n} on Business {{ ...F{n + 1} ...F{n + 1} }}" for n in range(times))
    end = f"fragment F{times} on Business {{ {leaf} }}"
    return " ".join(["{ viewer { business { ...F0 } } }", *chain, end])


def nested_doubled(times: int) -> str:
    """Each fragment spreads the next one in two fields."""
    chain = (
        f"fragment F{n} on Card {{ a: customer {{ cards {{ nodes {{ ...F{n + 1} }} }} }}"
        f" b: customer {{ cards {{ nodes {{ ...F{n + 1} }} }} }} }}"
        for n in range(times)
    )
    return " ".join(
        ['{ node(id: "none") { ...F0 } }', *chain, f"fragment F{times} on Card {{ id }}"]
    )


def overlapping(count: int) -> str:
    """Fragments that all select the same, all spread in one place."""
    spreads = " ".join(f"...F{n}" for n in range(count))
    parts = (
        f"fragment F{n} on Business {{ id name mode timezone currency }}" for n in range(count)
    )
    return " ".join([f"{{ viewer {{ business {{ {spreads} }} }} }}", *parts])


def repeated(field: str, levels: int, times: int) -> str:
    """A field so many times in itself, and so on."""
    inner = "id"
    for _ in range(levels):
        inner = f"{field} {{ {inner} }} " * times
    return f"{{ viewer {{ {inner} }} }}"[:ROOM]


def introspection(levels: int) -> str:
    """The type of a type of a type."""
    return (
        "{ __schema { types { fields { type { "
        + "ofType { " * levels
        + "name"
        + " }" * levels
        + " } } } } }"
    )


def _cycle(count: int) -> str:
    names = [chr(65 + n // 26) + (chr(65 + n % 26) if n else "") for n in range(count)]
    names[0] = "A"
    return " ".join(
        f"fragment {name} on Viewer {{ ...{following} }}"
        for name, following in zip(names, [*names[1:], names[0]], strict=True)
    )


def _until_full(start: str, part: Callable[[int], str], end: str, most: int = 60_000) -> str:
    parts, room = [start], ROOM - len(start) - len(end)
    for number in range(most):
        room -= len(part(number))
        if room < 0:
            break
        parts.append(part(number))
    return "".join([*parts, end])
