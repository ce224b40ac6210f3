//! Lines that come in pieces.

/// Bytes of the longest line, its end among them: the head of a chunk has at most 99, a trailer's signature 90.
const LONGEST: usize = 256;

/// The beginning of a line.
#[derive(Clone, Debug)]
pub(super) struct Line {
    bytes: [u8; LONGEST],
    len: usize,
}

/// The line is longer than any may be.
pub(super) struct TooLong;

impl Line {
    pub(super) fn new() -> Self {
        Self { bytes: [0; LONGEST], len: 0 }
    }

    /// Takes bytes up to the next line feed off the input's front. Returns the whole line, its end among it, once it is
    /// there; the next line begins anew.
    pub(super) fn take(&mut self, input: &mut &[u8]) -> Result<Option<Self>, TooLong> {
        let end = input.iter().position(|byte| *byte == b'\n').map(|at| at + 1);
        let (taken, rest) = input.split_at(end.unwrap_or(input.len()));
        let place = self.bytes.get_mut(self.len..self.len + taken.len()).ok_or(TooLong)?;
        place.copy_from_slice(taken);
        self.len += taken.len();
        *input = rest;
        Ok(end.is_some().then(|| std::mem::replace(self, Self::new())))
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}
