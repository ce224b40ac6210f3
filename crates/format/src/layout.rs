//! Where everything is in an object file: the only code that relates plaintext lengths and chunk numbers to offsets.
//!
//! ```text
//! header block | 64 chunks | group | group | ...     group: [node] table page, 128 chunks
//! ```
//! All of it in blocks of 4,096 bytes; with tag entries for two layers, half as many chunks in each place.
//! An inner node of 128 hashes stands right before its second child, wherever a
//! length has two children or more for it.

use kmsfs_crypto::Suite;

/// Bytes in a block of an object file.
pub const BLOCK: u64 = 4096;
/// Plaintext bytes in a chunk, and ciphertext bytes: the tags are elsewhere.
pub const CHUNK: u64 = 4096;
/// Bytes of the tag entries in the header block.
pub const HEADER_ENTRIES: usize = 2048;
/// Children of an inner node.
pub const FANOUT: u64 = 128;
/// Longest plaintext: 2^56 bytes, so that no computation here overflows. Backing file systems allow less.
pub const MAX_PLAIN: u64 = 1 << 56;

/// How many tag entries have room where: a property of an object, which follows from its cipher suite.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Geometry {
    /// Entries of 32 bytes, for one layer of encryption: 64 chunks, then 128 a page.
    Single,
    /// Entries of 64 bytes, for two layers: 32 chunks, then 64 a page.
    Dual,
}

impl Geometry {
    /// The geometry of objects under that suite.
    pub fn of(suite: Suite) -> Self {
        match suite {
            Suite::Aes256Gcm => Self::Single,
            Suite::DualAes256Gcm => Self::Dual,
        }
    }

    /// Bytes of a tag entry.
    pub const fn entry(self) -> usize {
        match self {
            Self::Single => 32,
            Self::Dual => 64,
        }
    }

    /// Chunks whose tag entries are in the header block.
    pub const fn header_chunks(self) -> u64 {
        (HEADER_ENTRIES / self.entry()) as u64
    }

    /// Chunks whose tag entries are in one table page.
    pub const fn page_chunks(self) -> u64 {
        BLOCK / self.entry() as u64
    }

    /// Number of a page's block in the object file.
    fn page_block(self, page: u64) -> u64 {
        1 + self.header_chunks() + page * (1 + self.page_chunks()) + nodes_through(page)
    }

    /// The last page whose table is at this byte of an object file or before it.
    pub fn page_at(self, offset: u64) -> Option<PageIndex> {
        self.last_page_at_or_before(offset / BLOCK).map(PageIndex)
    }

    fn last_page_at_or_before(self, block: u64) -> Option<u64> {
        // Without nodes it would be this page; each node moves pages back, so it is this one or an earlier one.
        let mut high = (block - 1 - self.header_chunks()) / (1 + self.page_chunks()) + 1;
        let mut low = 0;
        if self.page_block(0) > block {
            return None;
        }
        while high - low > 1 {
            let middle = u64::midpoint(low, high);
            if self.page_block(middle) <= block { low = middle } else { high = middle }
        }
        Some(low)
    }
}

/// Bytes of plaintext, as users see a length.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct PlainLen(pub u64);

/// Bytes of an object file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct CipherLen(pub u64);

/// Number of a chunk of plaintext, from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChunkIndex(pub u64);

/// Number of a table page, from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PageIndex(pub u64);

/// A table page (`level` 0) or an inner node (1 and up) of the hash tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TableId {
    /// 0 is a table page, 1 and up are inner nodes.
    pub level: u32,
    /// Number of the table in its level, from 0.
    pub index: u64,
}

/// Where a chunk's tag entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EntrySlot {
    /// This entry of the header block.
    Header(usize),
    /// This entry of a table page.
    Page(PageIndex, usize),
}

/// A length of an object file that no writer makes: it ends inside the header, a page or a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ImpossibleLength(pub u64);

impl PlainLen {
    /// Chunks that it has, the last one perhaps partial.
    pub fn chunks(self) -> u64 {
        self.0.div_ceil(CHUNK)
    }

    /// Table pages that it has.
    pub fn pages(self, geometry: Geometry) -> u64 {
        self.chunks().saturating_sub(geometry.header_chunks()).div_ceil(geometry.page_chunks())
    }

    /// Bytes that a chunk has at this length, 0 past the end.
    pub fn bytes_in(self, chunk: ChunkIndex) -> usize {
        self.0.saturating_sub(chunk.0 * CHUNK).min(CHUNK) as usize
    }

    /// Length of an object file with so much plaintext.
    pub fn cipher(self, geometry: Geometry) -> CipherLen {
        match self.chunks() {
            0 => CipherLen(BLOCK),
            n => {
                let last = ChunkIndex(n - 1);
                CipherLen(last.offset(geometry) + self.bytes_in(last) as u64)
            }
        }
    }
}

impl CipherLen {
    /// The plaintext length of an object file of this length.
    pub fn plain(self, geometry: Geometry) -> Result<PlainLen, ImpossibleLength> {
        let (header_chunks, page_chunks) = (geometry.header_chunks(), geometry.page_chunks());
        let impossible = ImpossibleLength(self.0);
        if self.0 < BLOCK || self.0 > PlainLen(MAX_PLAIN).cipher(geometry).0 {
            return Err(impossible);
        }
        if self.0 == BLOCK {
            return Ok(PlainLen(0));
        }
        let block = (self.0 - 1) / BLOCK;
        let chunk = if block <= header_chunks {
            block - 1
        } else {
            let page = geometry.last_page_at_or_before(block).ok_or(impossible)?;
            match block - geometry.page_block(page) {
                within if (1..=page_chunks).contains(&within) => header_chunks + page * page_chunks + within - 1,
                _ => return Err(impossible),
            }
        };
        Ok(PlainLen(chunk * CHUNK + (self.0 - block * BLOCK)))
    }
}

impl ChunkIndex {
    /// The chunk that has this plaintext offset.
    pub fn at(offset: u64) -> Self {
        Self(offset / CHUNK)
    }

    /// Byte offset of its ciphertext in the object file.
    pub fn offset(self, geometry: Geometry) -> u64 {
        match self.slot(geometry) {
            EntrySlot::Header(n) => BLOCK + n as u64 * BLOCK,
            EntrySlot::Page(page, n) => (geometry.page_block(page.0) + 1 + n as u64) * BLOCK,
        }
    }

    /// Where its tag entry is.
    pub fn slot(self, geometry: Geometry) -> EntrySlot {
        let page_chunks = geometry.page_chunks();
        match self.0.checked_sub(geometry.header_chunks()) {
            None => EntrySlot::Header(self.0 as usize),
            Some(n) => EntrySlot::Page(PageIndex(n / page_chunks), (n % page_chunks) as usize),
        }
    }

    /// How many chunks from this one on, it included, lie next to each other in the object file.
    pub fn run(self, geometry: Geometry) -> u64 {
        match self.slot(geometry) {
            EntrySlot::Header(n) => geometry.header_chunks() - n as u64,
            EntrySlot::Page(_, n) => geometry.page_chunks() - n as u64,
        }
    }
}

impl PageIndex {
    /// The same page as a table of the tree.
    pub fn table(self) -> TableId {
        TableId { level: 0, index: self.0 }
    }

    /// The first chunk whose entry it has.
    pub fn first_chunk(self, geometry: Geometry) -> ChunkIndex {
        ChunkIndex(geometry.header_chunks() + self.0 * geometry.page_chunks())
    }
}

impl TableId {
    /// Byte offset in the object file.
    pub fn offset(self, geometry: Geometry) -> u64 {
        if self.level == 0 {
            geometry.page_block(self.index) * BLOCK
        } else {
            // Right before its second child, which begins with that child's first page.
            let second = self.index * span(self.level) + span(self.level - 1);
            (geometry.page_block(second) - 1) * BLOCK
        }
    }

    /// Whether it is there in a tree over that many pages: a node wants two children.
    pub fn exists(self, pages: u64) -> bool {
        let first = self.index.saturating_mul(span(self.level));
        let second = if self.level == 0 { 0 } else { span(self.level - 1) };
        first.saturating_add(second) < pages
    }

    /// The tree's top, over at least one page.
    pub fn top(pages: u64) -> Self {
        Self { level: depth(pages), index: 0 }
    }

    /// Where the hash of a page stands in a node, or of what it is below; the first place for a page before all of the
    /// node's.
    pub fn place_of(self, page: u64) -> u64 {
        page.saturating_sub(self.first_page_at(0)) / span(self.level - 1)
    }

    /// The first page below that place of a node.
    pub fn first_page_at(self, place: u64) -> u64 {
        (self.index * FANOUT + place) * span(self.level - 1)
    }

    /// What a node has the hash of in that place, in a tree over that many pages.
    pub fn child(self, place: u64, pages: u64) -> Option<Self> {
        let mut child = Self { level: self.level - 1, index: self.index * FANOUT + place };
        while !child.exists(pages) {
            // Its only child stands in for it.
            child = Self { level: child.level.checked_sub(1)?, index: child.index * FANOUT };
        }
        Some(child)
    }

    /// The nodes above it, up to the top.
    pub fn ancestors(self, pages: u64) -> impl Iterator<Item = Self> {
        std::iter::successors(self.parent(pages), move |(id, _)| id.parent(pages)).map(|(id, _)| id)
    }

    /// The node that holds its hash and the place there, or `None` if its hash is the tree's top.
    pub fn parent(self, pages: u64) -> Option<(TableId, usize)> {
        let mut child = self.index;
        for level in self.level + 1..=depth(pages) {
            let parent = TableId { level, index: child / FANOUT };
            if parent.exists(pages) {
                return Some((parent, (child % FANOUT) as usize));
            }
            child /= FANOUT;
        }
        None
    }
}

/// Levels of inner nodes in a tree over that many pages.
pub fn depth(pages: u64) -> u32 {
    let mut depth = 0;
    while span(depth) < pages {
        depth += 1;
    }
    depth
}

/// Tables on the way from the last page to the top: those whose place in the tree can change when its size does.
pub fn right_spine(pages: u64) -> impl Iterator<Item = TableId> {
    let last = pages.wrapping_sub(1);
    (0..=depth(pages))
        .map(move |level| TableId { level, index: last / span(level) })
        .filter(move |table| pages > 0 && table.exists(pages))
}

/// Pages under a table of this level.
fn span(level: u32) -> u64 {
    FANOUT.saturating_pow(level)
}

/// Inner nodes that stand before this page or an earlier one.
fn nodes_through(page: u64) -> u64 {
    (1..=8).map(|level| page.checked_sub(span(level - 1)).map_or(0, |past| past / span(level) + 1)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOTH: [Geometry; 2] = [Geometry::Single, Geometry::Dual];

    /// Blocks one after another as FORMAT.md lists them, without any formula.
    fn lay_out(pages: u64, geometry: Geometry) -> Vec<(&'static str, u32, u64)> {
        let mut blocks = vec![("header", 0, 0)];
        blocks.extend((0..geometry.header_chunks()).map(|n| ("chunk", 0, n)));
        for page in 0..pages {
            for level in 1..4u32 {
                if page % FANOUT.pow(level) == FANOUT.pow(level - 1) {
                    blocks.push(("node", level, page / FANOUT.pow(level)));
                }
            }
            blocks.push(("page", 0, page));
            let first = geometry.header_chunks() + page * geometry.page_chunks();
            blocks.extend((0..geometry.page_chunks()).map(|n| ("chunk", 0, first + n)));
        }
        blocks
    }

    #[test]
    fn every_block_is_where_the_format_says() {
        for g in BOTH {
            every_block_is_where(g);
        }
    }

    fn every_block_is_where(g: Geometry) {
        for (place, (kind, level, index)) in lay_out(129 * 128 + 3, g).into_iter().enumerate() {
            let offset = place as u64 * BLOCK;
            let page_chunks = g.page_chunks();
            match kind {
                // Two million chunks: the first and the last of each page will do.
                "chunk"
                    if index > 66 && (2..page_chunks - 1).contains(&((index - g.header_chunks()) % page_chunks)) => {}
                "chunk" => {
                    assert_eq!(ChunkIndex(index).offset(g), offset);
                    let plain = PlainLen(index * CHUNK + 1);
                    assert_eq!(plain.cipher(g), CipherLen(offset + 1));
                    assert_eq!(CipherLen(offset + 1).plain(g), Ok(plain));
                    assert_eq!(CipherLen(offset + BLOCK).plain(g), Ok(PlainLen((index + 1) * CHUNK)));
                }
                "page" | "node" => {
                    assert_eq!(TableId { level, index }.offset(g), offset, "{kind} {level} {index}");
                    for inside in [1, 2048, BLOCK] {
                        assert_eq!(CipherLen(offset + inside).plain(g), Err(ImpossibleLength(offset + inside)));
                    }
                }
                _ => {}
            }
        }
    }

    #[test]
    fn lengths_without_a_header_are_impossible() {
        for g in BOTH {
            for len in [0, 1, 511, 4095] {
                assert_eq!(CipherLen(len).plain(g), Err(ImpossibleLength(len)));
            }
            assert_eq!(CipherLen(4096).plain(g), Ok(PlainLen(0)));
            assert_eq!(CipherLen(u64::MAX).plain(g), Err(ImpossibleLength(u64::MAX)));
        }
    }

    #[test]
    fn lengths_go_there_and_back_up_to_the_longest() {
        for g in BOTH {
            let mut len = 1u64;
            while len < MAX_PLAIN {
                for plain in [len - 1, len, len + 1, len + 4095] {
                    assert_eq!(PlainLen(plain).cipher(g).plain(g), Ok(PlainLen(plain)));
                }
                len = len * 3 / 2 + 1;
            }
            assert_eq!(PlainLen(MAX_PLAIN).cipher(g).plain(g), Ok(PlainLen(MAX_PLAIN)));
        }
    }

    #[test]
    fn up_to_32_chunks_one_length_means_the_same_in_both_geometries() {
        for len in (0..=32 * CHUNK).step_by(512) {
            assert_eq!(PlainLen(len).cipher(Geometry::Single), PlainLen(len).cipher(Geometry::Dual));
        }
        assert_ne!(PlainLen(32 * CHUNK + 1).cipher(Geometry::Single), PlainLen(32 * CHUNK + 1).cipher(Geometry::Dual));
    }

    #[test]
    fn a_node_is_there_from_its_second_child_on() {
        let node = TableId { level: 1, index: 0 };
        assert!(!node.exists(1) && node.exists(2));
        let second = TableId { level: 1, index: 1 };
        assert!(!second.exists(129) && second.exists(130));
        let top = TableId { level: 2, index: 0 };
        assert!(!top.exists(128) && top.exists(129));
        let page = |index| TableId { level: 0, index };
        assert_eq!(page(0).parent(1), None);
        assert_eq!(page(0).parent(2), Some((node, 0)));
        assert_eq!(page(128).parent(129), Some((top, 1)));
        assert_eq!(page(128).parent(130), Some((second, 0)));
        assert_eq!(second.parent(130), Some((top, 1)));
        assert_eq!(top.parent(130), None);
    }

    #[test]
    fn the_right_spine_is_the_last_page_and_the_nodes_above_it() {
        let spine = |pages| right_spine(pages).map(|t| (t.level, t.index)).collect::<Vec<_>>();
        assert_eq!(spine(0), vec![]);
        assert_eq!(spine(1), vec![(0, 0)]);
        assert_eq!(spine(129), vec![(0, 128), (2, 0)]);
        assert_eq!(spine(130), vec![(0, 129), (1, 1), (2, 0)]);
    }
}
