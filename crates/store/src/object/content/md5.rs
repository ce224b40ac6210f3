//! The MD5 of content that is written once from its beginning to its end, as a PUT does: S3's ETag of an AES256 object.

use crate::object::{Object, State};
use kmsfs_sse::Algorithm;
use md5::{Digest, Md5};

/// Of the content so far.
#[derive(Clone)]
pub(in crate::object) struct RunningMd5 {
    md5: Md5,
    len: u64,
}

impl RunningMd5 {
    /// With what was written, if that went on where the content ended.
    pub(in crate::object) fn extended(mut self, offset: u64, data: &[u8]) -> Option<Self> {
        self.md5.update(data);
        let at_end = offset == self.len;
        self.len += data.len() as u64;
        at_end.then_some(self)
    }
}

impl Object {
    /// From now on what is written to this empty object is hashed. The first change that is no appending ends that, and so
    /// does the last close.
    pub fn begin_md5(&self) {
        let mut state = self.state.write();
        if state.length.0 == 0 {
            state.running_md5 = Some(RunningMd5 { md5: Md5::new(), len: 0 });
            state.dirty = true;
        }
    }
}

impl State {
    /// The present content's, where it was hashed as it was written.
    pub(in crate::object) fn md5(&self) -> Option<[u8; 16]> {
        let running = self.running_md5.as_ref().filter(|running| running.len == self.length.0);
        running
            .filter(|_| self.sidecar.newest().wrapped.algorithm == Algorithm::Aes256)
            .map_or(self.seal.md5, |running| Some(running.md5.clone().finalize().into()))
    }
}
