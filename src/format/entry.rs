//! Tag entries: what a table page holds of each chunk.

use super::Malformed;
use super::bytes::{array, is_zero, u16_at};

/// Bytes of an entry.
pub const ENTRY: usize = 32;

/// Nonce, tag and key epoch of one chunk's ciphertext. A chunk without an entry is a hole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    pub nonce: [u8; 12],
    pub tag: [u8; 16],
    pub epoch: u16,
}

impl Entry {
    /// The `n`th entry of a table; `None` is a hole.
    pub fn read(table: &[u8], n: usize) -> Result<Option<Self>, Malformed> {
        let bytes = &table[n * ENTRY..(n + 1) * ENTRY];
        if is_zero(bytes) {
            return Ok(None);
        }
        if !is_zero(&bytes[30..]) {
            return Err(Malformed("unused bytes of a tag entry are not zero"));
        }
        Ok(Some(Self { nonce: array(bytes, 0), tag: array(bytes, 12), epoch: u16_at(bytes, 28) }))
    }

    pub fn write(entry: Option<&Self>, table: &mut [u8], n: usize) {
        let bytes = &mut table[n * ENTRY..(n + 1) * ENTRY];
        bytes.fill(0);
        if let Some(entry) = entry {
            bytes[..12].copy_from_slice(&entry.nonce);
            bytes[12..28].copy_from_slice(&entry.tag);
            bytes[28..30].copy_from_slice(&entry.epoch.to_le_bytes());
        }
    }
}

/// Whether the `n`th place of a table has an entry, without reading it.
pub fn is_present(table: &[u8], n: usize) -> bool {
    !is_zero(&table[n * ENTRY..(n + 1) * ENTRY])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_reads_back_and_a_zero_one_is_a_hole() {
        let mut table = [0; 4096];
        let entry = Entry { nonce: [1; 12], tag: [2; 16], epoch: 0x0304 };
        Entry::write(Some(&entry), &mut table, 5);
        assert_eq!(&table[160..192], &[&[1u8; 12][..], &[2; 16], &[4, 3, 0, 0]].concat()[..]);
        assert_eq!(Entry::read(&table, 5), Ok(Some(entry)));
        assert_eq!(Entry::read(&table, 4), Ok(None));
        assert!(is_present(&table, 5) && !is_present(&table, 6));
        table[191] = 1;
        assert!(Entry::read(&table, 5).is_err());
        Entry::write(None, &mut table, 5);
        assert_eq!(table, [0; 4096]);
    }
}
