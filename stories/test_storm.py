"""Many sessions expire in the same second on two gates: when all goes well, and when a gate or the provider fails."""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack

import pytest

from harness.figures import Figures
from harness.storm import Reading, Storm

# A fault hits in the middle of that many, a quarter of which is refreshed by then.
SESSIONS = 240
BEFORE_THE_FAULT = SESSIONS // 4
# How often callers are told to come back later before the provider does: enough to see that they are.
TOLD_LATER = SESSIONS // 10
# How long the provider takes for a refresh then: there is always something on the wire.
SLOW_MS = 300
# For how long a provider that can be told so takes a refresh token again. The certified one never does.
GRACE_SECONDS = 60

Show = Callable[[Figures], None]


def test_sessions_that_expire_in_the_same_second(storm: Storm, show: Show, pytestconfig: pytest.Config) -> None:
    sessions = pytestconfig.getoption("sessions") or 2000
    storm.set_up()

    async def story(stack: AsyncExitStack) -> list[Reading]:
        return await storm.read_all(await storm.expired(stack, sessions))

    readings, seconds = storm.play(story)

    figures = storm.figures("expire in the same second", readings, seconds)
    show(figures)
    everybody_was_served(storm, readings)
    assert not any(reading.told_later for reading in readings)
    assert len({reading.token for reading in readings}) == sessions, "both gates serve what one request brought"
    assert figures.token_requests == sessions
    assert figures.reuse_detected == 0


def test_kill_9_of_a_gate_in_the_middle_of_refreshes(storm: Storm, show: Show) -> None:
    storm.set_up(GRACE_SECONDS)

    async def story(stack: AsyncExitStack) -> list[Reading]:
        callers = await storm.expired(stack, SESSIONS)
        storm.provider.delay_refreshes(SLOW_MS)
        reading = asyncio.create_task(storm.read_all(callers))
        await storm.until_refreshed(BEFORE_THE_FAULT, reading)
        storm.gates[0].process.kill()
        await asyncio.to_thread(storm.start_gate_again, 0)
        return await reading + await storm.read_all(await storm.callers(stack, 0))

    readings, seconds = storm.play(story)

    show(storm.figures("kill -9 of a gate", readings, seconds))
    requests = storm.provider.requests("token:refresh")
    on_the_wire = {one.sub for one in requests if one.fate == "client_left"}
    assert on_the_wire, "the kill hit nobody"
    lost = storm.lost()
    if storm.has_grace:
        assert not lost
    else:
        # The provider has used these up, and nobody but the dead gate was told what comes next: its requests were
        # cut, or their answers not saved yet. The other gate has lost none.
        assert on_the_wire <= lost.keys() == storm.abandoned()
    everybody_was_served(storm, readings)


def test_the_provider_restarts_in_the_middle_of_refreshes(storm: Storm, show: Show) -> None:
    storm.set_up(GRACE_SECONDS)

    async def story(stack: AsyncExitStack) -> list[Reading]:
        callers = await storm.expired(stack, SESSIONS)
        storm.provider.delay_refreshes(SLOW_MS)
        reading = asyncio.create_task(storm.read_all(callers))
        await storm.until_refreshed(BEFORE_THE_FAULT, reading)
        storm.note_high_water()
        # Without a grace it is asked to end, and does so in order: an answer that is lost would cost a session.
        end = storm.provider.process.kill if storm.has_grace else storm.provider.stop
        await asyncio.to_thread(end)
        await storm.until_told_later(TOLD_LATER, reading)
        await asyncio.to_thread(storm.provider.start_again)
        return await reading

    readings, seconds = storm.play(story)

    show(storm.figures("restart of the provider", readings, seconds))
    if storm.has_grace:
        assert any(reading.told_later for reading in readings), "the provider was never away"
    assert not storm.lost()
    everybody_was_served(storm, readings)


def test_answers_that_are_cut_after_the_provider_has_acted(storm: Storm, show: Show) -> None:
    storm.set_up(GRACE_SECONDS)
    cut: set[str] = set()

    async def story(stack: AsyncExitStack) -> list[Reading]:
        callers = await storm.expired(stack, SESSIONS)
        cut.update(list(storm.people.values())[::4])
        storm.provider.cut_answers_for(cut)
        return await storm.read_all(callers)

    readings, seconds = storm.play(story)

    show(storm.figures("answers cut", readings, seconds))
    assert storm.lost().keys() == (set() if storm.has_grace else cut)
    everybody_was_served(storm, readings)


def everybody_was_served(storm: Storm, readings: Sequence[Reading]) -> None:
    """Who is signed in has a token that lives, at both gates the same; who is not was told why; and nobody both."""
    lost = storm.lost()
    assert set(lost.values()) <= {"outcome_unknown"}
    assert not any(reading.is_stale for reading in readings)
    tokens = {user: {one.token for one in readings if one.user == user and one.token} for user in storm.people.values()}
    for reading in readings:
        expected = lost.get(reading.user)
        assert reading.is_gone or reading.ended == expected, reading
    for user, of_user in tokens.items():
        assert len(of_user) == (0 if user in lost else 1), user
    assert storm.refused_by_api([token for of_user in tokens.values() for token in of_user]) == 0
