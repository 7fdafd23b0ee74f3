"""What clients did and what they were told, and checkers over it.

A call is `ok` (answered with success), `failed` (refused: it has no effect) or `unknown` (no
answer, or a 5xx: it may have had its effect, now or later). The checkers take a history and what
the platform says at rest, and answer sentences about what was promised and is not so.
"""

import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Literal
from uuid import UUID

Outcome = Literal["ok", "failed", "unknown"]


@dataclass(slots=True)
class Call:
    """One try. what, key, value: what was to happen, under which key, to what. began, ended: by
    the client's monotonic clock."""

    client: str
    what: str
    key: str
    value: str
    began: float
    ended: float = 0.0
    outcome: Outcome = "unknown"
    said: str = ""


@dataclass(frozen=True, slots=True)
class Note:
    """What a history keeps of a call's tries; the fields of `Call`."""

    what: str
    key: str
    value: str


@dataclass
class History:
    calls: list[Call] = field(default_factory=list)

    def begin(self, client: str, what: str, *, key: str = "", value: str = "") -> Call:
        call = Call(client, what, key, value, time.monotonic())
        self.calls.append(call)
        return call

    def of(self, what: str, *outcomes: Outcome) -> list[Call]:
        return [c for c in self.calls if c.what == what and (c.outcome in outcomes or not outcomes)]

    def counts(self) -> Counter[str]:
        return Counter(f"{call.what} {call.outcome}" for call in self.calls)


def end(call: Call, outcome: Outcome, said: str = "") -> None:
    call.ended, call.outcome, call.said = time.monotonic(), outcome, said


def lost_writes(history: History, there: Mapping[str, str]) -> Iterator[str]:
    """Set: what was acknowledged is there; what is there was asked for and not refused. Keys are
    written once. there: value by key."""
    asked = {call.key: call.value for call in history.of("put")}
    for call in history.of("put", "ok"):
        if there.get(call.key) != call.value:
            yield f"{call.key} was acknowledged as {call.value[:12]}, is {there.get(call.key)}"
    for key, value in there.items():
        if key not in asked:
            yield f"{key} is there, and nobody wrote it"
        elif value != asked[key]:
            yield f"{key} is there as {value[:12]}, was never written so"


def wrong_sums(history: History, entries: Sequence[tuple[str, Decimal]]) -> Iterator[str]:
    """Bank: each acknowledged credit is one entry, each unknown one at most one, each refused one
    none. entries: note and amount of every credit at rest; notes are the clients' own."""
    found: dict[str, list[Decimal]] = defaultdict(list)
    for note, amount in entries:
        found[note].append(amount)
    outcomes: dict[str, set[Outcome]] = defaultdict(set)
    amounts: dict[str, Decimal] = {}
    for call in history.of("credit"):
        outcomes[call.key].add(call.outcome)
        amounts[call.key] = Decimal(call.value)
    for key, seen in outcomes.items():
        booked = found.pop(key, [])
        if len(booked) > 1:
            yield f"credit {key} is booked {len(booked)} times"
        if "ok" in seen and not booked:
            yield f"credit {key} was acknowledged and is not there"
        if seen == {"failed"} and booked:
            yield f"credit {key} was refused and is booked"
        for amount in booked:
            if amount != amounts[key]:
                yield f"credit {key} of {amounts[key]} is booked as {amount}"
    for note in found:
        yield f"credit {note} was never asked for"


def two_answers(history: History, what: str) -> Iterator[str]:
    """I11: one key, one answer."""
    answers: dict[str, set[str]] = defaultdict(set)
    for call in history.of(what, "ok"):
        answers[call.key].add(call.said)
    for key, said in answers.items():
        if len(said) > 1:
            yield f"{what} {key} was answered as {sorted(said)}"


@dataclass(frozen=True, slots=True)
class Holding:
    """So many cards of a host were used by this instance in this time, by the word of its engine.
    end: None while they are."""

    host: str
    cards: int
    instance: UUID
    begin: datetime
    end: datetime | None


def over_held(holdings: Sequence[Holding], has: Mapping[str, int]) -> Iterator[str]:
    """Lock: at no time are more of a host's cards in use than it has. It suffices to look when a
    use begins."""
    for one in holdings:
        others = [
            other
            for other in holdings
            if other.host == one.host
            and other.begin <= one.begin
            and (other.end is None or other.end > one.begin)
        ]
        used = sum(other.cards for other in others)
        if used > has[one.host]:
            yield f"{one.host} has {has[one.host]} cards, {used} in use at {one.begin}"
        if sum(other.instance == one.instance for other in others) > 1:
            yield f"instance {one.instance} runs twice at {one.begin}"


def unordered_starts(holdings: Iterable[Holding], ordered: Mapping[UUID, int]) -> Iterator[str]:
    """I6: each start that was ordered happens at most once. ordered: how many, by instance."""
    for instance, started in Counter(holding.instance for holding in holdings).items():
        if started > ordered.get(instance, 0):
            yield f"{instance} was started {started} times, ordered {ordered.get(instance, 0)}"


def falling(versions: Iterable[tuple[str, int]]) -> Iterator[str]:
    """Monotonic: what one reader sees of one thing never gets older. versions: as seen in turn."""
    newest: dict[str, int] = {}
    for name, version in versions:
        if version < newest.get(name, version):
            yield f"{name} went from version {newest[name]} to {version}"
        newest[name] = max(version, newest.get(name, version))


def effects_not_once(events: Iterable[UUID], effects: Iterable[UUID]) -> Iterator[str]:
    """Each event id has its effect exactly once."""
    counts = Counter(effects)
    for event in events:
        if counts[event] != 1:
            yield f"event {event} had its effect {counts[event]} times"
