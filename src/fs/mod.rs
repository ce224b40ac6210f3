//! POSIX meaning over the store: inodes, handles, permissions, S3's rules for names and encryption. No FUSE types.

use crate::store::Store;
use std::sync::Arc;

pub struct Fs {/* private */}

#[derive(Debug, Clone)]
pub struct FsOptions {
    pub read_only: bool,
    /// New files belong to whoever makes them; otherwise to whoever runs the mount.
    pub keep_owners: bool,
}

impl Fs {
    pub fn new(_store: Arc<Store>, _options: FsOptions) -> Arc<Self> {
        todo!()
    }
}
