//! Mending: orphans are collected, damaged objects written anew with what is left of them, and what cannot be explained
//! is moved to `lost+found/`.

use super::records::Records;
use super::tree::Used;
use super::{CheckOptions, Report, Severity, content};
use crate::backend::{self, Access, Backend, NewNode, Rename, XattrFlags};
use crate::local::attributes::names_in;
use crate::local::recovery::birth;
use crate::local::sealed::parameters::{LOG, PRIVATE_DIR, PRIVATE_FILE};
use crate::object::{NewObject, Remains, Salvaged};
use crate::{Dir, Error, Ino, Object, Result, Store, Target, VolumeObjects};
use kmsfs_format::ObjectId;
use kmsfs_format::layout::{CHUNK, ChunkIndex};
use kmsfs_format::sidecar::Place;
use kmsfs_kms::Caller;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;

const LOST_AND_FOUND: &str = "lost+found";
/// Bytes copied at once.
const PIECE: usize = 1 << 20;

/// Third pass: records that are nobody's. Their space is free again after a repair, if it is certain that nobody's they
/// are.
pub(crate) fn settle_records(
    store: &Store,
    records: &Records,
    used: &Used,
    options: CheckOptions,
    report: &mut Report,
) -> Result<()> {
    let mut free = records.free.clone();
    for found in &records.all {
        if used.places.get(&found.id) == Some(&found.place) {
            continue;
        }
        let place = format!("sidecars/{:08x}, unit {}", found.place.segment, found.place.unit);
        let finding = report.add(Severity::Note, place, format_args!("the sidecar of no object ({})", found.id));
        if !options.repair {
            continue;
        }
        if !used.certain {
            finding.what.push_str(", kept: not every object could be read");
        } else if store.segments.free(found.place, found.id)? {
            finding.repaired = Some("its space is free".into());
            free.push(found.place);
        }
    }
    if options.repair {
        store.segments.set_free(free);
    }
    Ok(())
}

/// The only file with its id has another inode than the sidecar says.
pub(crate) fn adopt(store: &Store, object: &Arc<Object>) -> Result<()> {
    let permit = store.checkpoints.permit()?;
    object.replace_sidecar(|keyed| keyed.adopt(store, object.ino()), &permit)
}

/// Takes a name out of its bucket. Answers what was done, or `None` (and the log says why) if it could not be.
pub(crate) fn move_away(store: &Store, dir: &Arc<Dir>, name: &OsStr) -> Option<String> {
    match try_move_away(store, dir, name) {
        Ok(to) => Some(format!("moved to {to} in the store")),
        Err(error) => {
            ::log::error!("{} cannot be moved to {LOST_AND_FOUND}: {error}", dir.show(name));
            None
        }
    }
}

fn try_move_away(store: &Store, dir: &Arc<Dir>, name: &OsStr) -> Result<String> {
    let lost = lost_and_found(store.backend.as_ref())?;
    let ino = dir.backing.stat(name)?.ino;
    let (kept, shown) = kept_as(ino, name);
    dir.backing.rename(name, lost.as_ref(), &kept, Rename::NoReplace)?;
    Ok(shown)
}

fn lost_and_found(backend: &dyn Backend) -> Result<Arc<dyn backend::Dir>> {
    let root = backend.root()?;
    match root.make_dir(OsStr::new(LOST_AND_FOUND), &PRIVATE_DIR) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => return Err(error.into()),
        _ => {}
    }
    Ok(root.open_dir(OsStr::new(LOST_AND_FOUND))?)
}

/// The files in `lost+found/`, with their inodes.
pub(crate) fn put_aside(store: &Store) -> Result<Vec<(Arc<dyn backend::File>, Ino)>> {
    let lost = match store.backend.root()?.open_dir(OsStr::new(LOST_AND_FOUND)) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        lost => lost?,
    };
    let mut files = Vec::new();
    let mut names = Vec::new();
    lost.read(0, &mut |entry| {
        names.push((entry.name.to_os_string(), entry.ino));
        true
    })?;
    for (name, ino) in names {
        // Symlinks are put aside too.
        if let Ok(file) = lost.open_file(&name, Access::Read) {
            files.push((file, ino));
        }
    }
    Ok(files)
}

/// A name in `lost+found/` that no other file has: the inode's number, and as much of its name as fits.
fn kept_as(ino: Ino, name: &OsStr) -> (OsString, String) {
    let mut kept = format!("{ino}-").into_bytes();
    kept.extend_from_slice(&name.as_bytes()[..name.len().min(200)]);
    let kept = OsStr::from_bytes(&kept).to_os_string();
    let shown = format!("{LOST_AND_FOUND}/{}", kept.to_string_lossy());
    (kept, shown)
}

/// Puts a new object with all chunks that can be read in the place of a damaged one, which goes to `lost+found/`. Bytes
/// that are lost read as zeros. Answers what was done, and the new object's id, inode and sidecar.
pub(crate) fn salvage(
    store: &Arc<Store>,
    dir: &Arc<Dir>,
    name: &OsStr,
    mut remains: Remains,
    caller: &Caller,
) -> Result<(String, (ObjectId, Ino, Place))> {
    let old = dir.backing.stat(name)?;
    let temporary = OsString::from(format!(".kmsfs-fsck-{}", old.ino));
    let _ = dir.backing.unlink(&temporary);
    let node = NewNode { mode: old.mode & 0o7777, umask: 0, owner: Some((old.uid, old.gid)) };
    let object = remake(store, dir, &temporary, &node, &remains, caller)?;
    let copied = copy(&mut remains, &object).and_then(|lost| {
        carry_over(store, dir, name, &temporary)?;
        object.fsync()?;
        Ok(lost)
    });
    let id = object.with_state(|state| (state.keyed.id(), object.ino(), state.keyed.place()));
    store.release(&object);
    let lost = copied.inspect_err(|_| {
        let _ = dir.backing.unlink(&temporary);
    })?;
    let lost_dir = lost_and_found(store.backend.as_ref())?;
    let (kept, shown) = kept_as(old.ino, name);
    // Linked first: at no moment is the damaged one without a name.
    dir.backing.link(name, lost_dir.as_ref(), &kept)?;
    lost_dir.sync()?;
    dir.backing.rename(&temporary, dir.backing.as_ref(), name, Rename::Replace)?;
    dir.backing.set_times(Some(name), Some(old.atime), Some(old.mtime))?;
    dir.backing.sync()?;
    let what = match &lost[..] {
        [] => "all of it could be read and was written anew".to_string(),
        lost => format!("written anew; lost, and zeros now, are bytes {}", content::ranges(lost)),
    };
    Ok((format!("{what}; the damaged file is {shown} in the store"), id))
}

/// An object with the same data key, context and wrapping as the one that it replaces, so that no KMS key is used:
/// under its own id, all other keys are its own.
fn remake(
    store: &Arc<Store>,
    dir: &Arc<Dir>,
    name: &OsStr,
    node: &NewNode,
    remains: &Remains,
    caller: &Caller,
) -> Result<Arc<Object>> {
    let wrapped = remains.sidecar.newest().wrapped.clone();
    let data_key = store.keys.unwrap(&wrapped, caller)?;
    let file = dir.backing.create_file(name, node)?;
    let new = NewObject { bucket: &remains.sidecar.bucket, path: dir.path_of(name), data_key, wrapped };
    let object = Arc::new(Object::new(store, file, new)?);
    store.adopt_new(&object, dir);
    Ok(object)
}

/// Answers what is lost.
fn copy(remains: &mut Remains, object: &Object) -> Result<Vec<std::ops::Range<u64>>> {
    let length = remains.length;
    let (mut lost, mut piece) = (Vec::new(), Vec::with_capacity(PIECE));
    let mut buffer = [0; CHUNK as usize];
    let flush = |piece: &mut Vec<u8>, end: u64| {
        if !piece.is_empty() {
            object.write(end - piece.len() as u64, piece)?;
            piece.clear();
        }
        Ok::<_, Error>(())
    };
    let (mut next, end) = (0, length.chunks());
    while next < end {
        let chunk = ChunkIndex(remains.skip_holes(next, end)?);
        if chunk.0 > next {
            flush(&mut piece, next * CHUNK)?;
        }
        next = chunk.0 + 1;
        if chunk.0 == end {
            break;
        }
        let at = chunk.0 * CHUNK;
        match remains.chunk(chunk, &mut buffer)? {
            Salvaged::Data(count) => piece.extend_from_slice(&buffer[..count]),
            Salvaged::Hole => flush(&mut piece, at)?,
            Salvaged::Lost => {
                flush(&mut piece, at)?;
                content::add(&mut lost, at..at + length.bytes_in(chunk) as u64);
            }
        }
        if piece.len() + buffer.len() > PIECE {
            flush(&mut piece, at + length.bytes_in(chunk) as u64)?;
        }
    }
    flush(&mut piece, length.0)?;
    object.truncate(length.0)?;
    Ok(lost)
}

/// Extended attributes. Values that are sealed are bound to the object: those that can be read are sealed for the new
/// one. The damaged one's birth excuses nothing of the new one, which is durable before it has its name.
fn carry_over(store: &Store, dir: &Arc<Dir>, from: &OsStr, to: &OsStr) -> Result<()> {
    let values = store.values.all_of(Target::Name(dir, from))?;
    let names = dir.backing.list_xattr(Some(from))?;
    for name in names_in(&names) {
        if !birth::is_reserved(name) && !values.iter().any(|(sealed, _)| sealed == name) {
            let value = dir.backing.get_xattr(Some(from), name)?;
            dir.backing.set_xattr(Some(to), name, &value, XattrFlags::Any)?;
        }
    }
    store.values.take(Target::Name(dir, to), &values)
}

/// A further name of a damaged object becomes one of the new object.
pub(crate) fn relink(store: &Store, from: &Arc<Dir>, new: &OsStr, dir: &Arc<Dir>, name: &OsStr) -> Result<()> {
    let ino = from.backing.stat(new)?.ino;
    let temporary = OsString::from(format!(".kmsfs-fsck-{ino}"));
    from.backing.link(new, dir.backing.as_ref(), &temporary)?;
    dir.backing.rename(&temporary, dir.backing.as_ref(), name, Rename::Replace)?;
    store.names.add(ino, libc::S_IFREG, dir);
    Ok(dir.backing.sync()?)
}

/// Before a repair of a store whose log is damaged: keeps a copy of the log, as a whole, in `lost+found/`. Answers its
/// name there.
pub fn keep_log(backend: &dyn Backend) -> Result<String> {
    let log = backend.root()?.open_dir(OsStr::new(LOG))?.open_file(OsStr::new("redo"), Access::Read)?;
    let lost = lost_and_found(backend)?;
    let mut number = backend.now().0;
    let (name, kept) = loop {
        let name = format!("redo-{number}");
        match lost.create_file(OsStr::new(&name), &PRIVATE_FILE) {
            // A clock that was set back gives the number of one that is there.
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => number += 1,
            kept => break (name, kept?),
        }
    };
    let mut piece = vec![0; PIECE];
    let mut at = 0;
    loop {
        let read = log.read_at(&mut piece, at)?;
        if read == 0 {
            break;
        }
        kept.write_at(&piece[..read], at)?;
        at += read as u64;
    }
    kept.sync()?;
    lost.sync()?;
    Ok(format!("{LOST_AND_FOUND}/{name}"))
}
