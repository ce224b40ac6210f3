//! Where the bytes of a change come from, and the chunks of a large one, which are encrypted before the object is
//! locked: several requests write a large file at once, and only one of them can change the object at a time.

use kmsfs_crypto::{ChunkCipher, ChunkTag, wiped};
use kmsfs_format::layout::{CHUNK, ChunkIndex};
use std::cell::RefCell;
use std::ops::Range;
use std::sync::Arc;

/// From this length on, in bytes, a request is encrypted before the lock is taken.
const LARGE: usize = 64 << 10;

thread_local! {
    /// For ciphertext on its way. `sealed` takes it, so that it is empty where something has to be encrypted again
    /// after all.
    pub(in crate::object) static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Range of a chunk that was filled.
pub(in crate::object) struct Covered(pub(in crate::object) Range<usize>);

/// What is to be encrypted.
pub(in crate::object) trait Source {
    /// Writes plaintext into a chunk.
    fn fill(&self, chunk: ChunkIndex, bytes: &mut [u8]) -> Covered;

    /// These chunks' ciphertext under this cipher, where it is there already.
    fn sealed(&self, _chunks: &Range<u64>, _cipher: &Arc<ChunkCipher>) -> Option<(&[u8], &[ChunkTag])> {
        None
    }
}

impl<F: Fn(ChunkIndex, &mut [u8]) -> Covered> Source for F {
    fn fill(&self, chunk: ChunkIndex, bytes: &mut [u8]) -> Covered {
        self(chunk, bytes)
    }
}

/// Nothing: chunks are encrypted again as they are.
pub(in crate::object) fn unchanged(_chunk: ChunkIndex, _bytes: &mut [u8]) -> Covered {
    Covered(0..0)
}

/// `data` at `offset`.
pub(in crate::object) struct Bytes<'a> {
    offset: u64,
    data: &'a [u8],
    sealed: Option<Sealed<'a>>,
}

impl<'a> Bytes<'a> {
    pub(in crate::object) fn new(offset: u64, data: &'a [u8]) -> Self {
        Self { offset, data, sealed: None }
    }
}

struct Sealed<'a> {
    cipher: Arc<ChunkCipher>,
    first: u64,
    bytes: &'a [u8],
    tags: Vec<ChunkTag>,
}

impl Source for Bytes<'_> {
    fn fill(&self, chunk: ChunkIndex, bytes: &mut [u8]) -> Covered {
        let (begin, end) = (chunk.0 * CHUNK, self.offset + self.data.len() as u64);
        let from = self.offset.max(begin);
        let to = end.min(begin + bytes.len() as u64);
        bytes[(from - begin) as usize..(to - begin) as usize]
            .copy_from_slice(&self.data[(from - self.offset) as usize..(to - self.offset) as usize]);
        Covered((from - begin) as usize..(to - begin) as usize)
    }

    /// The cipher is the same one: it stands for key, key epoch and object id, which may have changed since.
    fn sealed(&self, chunks: &Range<u64>, cipher: &Arc<ChunkCipher>) -> Option<(&[u8], &[ChunkTag])> {
        let sealed = self.sealed.as_ref().filter(|sealed| Arc::ptr_eq(&sealed.cipher, cipher))?;
        let start = chunks.start.checked_sub(sealed.first)? as usize;
        let end = start + (chunks.end - chunks.start) as usize;
        let size = CHUNK as usize;
        Some((sealed.bytes.get(start * size..end * size)?, sealed.tags.get(start..end)?))
    }
}

/// Does something with `data`, encrypted by that cipher if it is large and made of whole chunks. The cipher is the one
/// for new chunks; it outlives a lock of the object for no longer than the request.
pub(in crate::object) fn with_sealed<T>(
    offset: u64,
    data: &[u8],
    cipher: impl FnOnce() -> Option<Arc<ChunkCipher>>,
    act: impl FnOnce(&Bytes<'_>) -> T,
) -> T {
    let whole = offset.is_multiple_of(CHUNK) && (data.len() as u64).is_multiple_of(CHUNK);
    let cipher = if whole && data.len() >= LARGE { cipher() } else { None };
    let Some(cipher) = cipher else { return act(&Bytes::new(offset, data)) };
    let mut buffer = BUFFER.take();
    buffer.clear();
    let first = offset / CHUNK;
    let tags = wiped(|| {
        let sealing = cipher.sealing();
        let seal = |(index, chunk)| {
            let start = buffer.len();
            buffer.extend_from_slice(chunk);
            sealing.seal(index, &mut buffer[start..])
        };
        (first..).zip(data.chunks(CHUNK as usize)).map(seal).collect()
    });
    let sealed = Sealed { cipher: cipher.clone(), first, bytes: &buffer, tags };
    let done = act(&Bytes { offset, data, sealed: Some(sealed) });
    BUFFER.set(buffer);
    done
}
