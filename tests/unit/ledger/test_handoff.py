"""The loop lends the interpreter while a commit is under way, ever more rarely, and not at all otherwise."""

import asyncio

from gateway.ledger.handoff import ANSWER_LEND_S, FIRST_PAUSE_S, LEND_S, Handoff


class Watched(Handoff):
    """Keeps a list of the moments that it lent, and the milestone that each waited for."""

    def __init__(self, loop):
        super().__init__(loop)
        self.lent = []

    def _reaches(self, milestone, patience_s):
        self.lent.append((milestone, patience_s))
        return super()._reaches(milestone, patience_s)


async def turns(count):
    for _ in range(count):
        await asyncio.sleep(0)


async def test_it_lends_until_the_statements_are_done():
    handoff = Watched(asyncio.get_running_loop())
    handoff.begin()
    handoff.begin()
    await turns(4)
    assert handoff.lent == [(1, LEND_S)] * len(handoff.lent)
    assert 2 <= len(handoff.lent) <= 5
    handoff.statements_done()
    await turns(3)
    lent = len(handoff.lent)
    await turns(3)
    assert len(handoff.lent) == lent
    handoff.rest()


async def test_it_lends_more_and_more_rarely_until_the_answer_comes():
    handoff = Watched(asyncio.get_running_loop())
    handoff.statements_done()
    handoff.begin()
    await asyncio.sleep(40 * FIRST_PAUSE_S)
    lent = [patience for milestone, patience in handoff.lent if milestone == 2]
    assert lent == [ANSWER_LEND_S] * len(lent)
    assert 1 <= len(lent) <= 6
    handoff.commit_done()
    handoff.answered(more=False)
    before = len(handoff.lent)
    await asyncio.sleep(50 * FIRST_PAUSE_S)
    assert len(handoff.lent) == before


async def test_milestones_of_answered_batches_are_skipped():
    """A thread that is faster than the loop leaves milestones behind; they must not count for the next batch."""
    handoff = Watched(asyncio.get_running_loop())
    handoff.statements_done()
    handoff.commit_done()
    handoff.answered(more=True)
    await turns(3)
    assert {milestone for milestone, _ in handoff.lent} == {3}
    assert len(handoff.lent) >= 2
    handoff.rest()
