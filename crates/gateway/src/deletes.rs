//! DeleteObject and DeleteObjects. What is not there is deleted already.

use crate::directories::{self, Origin};
use crate::locks::Mutual;
use crate::objects::{Found, no_such_key};
use crate::refusals;
use crate::tree::{Bucket, Kind, Place, open_beneath, proc_path, status_at};
use crate::{Done, Worker};
use kmsfs_s3::operation::{DeleteObject, DeleteObjects, ObjectToDelete};
use kmsfs_s3::{Answer, Code, ETag, Error, EtagMatch, ObjectKey};
use rustix::fs::{AtFlags, Mode, OFlags, fsync, unlinkat};
use rustix::io::Errno;
use std::collections::HashMap;
use std::ffi::OsStr;
use std::path::Path;

impl Worker {
    pub(crate) fn delete_object(&self, of: &DeleteObject) -> Result<Done, Error> {
        let bucket = self.tree.bucket(&of.bucket)?;
        if let Some(place) = delete(&bucket, &of.key, of.if_match.as_ref())? {
            fsync(&place.dir).map_err(refusals::of_errno)?;
            bucket.tidy(&of.key);
        }
        Ok((Answer::Done, None))
    }

    /// Each directory is synced once, when all of them are deleted.
    pub(crate) fn delete_objects(&self, of: &DeleteObjects) -> Result<Done, Error> {
        let bucket = self.tree.bucket(&of.bucket)?;
        let mut outcomes = Vec::with_capacity(of.objects.len());
        let mut touched: HashMap<String, (Place, Vec<usize>)> = HashMap::new();
        let mut deleted = Vec::new();
        for (at, object) in of.objects.iter().enumerate() {
            let done = parse(object).and_then(|key| Ok((delete(&bucket, &key, condition_of(object).as_ref())?, key)));
            outcomes.push(match done {
                Ok((Some(place), key)) => {
                    let dir = key.as_str().trim_end_matches('/').rsplit_once('/').map_or("", |(dir, _)| dir).to_owned();
                    touched.entry(dir).or_insert_with(|| (place, Vec::new())).1.push(at);
                    deleted.push(key);
                    Ok(())
                }
                Ok((None, _)) => Ok(()),
                Err(error) => Err(error),
            });
        }
        for (place, of_them) in touched.into_values() {
            if let Err(errno) = fsync(&place.dir) {
                for at in of_them {
                    outcomes[at] = Err(refusals::of_errno(errno));
                }
            }
        }
        for key in &deleted {
            bucket.tidy(key);
        }
        Ok((Answer::Deleted(outcomes), None))
    }
}

fn parse(object: &ObjectToDelete) -> Result<ObjectKey, Error> {
    match object.version.as_deref() {
        None | Some("null" | "") => ObjectKey::parse(object.key.as_str()),
        Some(other) => Err(Error::new(Code::NoSuchVersion).with("Key", &object.key).with("VersionId", other)),
    }
}

fn condition_of(object: &ObjectToDelete) -> Option<EtagMatch> {
    let etag = object.etag.as_ref()?;
    Some(if *etag == ETag::new("*") { EtagMatch::Any } else { EtagMatch::OneOf(vec![etag.clone()]) })
}

/// Returns the directory that the object was in, which has to be synced; none if there was no object.
fn delete(bucket: &Bucket, key: &ObjectKey, condition: Option<&EtagMatch>) -> Result<Option<Place>, Error> {
    let Some(place) = bucket.place(key)? else {
        return if condition.is_some() { Err(no_such_key(key)) } else { Ok(None) };
    };
    let _lock = bucket.lock(key.as_str(), Mutual::Exclusive)?;
    if let Some(condition) = condition {
        let found = Found::if_there(bucket, key)?.ok_or_else(|| no_such_key(key))?;
        let conditions = kmsfs_s3::Preconditions { if_match: Some(condition.clone()), ..Default::default() };
        conditions.check(&found.etag, found.modified)?;
    }
    let was_there = if key.is_marker() { delete_marker(&place)? } else { delete_file(&place)? };
    if was_there {
        bucket.has_changed(&place.dir);
    }
    Ok(was_there.then_some(place))
}

fn delete_file(place: &Place) -> Result<bool, Error> {
    match status_at(&place.dir, OsStr::new(&place.name)) {
        Ok(status) if status.kind == Kind::File => {}
        Ok(_) => return Ok(false),
        Err(error) if crate::tree::is_absent(&error) => return Ok(false),
        Err(error) => return Err(refusals::of_call(&error)),
    }
    match unlinkat(&place.dir, &place.name, AtFlags::empty()) {
        Ok(()) => Ok(true),
        Err(Errno::NOENT | Errno::ISDIR) => Ok(false),
        Err(errno) => Err(refusals::of_errno(errno)),
    }
}

/// The directory goes only if S3 made it and nothing is in it; else it is no object any more.
fn delete_marker(place: &Place) -> Result<bool, Error> {
    // By descriptor: a symlink of that name leads to a directory that the key does not say.
    let flags = OFlags::RDONLY | OFlags::DIRECTORY;
    let dir = match open_beneath(&place.dir, Path::new(&place.name), flags, Mode::empty()) {
        Ok(dir) => dir,
        Err(error) if crate::tree::is_absent(&error) => return Ok(false),
        Err(error) => return Err(refusals::of_call(&error)),
    };
    let path = proc_path(&dir);
    let origin = directories::origin(&path).map_err(|error| refusals::of_call(&error))?.unwrap_or_default();
    if origin.marker.is_none() {
        return Ok(false);
    }
    if origin.implicit {
        match unlinkat(&place.dir, &place.name, AtFlags::REMOVEDIR) {
            Ok(()) => return Ok(true),
            Err(Errno::NOTEMPTY | Errno::EXIST) => {}
            Err(errno) => return Err(refusals::of_errno(errno)),
        }
    }
    directories::mark(&path, &Origin { marker: None, ..origin }).map_err(|error| refusals::of_call(&error))?;
    Ok(true)
}
