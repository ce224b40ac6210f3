#!/usr/bin/env python3
"""The commit protocol of an encrypting file system's store, stated as rules and checked by crashing a model of it.

    python3 tests/model/commit_model.py --seconds 600 --seed 1

On an idle machine ten minutes are enough for every seeded mistake to be caught; in a minute some are not.

The model crashes workloads at every system call (a kill, where the page cache survives; power cuts, where any subset
of unsynced sectors does), recovers, crashes recovery too, lives on from what is left, and compares what is read with
what users wrote and were told. Then an attacker recombines the disk. Last, one rule at a time is broken: a named
workload must notice. Exit status 1 on any violation and on any seeded bug not caught.

LAYOUT
 L1 Object file: header block (object id, place of the sidecar; the seal; tag entries of the first chunks), these
    chunks, then groups of a table page (tag entries) and its chunks. A node (hashes of its children) stands before
    its second child, wherever the length admits two. Sidecar: the wrapped data key, in units of one segment file.
 L2 A seal is (object id, sequence, length, root) under a MAC; the root covers the header's entries and the tree. The
    sequence grows by one a commit, nonces never repeat. A sidecar has a MAC of its own, over the object id too.
 L3 A page or node whose hash is null is empty and never read from the disk, and is written whole when it fills.
 L4 Log: one file; its header holds an epoch, each record its epoch, place, checksum, object id and a hint (the path
    the object had when it first appended in this epoch). Records: bytes at an offset of the object file; bytes at an
    offset of the segment; a mark, which commits and carries the object file's length; dead. No format, no key.
WRITE
 W1 A chunk is quiet if the latest committed state does not refer to it, every commit that dropped it is known durable
    (C5), and the log holds no record of it since the last checkpoint, committed or not.
 W2 Quiet chunks are written straight home, all other chunks to the log at once. Decided and done under the object's
    lock. Reads look first in an index of all bytes that the log holds, then at home.
 W3 Header block, pages and nodes are never written straight home after the first commit, quiet or not: they vouch for
    more than what is new (a node for older pages, a new page for holes inside a durable length).
 W4 Lengths, punches and tables change in memory only, until a commit. Where the length changes inside a partial last
    chunk or past it, by a hole too, that chunk is encrypted again and written by W2.
 W5 Writes straight home are numbered. Of an object that was durable once, or is about to be, their chunks are noted with
    a checksum until a sync covers them.
 W6 A chunk, page or node that is quiet in the sense of W1, and that the present state does not have, may be punched out:
    zeros straight home. No state refers to a page or node of zeros, and none is read (L3); so W3 has nothing to lose.
COMMIT (under the object's lock)
 C1 The first call of commit for a new object, and only that call, changed or not, is direct: header block, pages,
    node, file length and sidecar straight home, nothing in the log.
 C2 Every later one appends the changed byte ranges of header block, pages and nodes, then a mark.
 C3 A mark commits every record of its object before it. So whatever appends a mark is a whole commit: a re-wrap is a
    commit with the new sidecar record, and carries all other changes (or has none). It touches no object file.
 C4 close commits, syncs nothing and appends no sidecar record.
 C5 Each commit notes its sequence for the chunks it drops. A commit is known durable when an fsync of its object
    (F1 to F3) or a checkpoint (to K6) has ended; a sync of the log for somebody else makes nothing known durable.
 C6 A mark, under the store's key, says up to which number home writes are synced, and lists those of the commit that are
    neither synced nor listed by an earlier mark of the epoch; whether nothing else of the object is in doubt (settled).
 C7 Before fsync syncs the log, a mark says that everything listed is synced, one more if need be.
FSYNC
 F1 Make the first commit, if there was none; F2; commit; F2 again if others have written home since; if the sidecar is not known durable, with a sidecar record (and a mark even if nothing else changed).
 F2 If chunks or the first commit went straight home and no completed sync covers that: fsync the object file.
 F3 fdatasync the log. Waiters share one call only if it starts after each of them has appended.
 F4 If the name is not known durable: fsync the directory. Then acknowledge.
 F5 What a sync covers is counted: take the counter before it starts, record it as synced when it has ended.
 F6 Births (N4) and heads of the log are under a key of the store, which the attacker does not have.
NAMES AND UNITS
 N1 create makes a name and an empty file. unlink and rename: one system call; a moved name is not known durable.
 N2 Rename over an object: F1 to F3 for the source first, then the system call.
 N3 An object is dead when no name and no handle refers to it. A dead record may then be appended. It says only that a
    missing object is no damage: if recovery finds the object (the unlink was not durable), all its records count.
 N4 A new object's inode carries its birth: object id, inode, epoch; while a checkpoint runs, of the epoch to come. It comes to
    the disk with the inode.
 U1 A unit is used only if it reads as zero and was not given out since the mount. A list of free units is a hint.
 U2 Units of the dead are freed, by zeroing, in a checkpoint that began after the death, once the directories of their
    names are synced (K5). Only units whose record names the dead object: a creation torn by a crash can have a header
    that points to a unit which somebody else has used since.
 U3 They are given out again only when that checkpoint's epoch is durable.
CHECKPOINT (one at a time)
 K1 Note the dead, the living and F5's counters. Commit the living. What the log now holds of the living goes home.
    From here appends wait, before taking an object's lock, until K6; reads, direct writes, names go on.
 K2 fdatasync the log.
 K3 Write homes. File length: the greater of the committed and the present one, else direct writes are cut off.
 K4 Sync the segment, each object file written to (directly too), the directories of the names of the dead.
 K5 Zero the units of the dead (U2).
 K6 Raise the epoch in the log's header, fdatasync the log. Only then: write the log from its start, empty the index,
    hold what K1 noted for known durable, give out units.
 K7 Before homes are written, files with unsynced home writes are synced: what is half home cannot be taken back.
 K8 So raising the epoch settles the one before it: the head says up to which epoch everything is durable, and which crashed.
MOUNT (needs no object's key)
 M1 fdatasync the log before reading it: after a kill it may be in the page cache only, and M4 overwrites homes.
 M2 Take records while epoch, place and checksum are right. Of each object keep those up to its last mark. A mark says how
    many are before it, of whatever objects: where fewer are there the log was changed, and nothing is done with it.
 M3 The object's file is at the hint if the header there has its id, else found by a walk, else nowhere: dead, or never
    durable. Its segment records are applied all the same (an orphan at worst).
 M4 Apply in order. Set the file length once at the end, to the last mark's: an earlier one cuts off direct writes.
 M5 Sync everything, also if the log was empty, for what is found now counts as durable. Then raise the epoch as K6.
 M6 Of each object, records count up to the newest mark all of whose listed home writes are there, but for those that a mark
    up to it calls synced or that the log has by then. What is listed is synced before anything is written home.
 M7 An object with a mark that calls it settled loses its birth.
 M8 Epochs from the one after the settled to the one after the present have crashed; the log goes on two later.
READ
 R1 Header, sidecar (its MAC, its object id), seal, header entries, node, page, chunk. A page or chunk that fails is
    EIO for what is under it, anything above for all. The length is the seal's; a shorter object file is EIO.

 R2 An object born in a crashed epoch is, if something of it is missing, the longest beginning that is not; without header,
    sidecar or seal it is empty. R3 What was cut is committed and synced, then its birth goes. R4 Where it is empty, the file is
    cut to nothing and synced before another object's seal is written there.

PROMISED, as checked: (a) what fsync acknowledged is read back, or something newer, and a live store reads what was
written; (b) nothing is unreadable, and after a kill nothing committed is lost; (c) an object never synced shows the beginning
of a state it had, or is absent; (d) once rename over a
name has returned, that name shows the old object or the new, never EIO; (e) no living object loses its sidecar;
(f) whatever an attacker recombines, only contents that were sealed as a whole for that object id are accepted, with
chunks refused at most. A sidecar put back to an earlier one of the same object is accepted: the object then opens
with the key wrapped as before the re-wrap, if that KMS key still opens it; it changes nothing of which content counts;
(g) a commit whose mark an attacker makes another record after a kill is not lost unnoticed, but for the log's last one; a crash
is never taken for that.

NOT MODELLED: which chunk of a hole is where a beginning ends, errors of I/O and full disks, real sizes, trees of more than one node, key epochs, links, exchange,
several directories (K4 then means every directory that a dead object left since the last checkpoint), several
segments, two log files, fsync of a directory, read-only mounts, an inode given a new id by O_TRUNC, copies of an
object file that carry one id, damage told from a torn tail, concurrency finer than the yields below.
"""
import argparse
import itertools
import math
import random
import sys
import time
from collections import Counter, namedtuple

SECTORS, PER_PAGE, CHUNKS = 2, 2, 4         # sectors in a chunk, entries in a page, chunks in an object at most
LOG, NAMES, SEGMENT = "log", "names", "segment"
OBJECT, MARK, DEAD = "object", "mark", "dead"       # kinds of log records, beside SEGMENT
ALL_NAMES, UNITS = ("a", "b", "t"), range(12)
EIO, NULL = "EIO", ()

Identity = namedtuple("Identity", "object_id unit")             # first sector of a header block
Seal = namedtuple("Seal", "object_id sequence length root")     # second sector; its MAC covers every field
Entry = namedtuple("Entry", "nonce text")                       # a tag entry: it vouches for that text
Sidecar = namedtuple("Sidecar", "object_id wrap")               # the wrapped data key; MAC over both fields
State = namedtuple("State", "length entries")                   # entries: {chunk: Entry}
Record = namedtuple("Record", "object_id hint kind body")       # body: ((key, value), ...), or a Mark
# homes: ((counter, chunk, sectors), ...); before: how many marks are; mac: epoch, place
Mark = namedtuple("Mark", "length synced settled homes before mac")
Head = namedtuple("Head", "epoch settled crashed")              # of the log; crashed: ((first, last), ...) epochs
Birth = namedtuple("Birth", "object_id inode epoch")            # an attribute of the inode, under the store's MAC
Reading = namedtuple("Reading", "object_id unit wrap sequence length entries sectors")

# ---- layout -------------------------------------------------------------------------------------
def lay_out():
    sizes = {("header", 0): 3, ("chunk", 0): SECTORS,                           # header: identity, seal, entry 0
             ("page", 0): PER_PAGE, ("chunk", 1): SECTORS, ("chunk", 2): SECTORS,
             ("node", 0): 2, ("page", 1): PER_PAGE, ("chunk", 3): SECTORS}      # the node before its second child
    ends = list(itertools.accumulate(sizes.values()))
    return {block: range(end - size, end) for (block, size), end in zip(sizes.items(), ends)}

BLOCKS = lay_out()                          # block: the sectors it has in the object file
HEADER, NODE, PAGES = ("header", 0), ("node", 0), {0: (1, 2), 1: (3, 4)}
ENTRY_AT = {0: 2} | {chunk: BLOCKS["page", page][n] for page in PAGES for n, chunk in enumerate(PAGES[page])}
BLOCK_AT = {at: block for block, places in BLOCKS.items() for at in places}

def object_file(inode): return (OBJECT, inode)
def sectors_in(length, chunk): return max(0, min(SECTORS, length - chunk * SECTORS))
def chunk_count(length): return -(-length // SECTORS)
def digest(sectors): return sectors if any(sectors) else NULL
def has_node(length): return chunk_count(length) > PAGES[1][0]

def file_length(length):
    last = chunk_count(length) - 1
    return BLOCKS["chunk", last].start + sectors_in(length, last) if length else BLOCKS[HEADER].stop

def tables(object_id, unit, sequence, state):
    """Header block, pages and node of a state: {block: its sectors}. An empty page or node is not there (L3)."""
    pages = [tuple(state.entries.get(c, 0) for c in chunks) for chunks in PAGES.values()]
    blocks = {("page", n): sectors for n, sectors in enumerate(pages) if digest(sectors)}
    node = tuple(digest(sectors) for sectors in pages)
    if has_node(state.length) and digest(node): blocks[NODE] = node
    root = (state.entries.get(0, 0), digest(node) if has_node(state.length) else node[0])
    seal = Seal(object_id, sequence, state.length, root)
    return {HEADER: (Identity(object_id, unit), seal, root[0]), **blocks}

def ciphertext(object_id, chunk, entry):
    return tuple((object_id, chunk, entry.nonce, k, plain) for k, plain in enumerate(entry.text))

def decrypt(object_id, chunk, entry, sectors):
    return entry.text if sectors == ciphertext(object_id, chunk, entry) else (EIO,) * len(sectors)

# ---- the disk -----------------------------------------------------------------------------------
class Disk:
    """Cells (file, key) are sectors. What is not synced survives a power cut cell by cell: any value written
    since the last sync, or none. Directory changes survive one by one, a rename whole, each name in order.
    The dictionaries are replaced and never changed, so a snapshot is three references."""

    def __init__(self, durable=None, pending=None, moves=()):
        self.durable, self.pending, self.moves = durable or {}, pending or {}, moves
        last = [values[-1][0] for values in self.pending.values()] + [move[0] for move in moves]
        self.clock, self.watch = max(last, default=0), None

    def read(self, file, key):
        values = self.pending.get((file, key))
        return values[-1][1] if values else self.durable.get((file, key), 0)

    def read_block(self, file, block):
        end = self.read(file, "length")
        return tuple(self.read(file, at) if at < end else 0 for at in BLOCKS[block])

    def write(self, file, cells):
        """One system call: whole against a kill, sector by sector against a power cut."""
        self.clock += 1
        self.pending = dict(self.pending)
        for key, value in cells.items():
            self.pending[file, key] = self.pending.get((file, key), ()) + ((self.clock, value),)
        if self.watch: self.watch()

    def write_object(self, file, cells):
        end = max(cells) + 1
        self.write(file, {**cells, "length": end} if self.read(file, "length") < end else cells)

    def set_length(self, file, length):
        cells = {at: 0 for at in BLOCK_AT if at >= length and self.read(file, at)}
        if cells or self.read(file, "length") != length: self.write(file, {**cells, "length": length})

    def names(self):
        found = {name: self.durable.get((NAMES, name), 0) for name in ALL_NAMES}
        for _, changes in self.moves: found.update(changes)
        return {name: inode for name, inode in found.items() if inode}

    def give_birth(self, file, birth):
        """An attribute of an inode: there as soon as the inode is, since both are metadata of one journal."""
        self.durable = {**self.durable, (file, "birth"): birth}
        if self.watch: self.watch()

    def move(self, changes):
        """One system call on the directory: create, unlink, or rename with both names in changes."""
        self.clock += 1
        self.moves += ((self.clock, changes),)
        if self.watch: self.watch()

    def start_sync(self, *files): return (files, self.clock)         # no file named: all of them (syncfs)

    def finish_sync(self, started):
        files, clock = started
        durable, pending, moves = dict(self.durable), {}, []
        for cell, values in self.pending.items():
            done = [v for t, v in values if t <= clock] if not files or cell[0] in files else []
            if done: durable[cell] = done[-1]
            if len(done) < len(values): pending[cell] = values[len(done):]
        for when, changes in self.moves:
            if when <= clock and (not files or NAMES in files):
                durable.update({(NAMES, name): to for name, to in changes.items()})
            else: moves.append((when, changes))
        self.durable, self.pending, self.moves = durable, pending, tuple(moves)
        if self.watch: self.watch()

    def sync(self, *files): self.finish_sync(self.start_sync(*files))

    def power_cuts(self, limit, rng):
        """Disks that a power cut now may leave: all of them if they are at most `limit`, else a spread sample."""
        cells = list(self.pending)
        options = [list(dict.fromkeys([self.durable.get(c, 0)] + [v for _, v in self.pending[c]])) for c in cells]
        options += [[False, True] for _ in self.moves]
        self.complete = math.prod(map(len, options)) <= limit
        files = [c[0] for c in cells] + [NAMES] * len(self.moves)
        picks = itertools.product(*options) if self.complete else spread(options, files, limit, rng)
        for pick in picks:
            image, lost = dict(self.durable), set()
            image.update(zip(cells, pick))
            for (_, changes), kept in zip(self.moves, pick[len(cells):]):
                if kept and not lost & set(changes): image.update({(NAMES, n): to for n, to in changes.items()})
                else: lost |= set(changes)
            yield Disk(image)

def spread(options, files, limit, rng):
    """Everything, nothing, one file or cell alone or lost, then chance."""
    def mix(kept): return [o[-1] if kept(i) else o[0] for i, o in enumerate(options)]
    picks = [mix(lambda i: True), mix(lambda i: False)]
    for f in sorted(set(files), key=str): picks += [mix(lambda i: files[i] == f), mix(lambda i: files[i] != f)]
    for j in range(len(options)): picks += [mix(lambda i: i == j), mix(lambda i: i != j)]
    rng.shuffle(picks)
    yield from picks[:limit * 3 // 4]
    for _ in range(limit - len(picks[:limit * 3 // 4])):
        chance = rng.choice((.2, .5, .8))
        yield [rng.choice(o[1:]) if len(o) > 1 and rng.random() < chance else o[0] for o in options]

# ---- what a reader accepts ----------------------------------------------------------------------
def read_sidecar(disk, unit, object_id):
    halves = [disk.read(SEGMENT, (unit, k)) for k in (0, 1)]
    return halves[0] if halves[0] and halves[0] == halves[1] and halves[0].object_id == object_id else None

def read_object(disk, inode, bugs=()):
    """Verifies downwards: header, sidecar, seal, node, pages, chunks. A reading, or why there is none."""
    file = object_file(inode)
    identity, seal, first = disk.read_block(file, HEADER)
    if not identity: return "no header"
    object_id, sidecar = identity.object_id, read_sidecar(disk, identity.unit, identity.object_id)
    if not sidecar: return "no sidecar"
    if not seal or seal.object_id != object_id and "seal_of_any_object" not in bugs: return "no seal"
    if seal.root[0] != first and "header_entries_unchecked" not in bugs: return "header entries not the sealed ones"
    end = disk.read(file, "length")
    if end < file_length(seal.length): return "object file too short"
    length = seal.length
    if "length_from_file" in bugs: length = sum(at < end and block[0] == "chunk" for at, block in BLOCK_AT.items())
    hashes = [seal.root[1], NULL]
    if has_node(seal.length): hashes = [NULL, NULL] if seal.root[1] == NULL else list(disk.read_block(file, NODE))
    if has_node(seal.length) and digest(tuple(hashes)) != seal.root[1]: hashes = [EIO, EIO]
    entries, unreadable = {0: first} if first else {}, set()
    for page, chunks in PAGES.items():
        if hashes[page] == NULL and "null_page_read" not in bugs: continue                          # L3
        sectors = disk.read_block(file, ("page", page))
        if hashes[page] in (digest(sectors), NULL): entries.update({c: e for c, e in zip(chunks, sectors) if e})
        else: unreadable |= set(chunks)
    sectors = ()
    for chunk in range(chunk_count(length)):
        n = sectors_in(length, chunk)
        data = disk.read_block(file, ("chunk", chunk))[:n]
        if chunk in unreadable: sectors += (EIO,) * n
        else: sectors += decrypt(object_id, chunk, entries[chunk], data) if chunk in entries else (0,) * n
    return Reading(object_id, identity.unit, sidecar.wrap, seal.sequence, length, entries, sectors)

def may_be_unsynced(disk, inode, object_id=None, bugs=()):
    """L5: an authentic birth in an epoch that ended in a crash. Without an object id it has to be this inode's."""
    birth, head = disk.durable.get((object_file(inode), "birth")), disk.read(LOG, "epoch")
    if not birth or not head: return False
    if "birth_of_any_inode" not in bugs and birth.inode != inode: return False
    if object_id not in (None, birth.object_id): return False
    return any(first <= birth.epoch <= last for first, last in head.crashed)

def read_settled(disk, inode, bugs=()):
    """R2: of an object that may never have been synced, the longest beginning of what is sealed; else all of it or EIO."""
    reading = read_object(disk, inode, bugs)
    identity = disk.read_block(object_file(inode), HEADER)[0]
    if isinstance(reading, str):
        if not may_be_unsynced(disk, inode, None, bugs) and "blank_is_empty" not in bugs: return reading
        return Reading(identity.object_id if identity else None, None, None, 0, 0, {}, ())
    if EIO not in reading.sectors or "unsynced_not_cut" in bugs: return reading
    if not may_be_unsynced(disk, inode, reading.object_id, bugs) and "settled_is_cut" not in bugs: return reading
    length = reading.sectors.index(EIO) // SECTORS * SECTORS
    entries = {c: e for c, e in reading.entries.items() if c * SECTORS < length}
    return reading._replace(length=length, entries=entries, sectors=reading.sectors[:length])

# ---- recovery -----------------------------------------------------------------------------------
def log_cells(epoch, place, record):
    count = len(record.body) if record.kind in (OBJECT, SEGMENT) else 1
    return {(place, k): (epoch, place, k, count, record) for k in range(count)}

def read_log(disk, bugs=()):
    """The valid prefix: every sector of a record present, with the log's epoch and the record's own place. None if it was changed."""
    epoch, records, marks = disk.read(LOG, "epoch"), [], 0
    epoch = epoch and epoch.epoch
    while True:
        head = disk.read(LOG, (len(records), 0))
        if not head or head[:2] != (epoch, len(records)): return records
        if head[4].kind == MARK and head[4].body.mac != (epoch, len(records)): return records
        whole = log_cells(epoch, len(records), head[4])
        if any(disk.read(LOG, cell) != value for cell, value in whole.items()): return records
        if head[4].kind == MARK:
            if head[4].body.before != marks and "marks_not_counted" not in bugs: return None
            marks += 1
        records.append(head[4])

def locate(disk, object_id, hint, bugs=()):
    def carries(inode): return getattr(disk.read_block(object_file(inode), HEADER)[0], "object_id", None) == object_id
    names = disk.names()
    if hint in names and (carries(names[hint]) or "hint_not_checked" in bugs): return names[hint]
    return next((inode for inode in names.values() if carries(inode)), None)

def newest_whole(disk, inode, mine, bugs=()):
    """M6: the records up to the newest mark whose home writes are all there, as far as nothing says that they are synced."""
    for end in range(len(mine), 0, -1):
        if mine[end - 1].kind != MARK: continue
        pending = {}
        for record in mine[:end]:
            if record.kind == OBJECT:
                for chunk in [c for c in pending if set(BLOCKS["chunk", c]) & {at for at, _ in record.body}]:
                    if "logged_chunk_judged" not in bugs: del pending[chunk]
            elif record.kind == MARK:
                if "synced_is_judged" not in bugs:
                    pending = {c: (n, v) for c, (n, v) in pending.items() if n > record.body.synced}
                pending.update({c: (n, v) for n, c, v in record.body.homes})
        def home(chunk, n): return tuple(disk.read(object_file(inode), at) for at in BLOCKS["chunk", chunk][:n])
        if "home_writes_believed" in bugs or all(home(c, len(v)) == v for c, (_, v) in pending.items()):
            return mine[:end]
    return []

def recover(disk, bugs=()):
    """Answers whether the log is as it was written."""
    head = disk.read(LOG, "epoch") or Head(0, -1, ())
    # M1; what is found whole at home has to stay so while it is decided on (M6).
    if "recovery_log_not_synced" not in bugs: disk.sync(LOG)
    records = read_log(disk, bugs)                                                                  # M2
    if records is None: return False
    if any(r.kind == MARK and r.body.homes for r in records) and "homes_not_synced_first" not in bugs: disk.sync()
    for object_id in dict.fromkeys(r.object_id for r in records):
        mine = [r for r in records if r.object_id == object_id]
        if "dead_mark_trusted" in bugs and mine[-1].kind == DEAD: continue
        while mine and mine[-1].kind != MARK and "tail_applied" not in bugs: mine.pop()
        inode = locate(disk, object_id, mine[0].hint, bugs) if mine else None                       # M3
        if inode and "tail_applied" not in bugs: mine = newest_whole(disk, inode, mine, bugs)
        for record in mine:                                                                         # M4
            if record.kind == SEGMENT: disk.write(SEGMENT, dict(record.body))
            elif record.kind == OBJECT and inode: disk.write_object(object_file(inode), dict(record.body))
            elif record.kind == MARK and inode and (record is mine[-1] or "length_in_order" in bugs):
                disk.set_length(object_file(inode), record.body.length)
        if inode and any(r.kind == MARK and r.body.settled for r in mine):                          # M7
            disk.give_birth(object_file(inode), None)
    if records or "idle_recovery_not_synced" not in bugs: disk.sync()                               # M5
    # M8: epochs that nothing has settled ended in a crash, the one that a checkpoint was about to begin too.
    crashed = head.crashed + ((head.settled + 1, head.epoch + 1),)
    if "crash_forgotten" in bugs: crashed = ()
    disk.write(LOG, {"epoch": Head(head.epoch + 2, head.epoch + 1, crashed)})
    disk.sync(LOG)
    return True

# ---- the store ----------------------------------------------------------------------------------
class Object:
    def __init__(self, inode, object_id, unit, name):
        self.id, self.unit, self.file, self.name = object_id, unit, object_file(inode), name
        self.inode, self.wrap, self.now, self.committed = inode, 0, State(0, {}), None
        self.tables = {}            # header, pages and node of the latest committed state
        self.sequence = self.durable_sequence = 0       # of the latest and of the newest known durable commit
        self.durable = self.now     # for a seeded bug only: W1 needs no more than the sequences
        self.dropped = {}           # chunk's block: sequence of the commit that stopped referring to it
        self.sidecar_durable = self.readable = False
        self.home_writes = self.home_synced = self.name_change = 0
        self.unsynced = {}          # chunk: (home write's number, its sectors), of those that no sync covers (W5)
        self.covers = False
        self.uncovered = 0          # number of the newest home write that has no checksum
        self.listed = self.told = 0 # newest home write that a mark of this epoch lists, and that one says is synced
        self.settled_told = False   # a mark of this epoch says that the object is settled
        self.hint = None            # the path its log records carry, fixed by its first one in an epoch

class Store:
    """A `yield` stands where no lock is held and other operations run."""

    def __init__(self, disk, numbers, bugs=(), on_seal=lambda o: None):
        self.disk, self.numbers, self.bugs, self.on_seal = disk, numbers, bugs, on_seal
        recover(disk, bugs)
        self.head, self.next_record = disk.read(LOG, "epoch"), 0
        self.marks = 0                                  # in the log
        self.birth_epoch, self.loose = self.head.epoch, False       # loose: closed with a first commit that is not synced
        self.in_log = {}                                # (file, key): newest value, for all that the log holds
        self.names, self.held, self.dead = {}, [], []   # held: unlinked and still open
        self.taken = {}                                 # unit: owner, of those given out since the mount
        self.name_changes = self.names_synced = 0
        self.checkpoint_task, self.log_full, self.log_sync = None, False, None
        for name, inode in disk.names().items(): self.names[name] = self._load(name, inode)

    def _load(self, name, inode):
        reading, whole = read_settled(self.disk, inode, self.bugs), read_object(self.disk, inode)
        identity = self.disk.read_block(object_file(inode), HEADER)[0] or Identity(None, None)
        if isinstance(reading, str) or EIO in reading.sectors:
            return Object(inode, *identity, name)       # can only be unlinked or replaced
        if isinstance(whole, str):                      # never committed: empty, another object in the same inode
            o = Object(inode, next(self.numbers), None, name)
            if "remains_not_cleared" not in self.bugs:                                              # R4
                self.disk.set_length(o.file, 0)
                self.disk.sync(o.file)
            self._give_birth(o)
            o.unit, o.readable = self._free_unit(o.id), True
            self.commit(o)
            return o
        o = Object(inode, reading.object_id, reading.unit, name)
        o.wrap, o.now = reading.wrap, State(whole.length, whole.entries)
        o.sequence = o.durable_sequence = reading.sequence
        o.tables, o.committed = tables(o.id, o.unit, o.sequence, o.now), o.now
        o.readable = o.sidecar_durable = o.covers = True
        if may_be_unsynced(self.disk, inode, o.id, self.bugs):                                      # R3
            if reading.length < whole.length:
                o.now = State(reading.length, reading.entries)
                if "cut_not_synced" in self.bugs: self.commit(o)
                else:
                    for _ in self.fsync(o, name_too=False): pass
            self.disk.give_birth(o.file, None)
        return o

    # -- content
    def read(self, o):
        return sum((self._read_chunk(o, chunk) for chunk in range(chunk_count(o.now.length))), ())

    def _read_chunk(self, o, chunk):
        places = BLOCKS["chunk", chunk][:sectors_in(o.now.length, chunk)]
        if chunk not in o.now.entries: return (0,) * len(places)
        sectors = tuple(self.in_log.get((o.file, at)) or self.disk.read(o.file, at) for at in places)
        return decrypt(o.id, chunk, o.now.entries[chunk], sectors)

    def write(self, o, at, values):
        self._edit(o, max(o.now.length, at + len(values)), {at + n: value for n, value in enumerate(values)})

    def truncate(self, o, length): self._edit(o, length, {})

    def punch(self, o, chunk):
        o.now = o.now._replace(entries={c: e for c, e in o.now.entries.items() if c != chunk})
        self._punch_out(o)

    def _punch_out(self, o):                                                                        # W6
        """What is quiet and not there, chunk, page or node, reads as zeros at home from now on: its space is given back."""
        if o.committed is None: return
        there = {("chunk", c) for c in o.now.entries} | set(tables(o.id, o.unit, o.sequence, o.now))
        gone = [b for b in BLOCKS if b not in there and (self._quiet(o, b) or "given_back_early" in self.bugs)]
        cells = {at: 0 for block in gone for at in BLOCKS[block] if self.disk.read(o.file, at)}
        if cells: self.disk.write(o.file, cells)

    def _edit(self, o, length, patch):
        """New length and sectors: encrypts again what changes, and a partial last chunk if its length changes."""
        entries = {}
        for chunk in range(chunk_count(length)):
            old, places = o.now.entries.get(chunk), range(chunk * SECTORS, chunk * SECTORS + sectors_in(length, chunk))
            touched = any(s in patch for s in places)
            if not old and not touched: continue
            text = self._read_chunk(o, chunk) if chunk < chunk_count(o.now.length) else ()
            new = tuple(patch.get(s, text[k] if k < len(text) else 0) for k, s in enumerate(places))
            keep = not touched and (new == text or len(new) > len(text) and "partial_chunk_kept" in self.bugs)
            entries[chunk] = old if keep else self._encrypt(o, chunk, new)
        o.now = State(length, entries)

    def _encrypt(self, o, chunk, text):
        entry = Entry(next(self.numbers), text)
        cells = dict(zip(BLOCKS["chunk", chunk], ciphertext(o.id, chunk, entry)))
        if self._quiet(o, ("chunk", chunk)) or "overwrite_in_place" in self.bugs: self._write_home(o, cells, chunk)
        else: self._append(o, {OBJECT: cells})
        return entry

    def _quiet(self, o, block):                                                                     # W1
        referred = block in o.tables or o.committed and block[0] == "chunk" and block[1] in o.committed.entries
        dropping = o.dropped.get(block, 0) > o.durable_sequence and "quiet_before_durable" not in self.bugs
        if "two_states_enough" in self.bugs: dropping = block[0] == "chunk" and block[1] in o.durable.entries
        logged = any((o.file, at) in self.in_log for at in BLOCKS[block]) and "live_record_ignored" not in self.bugs
        return not (referred or dropping or logged)

    def _write_home(self, o, cells, chunk=None):
        o.home_writes += 1
        if chunk is not None and o.covers:                                                          # W5
            o.unsynced[chunk] = o.home_writes, tuple(cells.values())
        else: o.uncovered = o.home_writes
        self.disk.write_object(o.file, cells)

    def _home_synced(self, o, writes):
        o.home_synced = max(o.home_synced, writes)
        o.unsynced = {c: (n, v) for c, (n, v) in o.unsynced.items() if n > o.home_synced}

    def _mark(self, o):
        """C6: what of the home writes that the committed state refers to is neither synced nor in an earlier mark."""
        o.unsynced = {c: (n, v) for c, (n, v) in o.unsynced.items() if c in o.committed.entries}
        homes = tuple((n, c, v) for c, (n, v) in o.unsynced.items() if n > o.listed)
        settled = o.uncovered <= o.home_synced
        o.listed, o.told = max([o.listed] + [n for n, _, _ in homes]), o.home_synced
        o.settled_told |= settled
        return Mark(file_length(o.committed.length), o.home_synced, settled, homes, None, None)

    # -- log and commit
    def _wait_for_log(self):                                                                        # K1
        """While a checkpoint runs nothing is appended. (Wait before taking the object's lock: it needs that.)"""
        if self.log_full and "append_during_checkpoint" not in self.bugs: self.finish_checkpoint()

    def _append(self, o, bodies):
        """One write of records: {kind: its sectors, or a mark's file length}."""
        self._wait_for_log()
        o.hint, cells = o.hint or o.name, {}
        for kind, body in bodies.items():
            if kind in (OBJECT, SEGMENT):
                if not body: continue
                self.in_log.update({(o.file if kind == OBJECT else SEGMENT, key): v for key, v in body.items()})
                body = tuple(body.items())
            if kind == MARK:
                body = body._replace(before=self.marks, mac=(self.head.epoch, self.next_record))
                self.marks += 1
            cells.update(log_cells(self.head.epoch, self.next_record, Record(o.id, o.hint, kind, body)))
            self.next_record += 1
        self.disk.write(LOG, cells)

    def commit(self, o, with_sidecar=False):
        """C1 to C4: seals the present state, with a sidecar record if asked for."""
        first = o.committed is None or "second_direct_commit" in self.bugs and o.durable_sequence == 0
        changed = o.now != o.committed
        if first or changed or with_sidecar: self._wait_for_log()
        home, logged = {}, {}
        if changed:
            old_tables, old = o.tables, o.committed or State(0, {})
            o.sequence += 1
            new = tables(o.id, o.unit, o.sequence, o.now)
            self.on_seal(o)
            for block, sectors in new.items():
                known = old_tables.get(block) or ((0,) * len(sectors) if "fresh_page_delta" in self.bugs else None)
                cells = {at: v for n, (at, v) in enumerate(zip(BLOCKS[block], sectors)) if not known or known[n] != v}
                direct = first or block[0] + "_straight_home" in self.bugs and self._quiet(o, block)
                (home if direct else logged).update(cells)
            o.dropped.update({("chunk", c): o.sequence for c in old.entries if c not in o.now.entries})
            o.dropped.update({block: o.sequence for block in old_tables if block not in new})
            o.tables, o.committed = new, o.now
        if home: self._write_home(o, home)
        record = {(o.unit, k): Sidecar(o.id, o.wrap) for k in (0, 1)}
        if first and changed:
            end = file_length(o.now.length)
            if self.disk.read(o.file, "length") < end: self.disk.set_length(o.file, end)
            self.disk.write(SEGMENT, record)
        if changed and not first or with_sidecar:
            self._append(o, {OBJECT: logged, SEGMENT: record if with_sidecar else {}, MARK: self._mark(o)})

    def rewrap(self, o, wrap):
        o.wrap, record = wrap, {(o.unit, k): Sidecar(o.id, wrap) for k in (0, 1)}
        if "rewrap_in_place" in self.bugs and o.committed: self.disk.write(SEGMENT, record)
        elif "rewrap_marks_alone" in self.bugs and o.committed:
            self._append(o, {SEGMENT: record, MARK: self._mark(o)})
        else: self.commit(o, with_sidecar=True)

    # -- fsync
    def _sync(self, *files):
        started = self.disk.start_sync(*files)
        if files == (LOG,): self.log_sync = started = "join_running_sync" in self.bugs and self.log_sync or started
        yield
        self.disk.finish_sync(started)
        if files == (LOG,): self.log_sync = None

    def fsync(self, o, name_too=True):
        unknown = "sidecar_not_logged" in self.bugs
        sidecar = not o.sidecar_durable and not unknown
        if o.committed is None: self.commit(o)                                                      # F1: the first commit
        o.covers = True
        if o.home_synced < o.home_writes and "object_not_synced" not in self.bugs:
            writes = o.home_writes                                                                  # F2, F5
            if "clean_before_synced" in self.bugs: self._home_synced(o, writes)
            yield from self._sync(o.file)
            self._home_synced(o, writes)
        self.commit(o, sidecar)                                                                     # F1
        state, sequence, writes, names = o.committed, o.sequence, o.home_writes, self.name_changes  # F5
        if o.home_synced < writes and not {"object_not_synced", "written_after_sync"} & set(self.bugs):   # F2 once more
            yield from self._sync(o.file)
            self._home_synced(o, writes)
        if "object_not_synced" in self.bugs: self._home_synced(o, writes)
        untold = o.told < min(max(o.listed, o.uncovered), o.home_synced) or not o.settled_told and o.uncovered <= o.home_synced
        if untold and "synced_not_told" not in self.bugs: self._append(o, {MARK: self._mark(o)})    # C7
        yield from self._sync(LOG)                                                                  # F3
        if name_too and self.names_synced < o.name_change and "name_not_synced" not in self.bugs:   # F4
            yield from self._sync(NAMES)
            self.names_synced = max(self.names_synced, names)
        self._known_durable(o, state, sequence)

    def _known_durable(self, o, state, sequence):                                                   # C5
        if sequence >= o.durable_sequence: o.durable, o.durable_sequence = state, sequence
        o.sidecar_durable = True

    # -- names
    def create(self, name, inode):
        o = Object(inode, inode, self._free_unit(inode), name)
        o.readable = True
        self._give_birth(o)                                                                         # N4
        self._move({name: o})

    def _give_birth(self, o):
        epoch = self.head.epoch if "birth_before_checkpoint" in self.bugs else self.birth_epoch
        self.disk.give_birth(o.file, Birth(o.id, o.inode, epoch))

    def _free_unit(self, owner):                                                                    # U1
        """The hint is as stale as can be: it names every unit there is."""
        def is_zero(unit): return not any(self.disk.read(SEGMENT, (unit, k)) for k in (0, 1))
        unit = next(u for u in UNITS if u not in self.taken and (is_zero(u) or "stale_free_list" in self.bugs))
        self.taken[unit] = owner
        return unit

    def unlink(self, name, still_open=False):
        o = self.names[name]
        self._move({name: None})
        if still_open: self.held.append(o)
        else: self._bury(o)

    def release(self, o):
        """Last close of an unlinked object."""
        self.held.remove(o)
        self._bury(o)

    def rename(self, old, new):
        o, replaced = self.names[old], self.names.get(new)
        if replaced and "rename_without_sync" not in self.bugs:                                     # N2
            for _ in self.fsync(o, name_too=False): pass
        self._move({old: None, new: o})
        if replaced: self._bury(replaced)

    def _bury(self, o):
        self.dead.append(o)
        if o.hint and not self.log_full: self._append(o, {DEAD: None})                              # N3

    def _move(self, changes):
        self.disk.move({n: o.inode if o else 0 for n, o in changes.items()})
        self.name_changes += 1
        for name, o in changes.items():
            self.names.pop(name, None)
            if o: self.names[name], o.name, o.name_change = o, name, self.name_changes

    # -- checkpoint
    def checkpoint(self):
        """Registers itself, so that whoever must append meanwhile can wait for its end."""
        self.finish_checkpoint()
        self.checkpoint_task = self._checkpoint()
        return self.checkpoint_task

    def finish_checkpoint(self):
        for _ in self.checkpoint_task or (): pass

    def _checkpoint(self):
        self.birth_epoch = self.head.epoch + 1                                                      # K1
        dead, names = list(self.dead), self.name_changes
        living = [o for o in [*self.names.values(), *self.held] if o.readable]
        for o in living:
            self.commit(o)
            o.covers = True
        self.log_full = True
        logged = {o: {at: v for (file, at), v in self.in_log.items() if file == o.file} for o in living}
        fixed = [(o, o.committed, o.sequence, o.home_writes) for o in living]
        sidecars = {key: v for (file, key), v in self.in_log.items() if file == SEGMENT}
        yield from self._sync(LOG)                                                                  # K2
        early = [o.file for o, _, _, writes in fixed if logged[o] and o.home_synced < writes]
        if early and "homes_over_unsynced" not in self.bugs: yield from self._sync(*early)          # K7
        if "epoch_before_homes" in self.bugs: yield from self._raise_epoch(None)
        for o, state, _, _ in fixed:                                                                # K3
            if not logged[o]: continue
            self.disk.write_object(o.file, logged[o])
            length = state.length if "home_cuts_current" in self.bugs else max(state.length, o.now.length)
            self.disk.set_length(o.file, file_length(length))
            yield
        if sidecars: self.disk.write(SEGMENT, sidecars)
        if "unit_freed_before_unlink" in self.bugs: self._free_units(dead)
        files = [o.file for o, _, _, writes in fixed if logged[o] or o.home_synced < writes]
        directories = [NAMES] if dead and "unlink_not_synced" not in self.bugs else []
        yield from self._sync(SEGMENT, *files, *directories)                                        # K4
        if directories: self.names_synced = max(self.names_synced, names)
        if "dead_list_taken_late" in self.bugs: dead = list(self.dead)
        self._free_units(dead)                                                                      # K5
        if "unit_reused_early" in self.bugs: self._give_back(dead)              # instead of U3
        yield
        settled = self.head.epoch                               # K8: homes of this epoch's first commits are durable
        if "epoch_before_homes" not in self.bugs: yield from self._raise_epoch(settled)             # K6
        self.next_record, self.log_full, self.checkpoint_task, self.in_log, self.marks = 0, False, None, {}, 0
        for o in [*self.names.values(), *self.held, *self.dead]: o.hint = None
        for o, state, sequence, writes in fixed:
            self._home_synced(o, writes)
            o.listed = o.told = 0
            o.settled_told = False
            self._known_durable(o, state, sequence)
            self._punch_out(o)
        self._give_back(dead)
        self.dead = [o for o in self.dead if o not in dead]

    def _free_units(self, dead):                                                                    # U2
        for o in dead:
            own = [k for k in (0, 1) if getattr(self.disk.read(SEGMENT, (o.unit, k)), "object_id", None) == o.id]
            if "unit_freed_unseen" in self.bugs: own = [0, 1]
            if own: self.disk.write(SEGMENT, {(o.unit, k): 0 for k in own})

    def _give_back(self, dead):
        self.taken = {unit: owner for unit, owner in self.taken.items() if owner not in [o.id for o in dead]}

    def _raise_epoch(self, settled):
        settled = self.head.settled if settled is None or "settled_never" in self.bugs else settled
        self.head = Head(self.head.epoch + 1, settled, self.head.crashed)
        self.disk.write(LOG, {"epoch": self.head})
        yield from self._sync(LOG)


# ---- the checker --------------------------------------------------------------------------------
class Content(namedtuple("Content", "wrap sectors present")):
    """What users expect of one object, known from what they wrote only; present: chunks that hold written data."""

    def write(self, at, values):
        sectors = list(self.sectors) + [0] * (at + len(values) - len(self.sectors))
        sectors[at:at + len(values)] = values
        return Content(self.wrap, tuple(sectors), self.present | {(at + n) // SECTORS for n in range(len(values))})

    def truncate(self, length):
        sectors = self.sectors[:length] + (0,) * (length - len(self.sectors))
        return Content(self.wrap, sectors, frozenset(c for c in self.present if c * SECTORS < length))

    def punch(self, chunk):
        sectors = tuple(0 if s // SECTORS == chunk else value for s, value in enumerate(self.sectors))
        return Content(self.wrap, sectors, self.present - {chunk})

    def rewrap(self, wrap): return self._replace(wrap=wrap)

    def shows(self, reading):
        """Is this reading this state, some chunks of it perhaps unreadable?"""
        return len(reading.sectors) == len(self.sectors) == reading.length and all(
            r in (s, EIO) for r, s in zip(reading.sectors, self.sectors))

    def begins(self, reading):
        """Is this reading a beginning of this state, of whole chunks?"""
        n = reading.length
        return n == len(reading.sectors) and n <= len(self.sectors) and n % SECTORS == 0 and reading.sectors == self.sectors[:n]

class Known:
    """What users know of one object: its states so far, which are committed, which are acknowledged as durable."""

    def __init__(self, state, names, settled=-1):
        self.states, self.committed, self.acked = [state], settled, settled
        self.names, self.named_since = names, len(names) - 1 if settled >= 0 else 0    # may be found after a crash

class World:
    """A store, what its users were told, and every instant at which it might have crashed."""

    def __init__(self, bugs=(), disk=None, numbers=None):
        self.bugs, self.disk, self.numbers = bugs, disk or Disk(), numbers or itertools.count(1)
        self.known, self.handles, self.tasks, self.points, self.misread, self.sealed = {}, {}, [], [], set(), {}
        self.shown = {name: [self.disk.names().get(name, 0)] for name in ALL_NAMES}     # what each name referred to
        self.shown_since = dict.fromkeys(ALL_NAMES, 0)
        self.store = Store(self.disk, self.numbers, self.bugs, self.on_seal)
        for name, o in self.store.names.items():                # the unreadable: nothing is expected of them
            if not o.readable: continue
            if not o.sidecar_durable:                           # never committed: empty, and not durable as anything else
                self.known[o.inode] = Known(Content(0, (), frozenset()), [name])
                continue
            self.known[o.inode] = Known(Content(o.wrap, self.store.read(o), frozenset(o.now.entries)), [name], 0)
        self.disk.watch = self.snapshot

    def on_seal(self, o):
        if o.inode in self.known: self.sealed.setdefault(o.id, []).append(self.known[o.inode].states[-1])

    def snapshot(self):
        objects = {inode: (k.states, len(k.states), k.committed, k.acked, k.names[k.named_since:])
                   for inode, k in self.known.items()}
        names = {n: self.shown[n][self.shown_since[n]:] for n in ALL_NAMES}
        self.points.append((self.disk.durable, self.disk.pending, self.disk.moves, (objects, names)))

    def run(self, workload):
        for op in workload.split(";"):
            verb, *args = op.split()
            getattr(self, verb)(*[int(a) if a.isdigit() else a for a in args])
            for o in [*self.store.names.values(), *self.store.held]:
                k = self.known.get(o.inode)
                if k and self.store.read(o) != k.states[-1].sectors: self.misread.add("wrong live read after " + verb)
        self.end()
        self.snapshot()

    def find(self, name):
        o = self.store.names.get(name) or self.handles.get(name)
        return o if o and o.readable else None

    def create(self, name):
        if name in self.store.names: return
        inode = next(self.numbers)
        self.known[inode] = Known(Content(0, (), frozenset()), [None, name])
        self.shown[name].append(inode)
        self.store.create(name, inode)

    def _edit(self, name, verb, *args):
        o = self.find(name)
        if not o: return
        states = self.known[o.inode].states
        states.append(getattr(states[-1], verb)(*args))
        getattr(self.store, verb)(o, *args)

    def write(self, name, at, count): self._edit(name, "write", at, (next(self.numbers),) * count)
    def truncate(self, name, length): self._edit(name, "truncate", length)
    def punch(self, name, chunk): self._edit(name, "punch", chunk)

    def rewrap(self, name):
        self._edit(name, "rewrap", next(self.numbers))
        self.close(name)

    def close(self, name):
        o = self.find(name)
        if not o: return
        self.store.commit(o)
        self.known[o.inode].committed = len(self.known[o.inode].states) - 1
        self.snapshot()

    def unlink(self, name, still_open=False):
        o = self.store.names.get(name)
        if not o: return
        self.shown[name].append(0)
        if o.inode in self.known: self.known[o.inode].names.append(None)
        self.store.unlink(name, still_open)
        if still_open: self.handles["~" + name] = o

    def unlink_open(self, name):
        if "~" + name not in self.handles and self.find(name): self.unlink(name, True)

    def release(self, name):
        if name in self.handles: self.store.release(self.handles.pop(name))

    def rename(self, old, new):
        o, replaced = self.find(old), self.store.names.get(new)
        if not o or o is replaced: return
        k = self.known[o.inode]
        self.shown[old].append(0)
        self.shown[new].append(o.inode)
        k.names.append(new)
        if replaced and replaced.inode in self.known: self.known[replaced.inode].names.append(None)
        self.store.rename(old, new)
        if replaced: k.acked = k.committed = len(k.states) - 1      # its content, not its name
        self.snapshot()

    def begin(self, verb, name=None):
        """Starts an fsync or a checkpoint; what it acknowledges at its end is what was there at its start."""
        if verb == "fsync":
            o = self.find(name)
            if not o: return
            task, objects, names = self.store.fsync(o), [o], [name]
        else:
            task, names = self.store.checkpoint(), ()               # a checkpoint promises nothing about names
            objects = [o for o in [*self.store.names.values(), *self.store.held] if o.readable]
        told = [(self.known[o.inode], len(self.known[o.inode].states) - 1, len(self.known[o.inode].names) - 1)
                for o in objects if o.inode in self.known]
        shown = [(n, len(self.shown[n]) - 1) for n in names if n in self.shown]
        self.tasks.append((task, told, shown))
        self.step(len(self.tasks) - 1)

    def step(self, index=0):
        if index >= len(self.tasks): return False
        task, told, shown = self.tasks[index]
        if next(task, "done") != "done": return True
        for k, state, name in told:
            k.acked, k.committed = max(k.acked, state), max(k.committed, state)
            if shown: k.named_since = max(k.named_since, name)
        for name, position in shown: self.shown_since[name] = max(self.shown_since[name], position)
        del self.tasks[index]
        self.snapshot()
        return False

    def end(self, index=None):
        while self.step(index or 0) or index is None and self.tasks: pass

    def _whole(self, *what):
        before = len(self.tasks)
        self.begin(*what)
        if len(self.tasks) > before: self.end(before)

    def fsync(self, name): self._whole("fsync", name)
    def checkpoint(self): self._whole("checkpoint")

def violations(disk, told, killed, bugs):
    objects, shown = told
    there, found = disk.names(), set()
    for name, may in shown.items():
        if there.get(name, 0) not in may: found.add("name shows what it never referred to, or is lost")
    for inode, (_, _, committed, acked, names) in objects.items():
        if None not in names and all(there.get(n) != inode for n in names): found.add("object without a name")
    for inode in there.values():
        if inode not in objects: continue
        states, count, committed, acked, _ = objects[inode]
        base, reading = committed if killed else acked, read_settled(disk, inode, bugs)
        if isinstance(reading, str):
            found.add("object unreadable: " + reading)
            continue
        may = states[max(base, 0):count]
        if EIO in reading.sectors: found.add("chunk unreadable")
        elif not any(reading.wrap in (None, s.wrap) and (s.shows(reading) or base < 0 and s.begins(reading)) for s in may):
            found.add("bytes of no single state")
    return found

def kind(cell):
    """Cells whose values the attacker may exchange: the same field of any object, chunk or record."""
    file, key = cell
    if file == LOG: return LOG, "epoch" if key == "epoch" else "record"
    if file == NAMES: return NAMES
    if key == "birth": return "birth"
    if file == SEGMENT or key == "length": return file[0], "length" if key == "length" else key[1]
    return BLOCK_AT[key][0], key - BLOCKS[HEADER].start if BLOCK_AT[key] == HEADER else 0

class Campaign:
    def __init__(self, seed, bugs=()):
        self.rng, self.bugs, self.counts, self.found = random.Random(seed), bugs, Counter(), Counter()

    def judge(self, disk, told, killed, workload):
        self.counts["states"] += 1
        for what in violations(disk, told, killed, self.bugs):
            self.found[f"{what} [{'kill' if killed else 'power cut'}] in: {workload}"] += 1

    def survive(self, disk, told, killed, workload):
        """Recovers, sometimes with a second crash on the way, and judges what is then read."""
        points = []
        if killed or self.rng.random() < .02:
            disk.watch = lambda: points.append((disk.durable, disk.pending, disk.moves))
        if self.rng.random() < .5: whole = recover(disk, self.bugs)
        else:
            Store(disk, itertools.count(10 ** 6), self.bugs)                # opens every object too, and is killed then
            whole = recover(disk, self.bugs)
        if not whole: self.found[f"a crash is taken for a changed log in: {workload}"] += 1
        disk.watch = None
        self.judge(disk, told, killed, workload)
        for point in self.rng.sample(points, min(4, len(points))):
            for again in Disk(*point).power_cuts(6, self.rng):
                if not recover(again, self.bugs):
                    self.found[f"a crash is taken for a changed log in: {workload}"] += 1
                self.counts["crashes in recovery"] += 1
                self.judge(again, told, False, workload)

    def check(self, workload, limit, deadline, lives=3, world=None, story=""):
        """Crashes a workload everywhere, and starts second lives on disks that the crashes left."""
        world = world or World(self.bugs)
        first, _, second = workload.partition(" || ")
        story += first
        world.run(first)
        for what in world.misread: self.found[f"{what} in: {story}"] += 1
        self.counts["workloads"] += 1
        left = []
        for durable, pending, moves, told in world.points:
            if time.monotonic() > deadline: return
            self.counts["crash points"] += 1
            self.survive(Disk(durable, pending, moves), told, True, story)
            self.take_mark(Disk(durable, pending, moves), told, story)
            left.append(Disk(durable, pending, moves))                  # killed: the second life begins unsynced
            here = Disk(durable, pending, moves)
            for disk in here.power_cuts(limit, self.rng):
                if second or self.rng.random() < .02: left.append(Disk(disk.durable))
                self.survive(disk, told, False, story)
            self.counts["enumerated in full"] += here.complete
        lives = lives * 15 if second else lives
        for disk in self.rng.sample(left, min(lives, len(left))):
            again = World(self.bugs, disk, world.numbers)
            self.counts["second lives"] += 1
            self.check(second or random_workload(self.rng, 6), limit // 2, deadline, 0, again, story + " || ")

    def take_mark(self, disk, told, workload):
        """After a kill the attacker makes a mark a record of another kind; not the last one, which a crash could have left out."""
        marks = [(n, record) for n, record in enumerate(read_log(disk, self.bugs) or ()) if record.kind == MARK][:-1]
        if not marks: return
        place, record = self.rng.choice(marks)
        disk.write(LOG, log_cells(disk.read(LOG, "epoch").epoch, place, record._replace(kind=DEAD, body=())))
        self.counts["marks taken"] += 1
        if not recover(disk, self.bugs): self.counts["marks missed"] += 1
        else: self.judge(disk, told, True, workload + ", and a mark is taken")

    def tamper(self, workload, rounds, deadline):
        """The attacker puts back any value ever seen in any cell of its kind, and writes log records of his own."""
        world = World(self.bugs)
        world.run(workload)
        views, seen = [], {}
        for durable, pending, moves, _ in world.points:
            view = dict(durable)
            view.update({cell: values[-1][1] for cell, values in pending.items()})
            for _, changes in moves: view.update({(NAMES, name): to for name, to in changes.items()})
            views.append(view)
            for cell, value in view.items():
                for place in (cell, kind(cell)): seen.setdefault(place, {0: True})[value] = True
        cells, values = list(views[-1]), {place: list(v) for place, v in seen.items()}
        records = [v[4] for v in values[LOG, "record"] if v]
        files = sorted({file for file, _ in cells if file[0] == OBJECT})
        for _ in range(rounds):
            if time.monotonic() > deadline: return
            view = dict(self.rng.choice(views))
            for cell in self.rng.choices(cells, k=self.rng.randint(0, 6)):
                view[cell] = self.rng.choice(values[cell if self.rng.random() < .7 else kind(cell)])
            if self.rng.random() < .5:                              # a whole file of another time
                file = self.rng.choice(cells)[0]
                view.update({cell: v for cell, v in self.rng.choice(views).items() if cell[0] == file})
            if self.rng.random() < .7:                              # a chunk with its entry, of another time or object
                source, chunk, other = self.rng.choice(views), self.rng.randrange(CHUNKS), self.rng.randrange(CHUNKS)
                file, to = self.rng.choices(files, k=2)
                if self.rng.random() < .5: other, to = chunk, file
                pairs = [*zip(BLOCKS["chunk", chunk], BLOCKS["chunk", other]), (ENTRY_AT[chunk], ENTRY_AT[other])]
                view.update({(to, b): source.get((file, a), 0) for a, b in pairs})
            if self.rng.random() < .5:
                for n, record in enumerate(self.rng.choices(records, k=self.rng.randint(1, 6))):
                    view.update(log_cells(view.get((LOG, "epoch"), 0), n, record))
            disk = Disk(view)
            recover(disk, self.bugs)
            self.counts["tampered stores"] += 1
            for inode in disk.names().values():
                reading = read_object(disk, inode, self.bugs)
                if isinstance(reading, str): self.counts["refused whole"] += 1; continue
                self.counts["refused in part" if EIO in reading.sectors else "accepted: a state once sealed"] += 1
                id_ = reading.object_id
                wrapped = any(content.wrap == reading.wrap for content in world.known[id_].states)
                if not wrapped or not any(content.shows(reading) for content in world.sealed[id_]):
                    self.found[f"accepted what was never sealed, in: {workload}"] += 1


# ---- workloads ----------------------------------------------------------------------------------
NEW = "create a; write a 0 4; fsync a; "            # write NAME SECTOR COUNT; a chunk is two sectors
TWO = NEW + "create t; write t 0 3; fsync t; "
WORKLOADS = {               # workload ("A || B": B runs on disks that crashes of A left): bugs that it must catch
    "create a; write a 0 3; fsync a": "name_not_synced sidecar_not_logged",
    "create a; write a 0 8; close a; write a 1 1; fsync a": "",
    NEW + "write a 0 2; fsync a; write a 2 2; close a": "overwrite_in_place tail_applied",
    NEW + "write a 4 1; fsync a; write a 5 1; close a": "object_not_synced",
    NEW + "write a 6 2; close a; create b; fsync b; write a 2 2; close a; fsync b": "node_straight_home",
    "create a; truncate a 6; fsync a; write a 4 2; close a; create b; fsync b": "page_straight_home",
    NEW + "write a 0 2; fsync a; checkpoint; write a 2 2; close a; checkpoint; write a 0 1; fsync a":
        "epoch_before_homes",
    NEW + "truncate a 1; write a 4 1; fsync a; truncate a 3; close a; truncate a 8; fsync a": "",
    "create a; write a 0 1; fsync a; truncate a 7; close a; write a 7 1; fsync a": "partial_chunk_kept",
    NEW + "truncate a 0; write a 0 1": "",
    NEW + "truncate a 0; fsync a; write a 0 4; fsync a": "length_in_order",
    NEW + "write a 0 2; fsync a; punch a 0; close a; write a 0 2; fsync a; punch a 0; fsync a; write a 0 2": "",
    NEW + "punch a 0; close a; write a 0 2; fsync a": "quiet_before_durable",
    "create a; write a 0 8; fsync a; punch a 3; write a 2 2": "given_back_early",
    "create a; write a 0 8; fsync a; punch a 1; punch a 2; punch a 3; fsync a; checkpoint; write a 4 4; fsync a; punch a 3; "
        "close a; checkpoint; punch a 2; checkpoint; write a 2 2; fsync a": "",
    "create a; write a 0 8; fsync a; punch a 3; fsync a; checkpoint; write a 6 1; fsync a": "null_page_read",
    "create a; write a 0 8; fsync a; punch a 1; punch a 2; fsync a; checkpoint; write a 2 2; fsync a": "",
    "create a; write a 0 8; fsync a; punch a 1; punch a 2; fsync a; write a 2 2; fsync a": "fresh_page_delta",
    NEW + "write a 0 2; fsync a; punch a 0; fsync a; write a 0 2; fsync a; punch a 1; fsync a; write a 2 2; close a":
        "live_record_ignored",
    NEW + "rewrap a; write a 0 1; fsync a; rewrap a; close a; checkpoint; rewrap a; fsync a": "rewrap_in_place",
    NEW + "write a 0 1; rewrap a; fsync a": "rewrap_marks_alone",
    "create a; write a 0 3; close a || write a 4 2; fsync a; write a 0 1; fsync a": "",
    "create a; write a 0 1; close a || create b; write b 0 1; fsync b; unlink a; checkpoint; write b 0 1; fsync b":
        "unit_freed_unseen",
    "create a; write a 0 2; fsync a; create b; write b 0 3; fsync b; write a 0 1; write b 0 2; close b; fsync a; "
        "checkpoint; write b 1 1; fsync b": "",
    "create t; write t 0 3; fsync t; write t 0 1; fsync t; rename t a; create t; fsync t; write a 0 1; fsync a":
        "hint_not_checked",
    NEW + "create t; write t 0 3; close t; rename t a; checkpoint; fsync a": "rename_without_sync",
    TWO + "write a 0 2; fsync a; rename t a; checkpoint; write a 0 1; fsync a": "unlink_not_synced",
    TWO + "write a 0 1; begin checkpoint; step; step; rename t a; end; write a 1 1; fsync a":
        "dead_list_taken_late",
    NEW + "create b; write b 0 1; fsync b; write a 0 1; fsync a; unlink a; checkpoint; create a; write a 0 2; fsync a":
        "",
    NEW + "checkpoint; unlink a; checkpoint": "unit_freed_before_unlink",
    NEW + "write a 0 2; fsync a; unlink a; create b; fsync b": "dead_mark_trusted",
    NEW + "write a 0 1; fsync a; create b; write b 0 1; fsync b; write b 0 1; fsync b": "marks_not_counted",
    NEW + "unlink_open a; write ~a 0 1; fsync ~a; checkpoint; write ~a 2 1; fsync ~a; release ~a; checkpoint; "
        "create a; fsync a": "",
    "create b; write b 0 1; fsync b; unlink b; begin checkpoint; step; step; create a; write a 0 1; close a; end":
        "unit_reused_early",
    "create a; write a 0 2; fsync a || create b; write b 0 1; close b; fsync b": "stale_free_list",
    NEW + "write a 0 2; close a; write a 2 2; close a": "recovery_log_not_synced",
    "create a; write a 0 2; close a || write a 0 1; fsync a; write a 2 2; close a": "idle_recovery_not_synced",
    NEW + "write a 4 1; begin fsync a; write a 0 1; begin fsync a; end 1; end": "clean_before_synced",
    NEW + "write a 4 2; begin fsync a; write a 4 2; end; fsync a": "written_after_sync",
    NEW + "create b; write b 0 1; fsync b; write a 0 1; begin fsync a; write b 0 1; begin fsync b; end 1; end":
        "join_running_sync",
    NEW + "write a 4 2; begin fsync a; step; punch a 2; close a; write a 4 2; end; fsync a": "two_states_enough",
    NEW + "write a 0 1; begin fsync a; write a 4 2; checkpoint; end; punch a 2; close a; write a 4 2": "",
    "create a; begin fsync a; write a 0 2; close a; end; write a 0 1; fsync a": "second_direct_commit",
    NEW + "begin checkpoint; write a 4 2; step; end; fsync a; write a 0 1; close a": "",
    NEW + "write a 4 2; close a; create b; fsync b": "home_writes_believed",
    "create a; write a 0 6; fsync a; write a 6 2; close a; punch a 3; close a; fsync a; write a 6 2": "synced_not_told",
    "create a; write a 0 6; fsync a; write a 6 2; close a; punch a 3; fsync a; write a 6 2": "synced_is_judged",
    NEW + "write a 4 2; close a; write a 4 2; close a; checkpoint": "logged_chunk_judged",
    NEW + "write a 4 2; write a 0 2; close a": "homes_not_synced_first",
    NEW + "write a 4 2; write a 0 1; checkpoint": "homes_over_unsynced",
    "create a; write a 0 3; close a": "crash_forgotten unsynced_not_cut",
    "create b; begin checkpoint; step; create a; write a 0 2; end; close a": "birth_before_checkpoint",
    "create a; write a 0 4; close a || write a 4 2; fsync a": "cut_not_synced remains_not_cleared",
    NEW + "write a 0 1; begin checkpoint; write a 4 2; end; fsync a": "home_cuts_current",
    NEW + "write a 0 2; fsync a; begin checkpoint; punch a 0; end; write a 2 1; fsync a": "",
    NEW + "write a 0 1; begin checkpoint; step; write a 1 1; begin fsync a; create b; write b 0 1; begin fsync b; end":
        "append_during_checkpoint",
}
TAMPERED = (
    "create a; write a 0 5; fsync a; create b; write b 0 2; fsync b; write a 0 2; close a; rewrap b; fsync b; "
    "checkpoint; write a 2 1; fsync a; punch a 1; close a; truncate a 2; fsync a; write a 4 4; write b 0 1; close b; "
    "rewrap a; fsync a; checkpoint; truncate a 0; fsync a; write a 0 3; fsync a; create t; write t 0 8; fsync t; "
    "rename t b; checkpoint; write a 4 2; fsync a; punch a 2; fsync a; write a 2 2; write b 3 1; fsync b; checkpoint")
BUGS = [(bug, workload) for workload, bugs in WORKLOADS.items() for bug in bugs.split()]
BUGS += [(bug, TAMPERED) for bug in ("length_from_file", "header_entries_unchecked", "seal_of_any_object")]

def random_workload(rng, length):
    def name(): return rng.choice(("a", "a", "a", "b", "t", "~a"))
    def write():
        count = rng.choice((1, 2, 2, 4))
        return f"write {name()} {min(rng.randrange(CHUNKS * SECTORS), CHUNKS * SECTORS - count)} {count}"
    verbs = {write: 34, lambda: "fsync " + name(): 12, lambda: "close " + name(): 10, lambda: "rewrap " + name(): 4,
             lambda: f"truncate {name()} {rng.randrange(CHUNKS * SECTORS + 1)}": 6,
             lambda: f"punch {name()} {rng.randrange(CHUNKS)}": 6, lambda: "create " + rng.choice("abt"): 10,
             lambda: "rename " + " ".join(rng.sample(ALL_NAMES, 2)): 6,
             lambda: rng.choice(("unlink ", "unlink_open ")) + rng.choice(ALL_NAMES): 5, lambda: "release ~a": 2,
             lambda: "checkpoint": 4, lambda: "begin checkpoint": 4, lambda: "begin fsync " + name(): 10,
             lambda: f"step {rng.randrange(3)}": 12, lambda: "end": 4}
    chosen = rng.choices(list(verbs), verbs.values(), k=rng.randint(length // 2, length))
    return "; ".join(["create a"] + [verb() for verb in chosen])

def main():
    parser = argparse.ArgumentParser(description="Model checker of the commit protocol.")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    start, failed = time.monotonic(), False

    def until(part): return start + args.seconds * part * .98
    def share(end, left): return time.monotonic() + max(.5, (end - time.monotonic()) / left)

    crash, attack = Campaign(args.seed), Campaign(args.seed)
    for number, workload in enumerate(WORKLOADS):
        crash.check(workload, 200, share(until(.45), len(WORKLOADS) - number))
    while time.monotonic() < until(.72): crash.check(random_workload(crash.rng, 16), 40, until(.72))
    attack.tamper(TAMPERED, 10 ** 9, until(.85))
    for label, campaign in (("crashes", crash), ("tampering", attack)):
        print(f"{label}: " + ", ".join(f"{what} {n}" for what, n in campaign.counts.items()))
        print(f"{label}: violations {sum(campaign.found.values())}")
        for what, n in campaign.found.most_common(10): print(f"   {n} x {what}")
        failed |= bool(campaign.found)
    for number, (bug, workload) in enumerate(BUGS):
        deadline, seeds = share(until(1), len(BUGS) - number), itertools.count(args.seed)
        hunt = Campaign(0, (bug,))
        while not hunt.found and time.monotonic() < deadline:
            hunt.rng.seed(next(seeds))
            if workload == TAMPERED: hunt.tamper(TAMPERED, 1000, deadline)
            else: hunt.check(workload, 60, deadline, lives=3 * ("||" in workload))
        print(f"seeded bug {bug}: {'caught: ' + next(iter(hunt.found)) if hunt.found else 'NOT CAUGHT'}"[:118])
        failed |= not hunt.found
    print(f"{time.monotonic() - start:.0f} s, {'FAILED' if failed else 'passed'}")
    return 1 if failed else 0

if __name__ == "__main__":
    sys.exit(main())
