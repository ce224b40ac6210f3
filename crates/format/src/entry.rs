//! Tag entries: what a table page holds of each chunk.

use super::Malformed;
use super::bytes::{array, is_zero, u16_at};
use super::layout::Geometry;
use kmsfs_crypto::{ChunkTag, LayerTag};

/// Where the inner layer's half of an entry for two layers begins.
const INNER: usize = 32;

/// Nonces and tags of one chunk's ciphertext, and its key epoch. A chunk without an entry is a hole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// Nonces and tags, of as many layers as the object has.
    pub tag: ChunkTag,
    /// Key epoch that the chunk was encrypted in.
    pub epoch: u16,
}

impl Entry {
    /// The `n`th entry of a table; `None` is a hole.
    pub fn read(table: &[u8], n: usize, geometry: Geometry) -> Result<Option<Self>, Malformed> {
        let bytes = place(table, n, geometry);
        if is_zero(bytes) {
            return Ok(None);
        }
        let inner = bytes.get(INNER..);
        if !is_zero(&bytes[30..INNER]) || inner.is_some_and(|inner| !inner.is_empty() && !is_zero(&inner[28..])) {
            return Err(Malformed("unused bytes of a tag entry are not zero"));
        }
        let tag = ChunkTag { outer: layer(bytes), inner: (geometry == Geometry::Dual).then(|| layer(&bytes[INNER..])) };
        Ok(Some(Self { tag, epoch: u16_at(bytes, 28) }))
    }

    /// The entry has as many layers as the geometry.
    pub fn write(entry: Option<&Self>, table: &mut [u8], n: usize, geometry: Geometry) {
        let bytes = &mut table[n * geometry.entry()..(n + 1) * geometry.entry()];
        bytes.fill(0);
        if let Some(entry) = entry {
            debug_assert_eq!(entry.tag.inner.is_some(), geometry == Geometry::Dual);
            put_layer(bytes, &entry.tag.outer);
            bytes[28..30].copy_from_slice(&entry.epoch.to_le_bytes());
            if let Some(inner) = &entry.tag.inner {
                put_layer(&mut bytes[INNER..], inner);
            }
        }
    }
}

/// Whether the `n`th place of a table has an entry, without reading it.
pub fn is_present(table: &[u8], n: usize, geometry: Geometry) -> bool {
    !is_zero(place(table, n, geometry))
}

fn place(table: &[u8], n: usize, geometry: Geometry) -> &[u8] {
    &table[n * geometry.entry()..(n + 1) * geometry.entry()]
}

fn layer(bytes: &[u8]) -> LayerTag {
    LayerTag { nonce: array(bytes, 0), tag: array(bytes, 12) }
}

fn put_layer(bytes: &mut [u8], layer: &LayerTag) {
    bytes[..12].copy_from_slice(&layer.nonce);
    bytes[12..28].copy_from_slice(&layer.tag);
}

#[cfg(test)]
mod tests {
    use super::*;

    const OUTER: LayerTag = LayerTag { nonce: [1; 12], tag: [2; 16] };

    #[test]
    fn an_entry_reads_back_and_a_zero_one_is_a_hole() {
        let (mut table, single) = ([0; 4096], Geometry::Single);
        let entry = Entry { tag: ChunkTag { outer: OUTER, inner: None }, epoch: 0x0304 };
        Entry::write(Some(&entry), &mut table, 5, single);
        assert_eq!(&table[160..192], &[&[1u8; 12][..], &[2; 16], &[4, 3, 0, 0]].concat()[..]);
        assert_eq!(Entry::read(&table, 5, single), Ok(Some(entry)));
        assert_eq!(Entry::read(&table, 4, single), Ok(None));
        assert!(is_present(&table, 5, single) && !is_present(&table, 6, single));
        table[191] = 1;
        assert!(Entry::read(&table, 5, single).is_err());
        Entry::write(None, &mut table, 5, single);
        assert_eq!(table, [0; 4096]);
    }

    #[test]
    fn an_entry_for_two_layers_has_64_bytes() {
        let (mut table, dual) = ([0; 4096], Geometry::Dual);
        let inner = Some(LayerTag { nonce: [3; 12], tag: [4; 16] });
        let entry = Entry { tag: ChunkTag { outer: OUTER, inner }, epoch: 0x0506 };
        Entry::write(Some(&entry), &mut table, 63, dual);
        let expected = [&[1u8; 12][..], &[2; 16], &[6, 5, 0, 0], &[3; 12], &[4; 16], &[0; 4]].concat();
        assert_eq!(&table[4032..], &expected[..]);
        assert_eq!(Entry::read(&table, 63, dual), Ok(Some(entry)));
        assert!(is_present(&table, 63, dual) && !is_present(&table, 62, dual));
        for unused in [4032 + 30, 4032 + 31, 4092, 4095] {
            let mut damaged = table;
            damaged[unused] = 1;
            assert!(Entry::read(&damaged, 63, dual).is_err(), "byte {unused}");
        }
        // An inner half alone is no hole.
        table[4032..4064].fill(0);
        assert!(is_present(&table, 63, dual));
    }
}
