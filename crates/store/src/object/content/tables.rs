//! An object's tag entries and hash tree: what is in memory of them, and how it follows the object's length.

mod walk;

use crate::mistakes::{Mistake, Seeded};
use crate::{Error, Result};
use kmsfs_format::bytes::is_zero;
use kmsfs_format::entry::{Entry, is_present};
use kmsfs_format::header::Seal;
use kmsfs_format::layout::{
    BLOCK, ChunkIndex, EntrySlot, FANOUT, Geometry, HEADER_ENTRIES, PageIndex, PlainLen, TableId, depth, right_spine,
};
use kmsfs_format::tree::{Hash, NULL, entries_hash, table_hash};
use std::collections::BTreeMap;
use std::ops::Range;

/// A block of the object file.
pub(crate) type Block = [u8; BLOCK as usize];

/// A table page or inner node in memory.
#[derive(Clone)]
struct Table {
    now: Box<Block>,
    /// As of the latest commit, where `now` may differ. `None` in a dirty table: it was not there, or empty.
    committed: Option<Box<Block>>,
    dirty: bool,
    /// The log holds bytes of it, so home is stale and it must stay in memory.
    in_log: bool,
}

/// The tables of the present state, those of the committed one beside them where they differ.
#[derive(Clone)]
pub(crate) struct Tables {
    geometry: Geometry,
    seeded: Seeded,
    /// Table pages that the present length has.
    pages: u64,
    header: Box<[u8; HEADER_ENTRIES]>,
    /// As `Table::committed`, for the header's entries.
    header_committed: Option<Box<[u8; HEADER_ENTRIES]>>,
    /// Hash of the tree's top; while the top table is in memory and dirty, of what it was.
    top: Hash,
    loaded: BTreeMap<TableId, Table>,
}

/// Byte ranges of an object file that a commit changes.
pub(crate) struct Change {
    pub(crate) offset: u64,
    pub(crate) bytes: Vec<u8>,
}

/// Reads a block of the object file, from the log's overlay or from home.
pub(crate) type ReadBlock<'a> = &'a dyn Fn(u64, &mut Block) -> Result<()>;

impl Tables {
    /// Without any chunk.
    pub(crate) fn new(geometry: Geometry, seeded: Seeded) -> Self {
        Self {
            geometry,
            seeded,
            pages: 0,
            header: Box::new([0; HEADER_ENTRIES]),
            header_committed: None,
            top: NULL,
            loaded: BTreeMap::new(),
        }
    }

    /// Where chunks and tables are.
    pub(crate) fn geometry(&self) -> Geometry {
        self.geometry
    }

    /// Empty ones of another geometry: what they become is compared with the header's entries as these are committed.
    pub(crate) fn emptied(&self, geometry: Geometry) -> Self {
        let committed = self.header_committed.clone().unwrap_or_else(|| self.header.clone());
        Self { header_committed: Some(committed), ..Self::new(geometry, self.seeded) }
    }

    /// The tables of a sealed state: checks the header's entries. The tree is checked as far as it is read.
    pub(crate) fn load(
        entries: &[u8],
        geometry: Geometry,
        length: PlainLen,
        seal: &Seal,
        seeded: Seeded,
    ) -> Result<Self> {
        if entries_hash(entries) != seal.entries && !seeded.is(Mistake::HeaderEntriesUnchecked) {
            return Err(Error::Corrupt("the header's tag entries are not the sealed ones".into()));
        }
        let mut tables = Self::new(geometry, seeded);
        tables.header.copy_from_slice(entries);
        tables.pages = length.pages(geometry);
        tables.top = seal.top;
        Ok(tables)
    }

    /// Brings in the page that describes a chunk, verified, so that `entry` and the rest can be asked.
    pub(crate) fn bring(&mut self, chunk: ChunkIndex, read: ReadBlock<'_>) -> Result<()> {
        match chunk.slot(self.geometry) {
            EntrySlot::Header(_) => Ok(()),
            EntrySlot::Page(page, _) => self.bring_table(page.table(), read),
        }
    }

    fn bring_table(&mut self, id: TableId, read: ReadBlock<'_>) -> Result<()> {
        if self.loaded.contains_key(&id) || !id.exists(self.pages) {
            return Ok(());
        }
        let expected = match id.parent(self.pages) {
            None => self.top,
            Some((parent, slot)) => {
                self.bring_table(parent, read)?;
                hash_at(&self.loaded[&parent].now, slot)
            }
        };
        let mut now = Box::new([0; BLOCK as usize]);
        if expected != NULL || self.seeded.is(Mistake::NullPageRead) {
            read(id.offset(self.geometry), &mut now)?;
            if table_hash(id.level, &now[..]) != expected && expected != NULL {
                let kind = if id.level == 0 { "table page" } else { "node" };
                return Err(Error::Corrupt(format!("{kind} {} is not the sealed one", id.index)));
            }
        }
        self.loaded.insert(id, Table { now, committed: None, dirty: false, in_log: false });
        Ok(())
    }

    /// Whether `bring` has been done for the chunk.
    pub(crate) fn has(&self, chunk: ChunkIndex) -> bool {
        match chunk.slot(self.geometry) {
            EntrySlot::Header(_) => true,
            EntrySlot::Page(page, _) => page.0 >= self.pages || self.loaded.contains_key(&page.table()),
        }
    }

    /// The chunk's entry; its page has been brought.
    pub(crate) fn entry(&self, chunk: ChunkIndex) -> Result<Option<Entry>> {
        let (table, n) = match chunk.slot(self.geometry) {
            EntrySlot::Header(n) => (&self.header[..], n),
            EntrySlot::Page(page, n) => match self.loaded.get(&page.table()) {
                Some(table) => (&table.now[..], n),
                None => return Ok(None),
            },
        };
        Ok(Entry::read(table, n, self.geometry)?)
    }

    /// Whether the chunk is no hole; its page has been brought.
    pub(crate) fn is_present(&self, chunk: ChunkIndex) -> bool {
        match chunk.slot(self.geometry) {
            EntrySlot::Header(n) => is_present(&self.header[..], n, self.geometry),
            EntrySlot::Page(page, n) => {
                self.loaded.get(&page.table()).is_some_and(|table| is_present(&table.now[..], n, self.geometry))
            }
        }
    }

    /// Whether the committed state refers to the chunk; its page has been brought, and the object was not shorter than
    /// the chunk since the commit.
    pub(crate) fn committed_refers(&self, chunk: ChunkIndex) -> bool {
        match chunk.slot(self.geometry) {
            EntrySlot::Header(n) => is_present(
                self.header_committed.as_ref().map_or(&self.header[..], |table| &table[..]),
                n,
                self.geometry,
            ),
            EntrySlot::Page(page, n) => self.loaded.get(&page.table()).is_some_and(|table| match &table.committed {
                Some(committed) => is_present(&committed[..], n, self.geometry),
                None => !table.dirty && is_present(&table.now[..], n, self.geometry),
            }),
        }
    }

    /// Sets or clears the entry of a chunk inside the present length; its page has been brought.
    pub(crate) fn set(&mut self, chunk: ChunkIndex, entry: Option<&Entry>) {
        match chunk.slot(self.geometry) {
            EntrySlot::Header(n) => {
                self.header_committed.get_or_insert_with(|| self.header.clone());
                Entry::write(entry, &mut self.header[..], n, self.geometry);
            }
            EntrySlot::Page(page, n) => {
                if let Some(table) = self.loaded.get_mut(&page.table()) {
                    table.touch();
                    Entry::write(entry, &mut table.now[..], n, self.geometry);
                }
            }
        }
    }

    /// Clears all the entries of a page, which has been brought.
    pub(crate) fn clear_page(&mut self, page: PageIndex) {
        if let Some(table) = self.loaded.get_mut(&page.table())
            && !table.is_empty()
        {
            table.touch();
            table.now.fill(0);
        }
    }

    /// Follows the object's length: entries past it are cleared, tables that no longer exist go, those whose place in
    /// the tree changes are brought and marked, so that the next commit hashes them into their new places.
    pub(crate) fn resize(&mut self, from: PlainLen, to: PlainLen, read: ReadBlock<'_>) -> Result<()> {
        if to < from {
            self.cut(to, read)?;
            for n in to.chunks()..self.geometry.header_chunks().min(from.chunks()) {
                self.set(ChunkIndex(n), None);
            }
            return Ok(());
        }
        let (old, new) = (self.pages, to.pages(self.geometry));
        if new == old {
            return Ok(());
        }
        let spine: Vec<_> = right_spine(old).collect();
        for id in &spine {
            self.bring_table(*id, read)?;
        }
        self.pages = new;
        for id in &spine {
            self.loaded.get_mut(id).expect("it was brought").touch();
        }
        // Nodes that the growth calls into being over what was there: empty until the commit fills them.
        let last = old.saturating_sub(1);
        for id in (1..=depth(new)).map(|level| TableId { level, index: last / FANOUT.pow(level) }) {
            if id.exists(new) && !id.exists(old) {
                self.loaded.insert(id, Table::fresh());
            }
        }
        Ok(())
    }

    /// Brings what a cut to that length changes; the cut itself cannot fail then.
    pub(crate) fn prepare_cut(&mut self, length: PlainLen, read: ReadBlock<'_>) -> Result<()> {
        cut_spine(self.pages, length.pages(self.geometry)).into_iter().try_for_each(|id| self.bring_table(id, read))
    }

    fn cut(&mut self, length: PlainLen, read: ReadBlock<'_>) -> Result<()> {
        let (old, new) = (self.pages, length.pages(self.geometry));
        if new == 0 {
            self.loaded.clear();
            self.top = NULL;
            self.pages = 0;
            return Ok(());
        }
        self.prepare_cut(length, read)?;
        let spine = cut_spine(old, new);
        self.pages = new;
        self.loaded.retain(|id, _| id.exists(new));
        for id in spine.into_iter().filter(|id| id.exists(new)) {
            let (size, keep) = if id.level == 0 {
                (self.geometry.entry(), length.chunks() - PageIndex(id.index).first_chunk(self.geometry).0)
            } else {
                // Children that have a page below the cut.
                (NULL.len(), (new - id.index * FANOUT.pow(id.level)).div_ceil(FANOUT.pow(id.level - 1)))
            };
            let keep = keep as usize * size;
            let table = self.loaded.get_mut(&id).expect("it was brought and exists");
            if new < old || table.now[keep.min(table.now.len())..].iter().any(|byte| *byte != 0) {
                table.touch();
                let from = keep.min(table.now.len());
                table.now[from..].fill(0);
            }
        }
        Ok(())
    }

    /// Hashes what is dirty up to the top. Returns the hashes of the header's entries and of the tree's top. Nodes that
    /// are needed are brought.
    pub(crate) fn rehash(&mut self, read: ReadBlock<'_>) -> Result<(Hash, Hash)> {
        // In order of level: a child's hash is in its parent before that is hashed.
        let mut level = 0;
        while level <= depth(self.pages) {
            let dirty: Vec<_> = self
                .loaded
                .range(TableId { level, index: 0 }..TableId { level: level + 1, index: 0 })
                .filter(|(_, table)| table.dirty)
                .map(|(id, _)| *id)
                .collect();
            for id in dirty {
                let hash = table_hash(id.level, &self.loaded[&id].now[..]);
                match id.parent(self.pages) {
                    None => self.top = hash,
                    Some((parent, slot)) => {
                        self.bring_table(parent, read)?;
                        let parent = self.loaded.get_mut(&parent).expect("it was brought");
                        if hash_at(&parent.now, slot) != hash || parent.committed.is_none() {
                            parent.touch();
                            parent.now[slot * NULL.len()..(slot + 1) * NULL.len()].copy_from_slice(&hash);
                        }
                    }
                }
            }
            level += 1;
        }
        Ok((entries_hash(&self.header[..]), self.top))
    }

    /// The header block's tag entries.
    pub(crate) fn header_entries(&self) -> &[u8] {
        &self.header[..]
    }

    /// What the present tables change against the committed ones, as ranges of the object file. A table that was empty
    /// or absent is written whole (L3), an empty one not at all.
    pub(crate) fn changes(&self, entries_at: u64) -> Vec<Change> {
        let mut changes = Vec::new();
        if let Some(committed) = &self.header_committed {
            add_ranges(&mut changes, entries_at, &committed[..], &self.header[..]);
        }
        for (id, table) in self.loaded.iter().filter(|(_, table)| table.dirty) {
            if table.is_empty() {
                continue;
            }
            match &table.committed {
                Some(committed) if !is_zero(&committed[..]) => {
                    add_ranges(&mut changes, id.offset(self.geometry), &committed[..], &table.now[..]);
                }
                _ if self.seeded.is(Mistake::FreshPageDelta) => {
                    add_ranges(&mut changes, id.offset(self.geometry), &[0; BLOCK as usize], &table.now[..]);
                }
                _ => changes.push(Change { offset: id.offset(self.geometry), bytes: table.now.to_vec() }),
            }
        }
        changes
    }

    /// The tables that the next commit writes for the first time.
    pub(crate) fn fresh(&self) -> impl Iterator<Item = TableId> {
        let is_new = |table: &Table| table.committed.as_ref().is_none_or(|committed| is_zero(&committed[..]));
        let dirty = self.loaded.iter().filter(|(_, table)| table.dirty);
        dirty.filter(move |(_, table)| is_new(table) && !table.is_empty()).map(|(id, _)| *id)
    }

    /// Chunks that the committed state refers to and the present one does not, among the tables in memory.
    pub(crate) fn dropped(&self) -> Vec<Range<u64>> {
        let geometry = self.geometry;
        let mut dropped: Vec<Range<u64>> = Vec::new();
        let mut add = |committed: &[u8], now: &[u8], first: u64| {
            for n in (0..now.len() / geometry.entry())
                .filter(|n| is_present(committed, *n, geometry) && !is_present(now, *n, geometry))
            {
                let chunk = first + n as u64;
                match dropped.last_mut() {
                    Some(last) if last.end == chunk => last.end += 1,
                    _ => dropped.push(chunk..chunk + 1),
                }
            }
        };
        if let Some(committed) = &self.header_committed {
            add(&committed[..], &self.header[..], 0);
        }
        for (id, table) in self.loaded.iter().filter(|(id, table)| id.level == 0 && table.dirty) {
            if let Some(committed) = &table.committed {
                add(&committed[..], &table.now[..], PageIndex(id.index).first_chunk(geometry).0);
            }
        }
        dropped
    }

    /// The present state has been committed; `logged` if the log holds what changed.
    pub(crate) fn settle(&mut self, logged: bool) {
        self.header_committed = None;
        for table in self.loaded.values_mut().filter(|table| table.dirty) {
            table.dirty = false;
            table.committed = None;
            // An empty one is written nowhere.
            table.in_log |= logged && !table.is_empty();
        }
    }

    /// A checkpoint has written home what the log held.
    pub(crate) fn written_home(&mut self) {
        self.loaded.values_mut().for_each(|table| table.in_log = false);
    }

    /// Bytes of memory.
    pub(crate) fn bytes(&self) -> usize {
        2 * HEADER_ENTRIES + self.loaded.len() * (BLOCK as usize + 64)
    }

    /// Lets go of every other table that can be read again.
    pub(crate) fn evict_half(&mut self) {
        let mut keep = true;
        self.loaded.retain(|_, table| {
            let clean = !table.dirty && !table.in_log;
            keep ^= clean;
            keep || !clean
        });
    }
}

impl Table {
    fn is_empty(&self) -> bool {
        is_zero(&self.now[..])
    }

    fn fresh() -> Self {
        Self { now: Box::new([0; BLOCK as usize]), committed: None, dirty: true, in_log: false }
    }

    /// Keeps the committed content, at the first change after a commit.
    fn touch(&mut self) {
        if !self.dirty {
            self.dirty = true;
            self.committed = Some(self.now.clone());
        }
    }
}

/// The tables above the last page that a cut leaves, as they are in the tree before.
fn cut_spine(old: u64, new: u64) -> Vec<TableId> {
    let Some(last) = new.checked_sub(1) else { return Vec::new() };
    let spine = (0..=depth(old)).map(|level| TableId { level, index: last / FANOUT.pow(level) });
    spine.filter(|id| id.exists(old)).collect()
}

fn hash_at(node: &Block, slot: usize) -> Hash {
    node[slot * NULL.len()..(slot + 1) * NULL.len()].try_into().expect("a hash has 32 bytes")
}

/// Ranges in which two tables differ, in pieces that entries and hashes are made of; gaps that a record's header would
/// outweigh are included.
fn add_ranges(changes: &mut Vec<Change>, base: u64, old: &[u8], new: &[u8]) {
    const PIECE: usize = 32;
    const GAP: usize = 3 * PIECE;
    let mut range: Option<Range<usize>> = None;
    let mut push = |range: Range<usize>| {
        changes.push(Change { offset: base + range.start as u64, bytes: new[range].to_vec() });
    };
    for at in (0..new.len()).step_by(PIECE).filter(|at| old[*at..at + PIECE] != new[*at..at + PIECE]) {
        match &mut range {
            Some(range) if at - range.end <= GAP => range.end = at + PIECE,
            _ => {
                if let Some(done) = range.replace(at..at + PIECE) {
                    push(done);
                }
            }
        }
    }
    if let Some(done) = range {
        push(done);
    }
}
