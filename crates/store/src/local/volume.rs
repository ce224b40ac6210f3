//! What a file system asks of the store itself. Names, objects, their encryption and attributes are in the rooms of
//! these.

use crate::backend::Space;
use crate::configured::Configured;
use crate::{Dir, Ino, LogUsage, Result, Store, Time, Volume};
use kmsfs_sse::KeyService;
use std::collections::HashSet;
use std::sync::Arc;

impl Volume for Store {
    fn root(&self) -> &Arc<Dir> {
        &self.root
    }

    fn keys(&self) -> &Arc<KeyService> {
        &self.keys
    }

    fn configured(&self) -> &Configured {
        &self.configured
    }

    fn read_only(&self) -> bool {
        self.admission.is_read_only()
    }

    fn now(&self) -> Time {
        self.backend.now()
    }

    fn commit_all(&self) {
        if self.read_only() {
            return;
        }
        for object in self.objects.living() {
            object.bound_unsynced();
            if let Err(error) = object.commit() {
                ::log::error!("{}: cannot be committed: {error}", object.show());
            }
        }
        self.objects.shed();
        if !self.checkpoints.is_due() {
            return;
        }
        if self.births.has_loose()
            && let Err(error) = self.backend.sync_all()
        {
            // Most of it now, while nobody waits for the checkpoint.
            ::log::warn!("the backing file system cannot be synced: {error}");
        }
        if let Err(error) = self.checkpoints.run(false) {
            ::log::error!("the checkpoint failed and will be tried again: {error}");
        }
        // Whoever made a checkpoint meanwhile did not wait for it.
        self.tell_witness();
    }

    fn checkpoint(&self) -> Result<()> {
        self.checkpoints.run(false)?.map_or(Ok(()), Err)
    }

    fn appends_wait(&self) -> bool {
        self.checkpoints.appends_wait()
    }

    fn close(&self) -> Result<()> {
        {
            // Whoever is about to make a file has made it, or finds out.
            let _none = self.births.none_is_made();
            self.admission.begin_closing();
        }
        let done = if self.read_only() { Ok(None) } else { self.checkpoints.run(true) };
        if !self.read_only() {
            self.tell_witness();
        }
        self.admission.close();
        self.objects.forget_all();
        drop(self.tending.lock().take());
        self.lease.release();
        self.lock.lock().take();
        // What could not be committed was told to whoever wrote it, and is in the log.
        done.map(drop)
    }

    fn confined(&self) -> Result<()> {
        let mut tending = self.tending.lock();
        // First the one that has more privileges.
        drop(tending.take());
        *tending = self.lease.tend(&self.reserve)?;
        Ok(())
    }

    fn space(&self) -> Result<Space> {
        Ok(self.backend.space()?)
    }

    fn cached(&self) -> usize {
        self.objects.count()
    }

    fn take_resized(&self) -> HashSet<Ino> {
        self.objects.take_resized()
    }

    fn log_usage(&self) -> LogUsage {
        self.log.usage()
    }
}
