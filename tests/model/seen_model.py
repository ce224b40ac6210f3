#!/usr/bin/env python3
"""Model of what is last seen of a store (rules O1 and O2 of docs/ARCHITECTURE.md).

A store is a list of openings and the redo log's header, which has an epoch and names an opening; outside it a record has an epoch and an
opening. Every life of a few steps is tried, with a crash after each write, of which what was not synced is kept or not, and with copies
that are put back or go on. What must hold: a store that lost nothing is never refused, and one that was put back behind what was told,
or whose other copy was told of after they parted, always is. Then each mistake is made in turn, and has to be found.

Run by itself: python3 tests/model/seen_model.py"""

import itertools
from collections import namedtuple

# A list has pairs of an opening and the epoch that it went on from. `pending` is what was written and not synced.
Store = namedtuple("Store", "list epoch opening pending")
Record = namedtuple("Record", "epoch opening")
NEW = Store((), 1, 0, ())
MISTAKES = ["list not synced", "told before the header", "opening not named", "first epoch instead of the one before"]


def crashes(store):
    """What a power cut leaves: of two files that were not synced, each is as it was or as it was written."""
    for kept in itertools.product([False, True], repeat=len(store.pending)):
        after = store
        for (name, value), keep in zip(store.pending, kept):
            if keep:
                after = after._replace(**({"list": value} if name == "list" else dict(zip(("epoch", "opening"), value))))
        yield after._replace(pending=())


def reached(store, record, mistake):
    """Whether the store is where the record saw it, or comes from there."""
    if record is None:
        return True
    openings = list(store.list)
    if mistake != "opening not named":
        names = [opening for opening, _ in openings]
        if store.opening:
            openings = openings[:names.index(store.opening) + 1] if store.opening in names else [(store.opening, store.epoch)]
    names = [opening for opening, _ in openings]
    if record.epoch > store.epoch:
        return False
    if record.opening not in names:
        return record.opening == 0
    after = openings[names.index(record.opening) + 1:]
    if not after:
        return True
    if mistake == "first epoch instead of the one before":
        return record.epoch < after[0][1] + 2
    return record.epoch <= after[0][1]


def opens(store, record, opening, mistake):
    """Each state of an opening: store, and what is told by then."""
    names = [name for name, _ in store.list]
    known = store.list[:names.index(store.opening) + 1] if store.opening in names else store.list
    listed = known + ((opening, store.epoch),)
    if mistake == "opening not named":
        listed = store.list + ((opening, store.epoch),)
    header = (store.epoch + 2, opening)
    told = Record(*header)
    yield store._replace(pending=(("list", listed),)), record
    pending = (("list", listed),) if mistake == "list not synced" else ()
    base = store if pending else store._replace(list=listed)
    if mistake == "told before the header":
        record = told
    yield base._replace(pending=pending + (("header", header),)), record
    done = base._replace(epoch=header[0], opening=opening, pending=pending)
    yield done, record
    yield done, told


def opens_unlisted(store, record, opening):
    """The same where the list cannot be written, or it is not known whether it was: a full or failing disk."""
    header = (store.epoch + 2, store.opening)
    listed = (("list", store.list + ((opening, store.epoch),)),)
    yield store._replace(pending=listed), record
    yield store._replace(pending=listed + (("header", header),)), record
    done = store._replace(epoch=header[0], pending=listed)
    yield done, record
    yield done, Record(*header)


def checkpoints(store, record):
    header = (store.epoch + 1, store.opening)
    yield store._replace(pending=store.pending + (("header", header),)), record
    done = store._replace(epoch=header[0])
    yield done, record
    yield done, Record(*header)


def lives(mistake, length):
    """Lives of `length` openings with a checkpoint or none in each, and all states on the way."""
    def go(store, record, left, number):
        if not left:
            return
        for way in (opens(store, record, number, mistake), opens_unlisted(store, record, number)):
            states = list(way)
            states += checkpoints(*states[-1])
            for state, told in states:
                yield state, told
                for after in crashes(state):
                    yield after, told
                    if reached(after, told, mistake):
                        yield from go(after, told, left - 1, number + 1)
    yield from go(NEW, None, length, 1)


def whole(store, record, opening, mistake=None):
    """A life to its end, of a store that nothing happens to."""
    for store, record in opens(store, record, opening, mistake):
        pass
    for store, record in checkpoints(store, record):
        pass
    return store, record


def refused_in_health(mistake):
    """A store that lost nothing and is refused."""
    for store, record in lives(mistake, 3):
        for after in crashes(store):
            if not reached(after, record, mistake):
                return f"{after} after {record}"
    return None


def taken_in_sickness(mistake):
    """A store that was put back, or a copy that went on beside the one that was seen, and is taken."""
    for store, record in set(lives(mistake, 2)):
        for copy in crashes(store):
            # The original goes on by as little as is told: a checkpoint, or an opening.
            for original in (list(checkpoints(copy, record))[-1], whole(copy, record, 50, mistake)):
                seen = original[1]
                if not copy.opening:
                    continue
                if reached(copy, seen, mistake):
                    return f"{copy} put back after {seen}"
                other = copy
                for opening in range(60, 64):
                    other, _ = whole(other, None, opening, mistake)
                    if reached(other, seen, mistake):
                        return f"{other} went on beside {seen}"
    return None


def main():
    healthy, sick = refused_in_health(None), taken_in_sickness(None)
    assert healthy is None, healthy
    assert sick is None, sick
    print(f"{sum(1 for _ in lives(None, 3))} states: no store that lost nothing is refused, no other one is taken")
    for mistake in MISTAKES:
        found = refused_in_health(mistake) or taken_in_sickness(mistake)
        assert found, f"nobody notices: {mistake}"
        print(f"{mistake}: {found}")


if __name__ == "__main__":
    main()
