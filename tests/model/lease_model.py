#!/usr/bin/env python3
"""Model of the lease on a store that several machines reach (rules L1 to L6 of docs/ARCHITECTURE.md).

Mounts share one register, the owner record, and a lock that is granted to all who ask: it excludes nobody here. Each of them may be
frozen between any two of its steps, for as long as it likes. Clocks drift: what is kept by an owner lasts as long as the slowest clock
makes it, and what a waiter waits is as short as the fastest clock makes it. Every order of steps is tried.

What must hold: once a mount has begun, which is when it recovers the store, no call of an earlier one reaches the log, and nothing
that a later one did not recover is acknowledged. Then each mistake is made in turn, and has to be found.

A call that was handed to the kernel may be carried out at any later time, and no process can look at a clock any more then. Such late
calls are tried too: with one log for all mounts they destroy, with a log for each mount they do not.

Run by itself: python3 tests/model/lease_model.py"""

import sys
from collections import deque, namedtuple

# In ticks. An owner keeps its lease so long at most, a waiter waits so long at least (L2, L4); a claim that took longer than CLAIM is
# none, and is looked at again after SETTLE at least (L3).
LEASE, WAIT, CLAIM, SETTLE = 6, 6, 1, 2
LONGEST = 7

# `age`: how long ago that began which it waits for. `changed`: the record that it watches was written since. `left`: what is left of its
# lease. `renewing`: how long ago the renewal began that it is at, and whether its record is written. `call`: what it has asked the disk
# for. `begun`: it has recovered the store. Times are no longer than matters, so that there are finitely many states.
Mount = namedtuple("Mount", "phase age changed left renewing call begun")
# `who`: the mount that the owner record names; `free` after a clean unmount. `last`: the mount that has begun last.
State = namedtuple("State", "who free mounts last")

OFF = Mount("off", 0, False, 0, None, None, False)
OUT = Mount("out", 0, False, 0, None, None, False)

MISTAKES = [
    "the lock alone is believed",
    "no margin for clocks that drift",
    "a lease that has run out is renewed",
    "the lease begins when its renewal is done",
    "a claim is not looked at again",
    "a claim counts however long it took",
    "the disk is asked without looking at the clock",
    "an answer of the disk is passed on without looking at the clock",
    "whoever has lost the store releases it",
]


class Violation(Exception):
    pass


class Rules:
    def __init__(self, mistake=None, late=False, own_log=False):
        self.mistake, self.late, self.own_log = mistake, late, own_log
        self.lease = LEASE + (1 if self.has("no margin for clocks that drift") else 0)

    def has(self, mistake):
        return self.mistake == mistake

    def steps(self, state):
        """All states that one step of one mount, or of time, leads to."""
        yield state._replace(mounts=tuple(self.later(mount) for mount in state.mounts))
        for me, mount in enumerate(state.mounts):
            if mount.phase != "out":
                yield from getattr(self, mount.phase)(state, me, mount)

    def later(self, mount):
        renewing = mount.renewing and (min(mount.renewing[0] + 1, LONGEST), mount.renewing[1])
        waits = mount.phase in ("watch", "claim", "claimed", "settle")
        age = min(mount.age + 1, LONGEST) if waits else 0
        return mount._replace(age=age, left=max(mount.left - 1, 0), renewing=renewing)

    def become(self, state, me, mount, **changes):
        mounts = state.mounts[:me] + (mount,) + state.mounts[me + 1:]
        return state._replace(mounts=mounts, **changes)

    def record(self, state, me, mount, free=False, who=None):
        """A mount writes the record, which others see that watch it."""
        mounts = tuple(other._replace(changed=True) if other.phase == "watch" else other for other in state.mounts)
        return self.become(state._replace(mounts=mounts), me, mount, who=me if who is None else who, free=free)

    # ---- who wants the store

    def off(self, state, me, mount):
        if state.free or self.has("the lock alone is believed"):
            yield self.become(state, me, mount._replace(phase="claim"))
        else:
            yield self.become(state, me, mount._replace(phase="watch"))

    def watch(self, state, me, mount):
        if mount.changed:
            yield self.become(state, me, OUT)
        elif mount.age >= WAIT:
            yield self.become(state, me, mount._replace(phase="claim", age=0))

    def claim(self, state, me, mount):
        """Since it has read the record for the last time."""
        yield self.record(state, me, mount._replace(phase="claimed"))

    def claimed(self, state, me, mount):
        if mount.age > CLAIM and not self.has("a claim counts however long it took"):
            yield self.become(state, me, OUT)
        else:
            left = max(self.lease - mount.age, 0)
            yield self.become(state, me, mount._replace(phase="settle", left=left, age=0))

    def settle(self, state, me, mount):
        looks = not self.has("a claim is not looked at again")
        if mount.age < SETTLE and looks:
            return
        if looks and (state.who != me or state.free) or not mount.left:
            yield self.become(state, me, OUT)
        else:
            yield self.become(state, me, mount._replace(phase="owner", age=0, begun=True), last=me)

    # ---- the owner

    def owner(self, state, me, mount):
        mine, alive = state.who == me and not state.free, mount.left > 0
        yield from self.renews(state, me, mount, mine, alive)
        yield from self.writes(state, me, mount, alive)
        idle = mount.call is None and mount.renewing is None
        if idle and (mine and alive or self.has("whoever has lost the store releases it")):
            yield self.record(state, me, OUT, free=True, who=state.who)

    def renews(self, state, me, mount, mine, alive):
        may_renew = alive or self.has("a lease that has run out is renewed")
        if mount.renewing is None:
            if may_renew and mine:
                yield self.become(state, me, mount._replace(renewing=(0, False)))
            elif may_renew:
                yield self.become(state, me, mount._replace(left=0, phase="lost"))
            return
        since, written = mount.renewing
        if not written:
            # Late: the clock was looked at before, and the call is carried out now.
            if may_renew or self.late:
                yield self.record(state, me, mount._replace(renewing=(since, True)))
        elif may_renew:
            ago = 0 if self.has("the lease begins when its renewal is done") else since
            yield self.become(state, me, mount._replace(left=max(self.lease - ago, 0), renewing=None))

    def lost(self, state, me, mount):
        """What it has asked for may still be carried out, and answered."""
        if mount.call:
            yield from self.writes(state, me, mount, False)

    def writes(self, state, me, mount, alive):
        """A write that has to be durable: it is asked for, carried out, and acknowledged."""
        if mount.call is None:
            if alive or self.has("the disk is asked without looking at the clock"):
                after = mount._replace(call="asked")
                yield self.become(state, me, after) if self.late else self.carried_out(state, me, after)
        elif mount.call == "asked":
            yield self.carried_out(state, me, mount)
        elif alive or self.has("an answer of the disk is passed on without looking at the clock"):
            if mount.call == "too late":
                raise Violation(f"mount {me} acknowledges what mount {state.last} has not recovered")
            yield self.become(state, me, mount._replace(call=None))

    def carried_out(self, state, me, mount):
        superseded = state.last != me
        if superseded and not self.own_log:
            raise Violation(f"mount {me} writes into the log of mount {state.last}")
        return self.become(state, me, mount._replace(call="too late" if superseded else "done"))


def starts(count):
    """A store that its owner left, and one that is in use."""
    yield State(None, True, (OFF,) * count, None)
    yield State(0, False, (OFF._replace(phase="owner", left=LEASE, begun=True),) + (OFF,) * (count - 1), 0)


def violation(rules, count):
    """What goes wrong first, and in how many states nothing did."""
    known = set()
    for start in starts(count):
        known.add(start)
        left = deque([start])
        while left:
            state = left.popleft()
            try:
                for after in rules.steps(state):
                    if after not in known:
                        known.add(after)
                        left.append(after)
            except Violation as found:
                return str(found), len(known)
    return None, len(known)


def main():
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 2
    found, states = violation(Rules(), count)
    assert found is None, found
    print(f"{states} states: nobody writes into another's log, nothing is acknowledged and lost")
    found, states = violation(Rules(late=True, own_log=True), 2)
    assert found is None, found
    print(f"{states} states with late calls and a log for each mount: neither")
    found, _ = violation(Rules(late=True), 2)
    assert found, "a late call does no harm"
    print(f"late calls and one log: {found}")
    for mistake in MISTAKES:
        late = mistake.startswith("an answer")
        found, _ = violation(Rules(mistake, late, own_log=late), 3 if "releases" in mistake or "lock" in mistake else 2)
        assert found, f"nobody notices: {mistake}"
        print(f"{mistake}: {found}")


if __name__ == "__main__":
    main()
