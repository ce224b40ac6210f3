//! Bytes of a file in sectors, sharing what copies have in common, so that a snapshot costs next to nothing.

use std::collections::BTreeMap;
use std::sync::Arc;

/// Bytes of a sector: what a power cut keeps or loses as one.
pub const SECTOR: usize = 512;
/// Sectors that are shared or copied together.
const GROUP: usize = 64;

/// A sector's bytes; `None` is a hole, which reads as zeros.
pub(super) type Sector = Option<Arc<[u8; SECTOR]>>;
type Group = [Sector; GROUP];

/// What a file holds at some moment. Sectors may lie past the length (space reserved); they are zeros.
#[derive(Clone, Default)]
pub(super) struct Content {
    pub(super) len: u64,
    groups: Arc<BTreeMap<u64, Arc<Group>>>,
    allocated: u64,
}

impl Content {
    pub(super) fn sector(&self, at: u64) -> Sector {
        self.groups.get(&(at / GROUP as u64)).and_then(|group| group[(at % GROUP as u64) as usize].clone())
    }

    pub(super) fn put(&mut self, at: u64, sector: Sector) {
        let groups = Arc::make_mut(&mut self.groups);
        let group = groups.entry(at / GROUP as u64).or_insert_with(|| Arc::new([const { None }; GROUP]));
        let place = &mut Arc::make_mut(group)[(at % GROUP as u64) as usize];
        self.allocated += u64::from(sector.is_some());
        self.allocated -= u64::from(place.is_some());
        *place = sector;
    }

    /// Sectors that take space.
    pub(super) fn allocated(&self) -> u64 {
        self.allocated
    }

    /// Numbers of the sectors from `first` on that are no holes.
    pub(super) fn present(&self, first: u64) -> Vec<u64> {
        let groups = self.groups.range(first / GROUP as u64..);
        let sectors = groups.flat_map(|(n, group)| (n * GROUP as u64..).zip(group.iter()));
        sectors.filter(|(at, sector)| *at >= first && sector.is_some()).map(|(at, _)| at).collect()
    }

    /// The first byte from `offset` on that is in no hole.
    pub(super) fn next_data(&self, offset: u64) -> Option<u64> {
        let first = offset / SECTOR as u64;
        let groups = self.groups.range(first / GROUP as u64..);
        let mut sectors = groups.flat_map(|(n, group)| (n * GROUP as u64..).zip(group.iter()));
        let (at, _) = sectors.find(|(at, sector)| *at >= first && sector.is_some())?;
        Some(offset.max(at * SECTOR as u64)).filter(|at| *at < self.len)
    }

    /// Bytes read: fewer than asked for only at the end.
    pub(super) fn read(&self, buf: &mut [u8], offset: u64) -> usize {
        let count = buf.len().min(usize::try_from(self.len.saturating_sub(offset)).unwrap_or(usize::MAX));
        let mut done = 0;
        while done < count {
            let (at, within) = place(offset + done as u64);
            let step = (SECTOR - within).min(count - done);
            match self.sector(at) {
                Some(bytes) => buf[done..done + step].copy_from_slice(&bytes[within..within + step]),
                None => buf[done..done + step].fill(0),
            }
            done += step;
        }
        count
    }

    /// The sectors that writing `data` at `offset` gives, whole ones.
    pub(super) fn overlay(&self, data: &[u8], offset: u64) -> Vec<(u64, Sector)> {
        let (mut sectors, mut done) = (Vec::with_capacity(data.len() / SECTOR + 2), 0);
        while done < data.len() {
            let (at, within) = place(offset + done as u64);
            let step = (SECTOR - within).min(data.len() - done);
            let mut bytes = self.sector(at).map_or([0; SECTOR], |bytes| *bytes);
            bytes[within..within + step].copy_from_slice(&data[done..done + step]);
            sectors.push((at, Some(Arc::new(bytes))));
            done += step;
        }
        sectors
    }

    /// The sectors that change when `from..to` becomes zeros; those wholly inside become holes.
    pub(super) fn zeroed(&self, from: u64, to: u64) -> Vec<(u64, Sector)> {
        let inside = |at: &u64| *at * (SECTOR as u64) < to;
        let change = |at: u64| {
            let start = at * SECTOR as u64;
            let (first, last) = (from.saturating_sub(start), (to - start).min(SECTOR as u64));
            let mut bytes = self.sector(at).map_or([0; SECTOR], |bytes| *bytes);
            bytes[first as usize..last as usize].fill(0);
            (at, (last - first != SECTOR as u64).then(|| Arc::new(bytes)))
        };
        self.present(from / SECTOR as u64).into_iter().take_while(inside).map(change).collect()
    }

    /// Holes among the sectors that `offset..offset + len` touches.
    pub(super) fn holes(&self, offset: u64, len: u64) -> Vec<u64> {
        let sectors = offset / SECTOR as u64..(offset + len).div_ceil(SECTOR as u64);
        sectors.filter(|at| self.sector(*at).is_none()).collect()
    }

    /// Drops whatever lies past the length: no file system shows it again when the file grows.
    pub(super) fn cut_off(&mut self) {
        for (at, sector) in self.zeroed(self.len, u64::MAX) {
            self.put(at, sector);
        }
    }
}

/// Whether two sectors read the same.
pub(super) fn same(a: &Sector, b: &Sector) -> bool {
    match (a, b) {
        (Some(a), Some(b)) => Arc::ptr_eq(a, b) || a == b,
        (Some(bytes), None) | (None, Some(bytes)) => bytes.iter().all(|byte| *byte == 0),
        (None, None) => true,
    }
}

/// Sector of a byte, and where in it.
fn place(offset: u64) -> (u64, usize) {
    (offset / SECTOR as u64, (offset % SECTOR as u64) as usize)
}
