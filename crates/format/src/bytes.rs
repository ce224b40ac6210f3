//! Fixed places in byte blocks, little-endian. Whoever calls has checked that the block is long enough.

pub(crate) fn array<const N: usize>(block: &[u8], at: usize) -> [u8; N] {
    block[at..at + N].try_into().expect("the slice has N bytes")
}

pub(crate) fn u16_at(block: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(array(block, at))
}

pub(crate) fn u32_at(block: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(array(block, at))
}

pub(crate) fn u64_at(block: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(array(block, at))
}

pub(crate) fn put(block: &mut [u8], at: usize, bytes: &[u8]) {
    block[at..at + bytes.len()].copy_from_slice(bytes);
}

/// Whether there is nothing but zeros, as in a hole.
pub fn is_zero(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| *byte == 0)
}
