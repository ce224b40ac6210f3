//! Walking over what there is in the tree, whatever lies between.

use super::{ReadBlock, Table, Tables, hash_at};
use crate::Result;
use kmsfs_format::bytes::is_zero;
use kmsfs_format::layout::{FANOUT, PageIndex, TableId};
use kmsfs_format::tree::{Hash, NULL};
use std::ops::Range;

impl Tables {
    /// The first of these pages that has an entry. A subtree without any costs one look at its hash, however large it
    /// is.
    pub(crate) fn next_page(&mut self, pages: Range<u64>, read: ReadBlock<'_>) -> Result<Option<PageIndex>> {
        let pages = pages.start..pages.end.min(self.pages);
        if pages.is_empty() {
            return Ok(None);
        }
        let linked = self.next_linked(TableId::top(self.pages), self.top, &pages, read)?;
        // No node knows of a new page before it is hashed; it is in memory till then.
        let before = PageIndex(linked.unwrap_or(pages.end)).table();
        let mut in_memory = self.loaded.range(PageIndex(pages.start).table()..before);
        let unlinked = in_memory.find(|(_, table)| !table.is_empty()).map(|(id, _)| id.index);
        Ok(unlinked.or(linked).map(PageIndex))
    }

    /// The same below one table, as far as hashes lead there. `hash` is what its place in the tree says of it.
    fn next_linked(&mut self, id: TableId, hash: Hash, pages: &Range<u64>, read: ReadBlock<'_>) -> Result<Option<u64>> {
        // What is in memory may be newer than its hash.
        let table = self.loaded.get(&id);
        if id.level == 0 {
            let is_there = table.map_or(hash != NULL, |table| !table.is_empty());
            return Ok(is_there.then_some(id.index));
        }
        if table.is_none() && hash == NULL {
            return Ok(None);
        }
        self.bring_table(id, read)?;
        for place in id.place_of(pages.start)..FANOUT {
            let child = id.child(place, self.pages).filter(|_| id.first_page_at(place) < pages.end);
            let Some(child) = child else { break };
            let hash = hash_at(&self.loaded[&id].now, place as usize);
            if let Some(found) = self.next_linked(child, hash, pages, read)? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// Pages in memory that the committed state needs although they may be empty now, or that the log would bring back.
    pub(crate) fn needed_pages(&self) -> impl Iterator<Item = PageIndex> {
        let pages = self.loaded.range(..TableId { level: 1, index: 0 });
        let was_there = |table: &Table| table.committed.as_ref().is_some_and(|committed| !is_zero(&committed[..]));
        pages.filter(move |(_, table)| table.in_log || was_there(table)).map(|(id, _)| PageIndex(id.index))
    }

    /// Nodes that the log would bring back.
    pub(crate) fn nodes_in_log(&self) -> impl Iterator<Item = TableId> {
        let nodes = self.loaded.range(TableId { level: 1, index: 0 }..);
        nodes.filter(|(_, table)| table.in_log).map(|(id, _)| *id)
    }
}
