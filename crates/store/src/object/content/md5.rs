//! The MD5 of content that is written once from its beginning to its end, as a PUT does: S3's ETag of an AES256 object.

use md5::{Digest, Md5};

/// Of the content so far.
#[derive(Clone, Default)]
pub(in crate::object) struct RunningMd5 {
    md5: Md5,
    len: u64,
}

impl RunningMd5 {
    /// With what was written, if that went on where the content ended.
    pub(super) fn extended(mut self, offset: u64, data: &[u8]) -> Option<Self> {
        self.md5.update(data);
        let at_end = offset == self.len;
        self.len += data.len() as u64;
        at_end.then_some(self)
    }

    /// Bytes so far.
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    pub(super) fn finished(&self) -> [u8; 16] {
        self.md5.clone().finalize().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn appending_goes_on_and_anything_else_ends_it() {
        let once = RunningMd5::default().extended(0, b"ab").unwrap();
        assert_eq!(hex::encode(once.clone().extended(2, b"c").unwrap().finished()), "900150983cd24fb0d6963f7d28e17f72");
        assert!(once.extended(1, b"c").is_none());
    }
}
