//! Operations on objects, as `CrashedStore::step` names them. What may be found is told before each call, what must be
//! after it.

use super::crashed::{CHUNK, CrashedStore, SECTOR, offset, plain_len};
use super::told::{Content, Known, NOBODY, SECTORS};
use crate::store::*;
use kmsfs_store::{Error, Ino, Target};

/// Chunks that are many to cut off: see `Content::cut`.
const MANY: u64 = 64;

impl CrashedStore {
    pub fn create(&self, name: &str) -> Result<(), Error> {
        let Some((dir, last)) = self.place(name) else { return Ok(()) };
        if self.ino(name) != NOBODY {
            return Ok(());
        }
        self.told.lock().making = Some(name.to_string());
        let object = self.store.create(&dir, last, &NODE, &self.encryption, name, &CALLER)?.0;
        {
            let told = &mut *self.told.lock();
            told.making = None;
            told.objects.insert(object.ino(), Known::new(name));
            told.shows(name, object.ino());
        }
        self.handles.lock().insert(name.to_string(), object);
        Ok(())
    }

    pub fn write(&self, name: &str, at: usize, count: usize) -> Result<(), Error> {
        let Some(object) = self.find(name)? else { return Ok(()) };
        let value = self.next();
        // A chunk a system call: they are not neighbours in the real object.
        let mut from = at;
        while from < at + count {
            let to = (at + count).min((from / SECTORS + 1) * SECTORS);
            self.with_known(&object, |known| known.push(known.now().write(from, &vec![value; to - from])));
            let bytes = value.to_le_bytes().repeat((to - from) * SECTOR as usize / 8);
            object.write(offset(self.chunks, from), &bytes)?;
            from = to;
        }
        Ok(())
    }

    pub fn truncate(&self, name: &str, length: usize) -> Result<(), Error> {
        let Some(object) = self.find(name)? else { return Ok(()) };
        self.with_known(&object, |known| {
            let chunks = |sectors| plain_len(self.chunks, sectors).div_ceil(CHUNK);
            let cut = chunks(known.now().sectors.len()) >= chunks(length) + MANY;
            known.push(known.now().truncate(length, cut));
        });
        object.truncate(plain_len(self.chunks, length))?;
        Ok(())
    }

    pub fn punch(&self, name: &str, chunk: usize) -> Result<(), Error> {
        let Some(object) = self.find(name)? else { return Ok(()) };
        self.with_known(&object, |known| known.push(known.now().punch(chunk)));
        object.punch(self.chunks[chunk] * CHUNK, CHUNK)?;
        Ok(())
    }

    /// All from one chunk to another, with what lies between.
    pub fn clear(&self, name: &str, first: usize, last: usize) -> Result<(), Error> {
        let Some(object) = self.find(name)? else { return Ok(()) };
        let cleared = |known: &Content| (first..=last).fold(known.clone(), |content, chunk| content.punch(chunk));
        self.with_known(&object, |known| known.push(cleared(known.now())));
        let from = self.chunks[first] * CHUNK;
        object.punch(from, self.chunks[last] * CHUNK + CHUNK - from)?;
        Ok(())
    }

    pub fn rewrap(&self, name: &str) -> Result<(), Error> {
        let Some(object) = self.find(name)? else { return Ok(()) };
        let wrap = self.next();
        let state = self.with_known(&object, |known| {
            known.push(Content { wrap, ..known.now().clone() });
            known.last()
        });
        // Some are too long for the units that the record has.
        let key_id = format!("{wrap}-{}", "x".repeat((wrap % 3) as usize * 350));
        self.store.rewrap(&object, &as_many_layers(&object, &key_id), name, &CALLER)?;
        self.with_known(&object, |known| known.commit(state));
        self.snapshot();
        Ok(())
    }

    /// To two layers of encryption or to one: everything gets another place.
    pub fn relayer(&self, name: &str) -> Result<(), Error> {
        let Some(object) = self.find(name)? else { return Ok(()) };
        let wrap = self.next();
        let state = self.with_known(&object, |known| {
            known.push(Content { wrap, ..known.now().clone() });
            known.last()
        });
        let key_id = format!("{wrap}-{}", "x".repeat((wrap % 3) as usize * 350));
        let want = if is_dual(&object) { aws_kms(&key_id) } else { dsse(&key_id) };
        self.store.rewrap(&object, &want, name, &CALLER)?;
        self.with_known(&object, |known| known.commit(state));
        self.snapshot();
        Ok(())
    }

    /// A new data key for what is written from here on.
    pub fn rekey(&self, name: &str) -> Result<(), Error> {
        let Some(object) = self.find(name)? else { return Ok(()) };
        let wrap = self.next();
        let state = self.with_known(&object, |known| {
            known.push(Content { wrap, ..known.now().clone() });
            known.last()
        });
        let key_id = format!("{wrap}-{}", "x".repeat((wrap % 3) as usize * 350));
        self.store.begin_epoch(&object, &as_many_layers(&object, &key_id), name, &CALLER)?;
        self.with_known(&object, |known| known.commit(state));
        self.snapshot();
        Ok(())
    }

    /// One chunk that is under an older data key comes under the newest.
    pub fn reencrypt(&self, name: &str) -> Result<(), Error> {
        let Some(object) = self.find(name)? else { return Ok(()) };
        object.reencrypt_some(0, 1)?;
        self.snapshot();
        Ok(())
    }

    pub fn close(&self, name: &str) -> Result<(), Error> {
        let Some(object) = self.find(name)? else { return Ok(()) };
        let state = self.with_known(&object, |known| known.last());
        object.commit()?;
        self.with_known(&object, |known| known.commit(state));
        self.snapshot();
        if !name.starts_with('~') {
            self.handles.lock().remove(name);
            self.store.release(&object);
        }
        Ok(())
    }

    pub fn fsync(&self, name: &str) -> Result<(), Error> {
        let Some(object) = self.find(name)? else { return Ok(()) };
        let (state, names) = self.with_known(&object, |known| (known.last(), known.names.len() - 1));
        let positions = if name.starts_with('~') { Vec::new() } else { self.told.lock().positions(name) };
        object.fsync()?;
        self.with_known(&object, |known| {
            known.ack(state);
            if !positions.is_empty() {
                known.named_since = known.named_since.max(names);
            }
        });
        self.told.lock().settle_names(&positions);
        self.snapshot();
        Ok(())
    }

    /// O_TRUNC: what cannot be read gets a new id.
    pub fn overwrite(&self, name: &str) -> Result<(), Error> {
        let (Some((dir, last)), ino) = (self.place(name), self.ino(name)) else { return Ok(()) };
        let regular =
            self.store.stat(Target::Name(&dir, last)).is_ok_and(|attr| attr.mode & libc::S_IFMT == libc::S_IFREG);
        if ino == NOBODY || !regular {
            return Ok(());
        }
        if !self.told.lock().objects.contains_key(&ino)
            && let Ok(object) = self.store.open_object(&dir, last, &CALLER)
        {
            // A crash left it readable in part: what of that comes back after another one, nobody was told.
            self.store.release(&object);
            return Ok(());
        }
        {
            let told = &mut *self.told.lock();
            let known = told.objects.entry(ino).or_insert_with(|| Known::new(name));
            known.push(known.now().truncate(0, true));
        }
        let object = self.store.open_truncated(&dir, last, &self.encryption, name, &CALLER)?;
        if let Some(before) = self.handles.lock().insert(name.to_string(), object) {
            self.store.release(&before);
        }
        Ok(())
    }

    pub fn checkpoint(&self) -> Result<(), Error> {
        let open: Vec<Ino> = self.handles.lock().values().map(|object| object.ino()).collect();
        let durable: Vec<(Ino, usize)> = {
            let told = self.told.lock();
            // A closed object whose one commit went straight home is not looked at again: nobody was promised anything.
            let covered = told.objects.iter().filter_map(|(ino, known)| match open.contains(ino) {
                true => Some((*ino, known.last())),
                false if known.acked.is_some() || known.commits > 1 => Some((*ino, known.committed?)),
                false => None,
            });
            covered.collect()
        };
        self.store.checkpoint()?;
        for (ino, state) in durable.into_iter().filter(|_| self.checkpoints_promise) {
            self.told.lock().objects.get_mut(&ino).unwrap().ack(state);
        }
        self.snapshot();
        Ok(())
    }

    /// What the mount does every five seconds.
    #[allow(clippy::unnecessary_wraps)] // as the other operations answer
    pub fn tick(&self) -> Result<(), Error> {
        let open = self.handles.lock().clone();
        let states: Vec<_> = open.values().map(|object| self.with_known(object, |known| known.last())).collect();
        self.store.commit_all();
        for (object, state) in open.values().zip(states) {
            self.with_known(object, |known| known.commit(state));
        }
        self.snapshot();
        Ok(())
    }
}

fn is_dual(object: &Object) -> bool {
    object.encryption().algorithm == Algorithm::AwsKmsDsse
}

fn as_many_layers(object: &Object, key_id: &str) -> Encryption {
    if is_dual(object) { dsse(key_id) } else { aws_kms(key_id) }
}
