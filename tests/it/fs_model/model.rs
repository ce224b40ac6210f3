//! The reference: what POSIX and S3 say a tree of files is, in memory and without a thought for how.

use kmsfs_store::backend::{Rename, XattrFlags};
use std::collections::BTreeMap;

pub type Id = usize;
/// An answer: the errno where there is none.
pub type Answer<T> = Result<T, i32>;

pub const CONFIGURATION: &str = ".encryption.json";
/// The two buckets that every model begins with.
pub const BUCKETS: [&str; 2] = ["bucket", "other-bucket"];

/// Content of configurations, and what each says; `None` is refused.
pub const CONFIGURATIONS: [(&str, Option<Encryption>); 6] = [
    (r#"{"Rules":[{"ApplyServerSideEncryptionByDefault":{"SSEAlgorithm":"AES256"}}]}"#, Some(Encryption::AES256)),
    (
        r#"{"Rules":[{"ApplyServerSideEncryptionByDefault":{"SSEAlgorithm":"aws:kms"}}]}"#,
        Some(Encryption { key: Some("alias/aws/s3"), bucket_key: false }),
    ),
    (
        r#"{"Rules":[{"ApplyServerSideEncryptionByDefault":
            {"SSEAlgorithm":"aws:kms","KMSMasterKeyID":"one"},"BucketKeyEnabled":true}]}"#,
        Some(Encryption { key: Some("one"), bucket_key: true }),
    ),
    (r#"{"Rules":[]}"#, None),
    ("not JSON", None),
    ("", None),
];

/// What HeadObject tells: `aws:kms` where there is a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Encryption {
    pub key: Option<&'static str>,
    pub bucket_key: bool,
}

impl Encryption {
    pub const AES256: Self = Self { key: None, bucket_key: false };
}

#[derive(Debug, Clone)]
pub enum Kind {
    Dir(BTreeMap<String, Id>),
    File {
        content: Vec<u8>,
        encryption: Encryption,
    },
    Symlink(Vec<u8>),
    /// A FIFO, socket or device: the `S_IFMT` part, and which device.
    Special(u32, u64),
}

#[derive(Debug, Clone)]
pub struct Node {
    pub kind: Kind,
    /// Permissions with set-id and sticky bits.
    pub mode: u32,
    pub owner: (u32, u32),
    pub xattrs: BTreeMap<String, Vec<u8>>,
    /// Where it was set and nothing has changed since.
    pub mtime: Option<i64>,
    /// Of files, where it was set: nothing here counts as an access.
    pub atime: Option<i64>,
    /// Of directories.
    pub parent: Id,
}

impl Node {
    pub fn is_dir(&self) -> bool {
        matches!(self.kind, Kind::Dir(_))
    }

    pub fn is_file(&self) -> bool {
        matches!(self.kind, Kind::File { .. })
    }

    /// As the kernel does on chown(2), and on a change by somebody without privilege, who may be in the file's group.
    fn drop_set_id(&mut self, by_member: bool) {
        self.mode &= !libc::S_ISUID;
        if self.mode & libc::S_IXGRP != 0 || !by_member {
            self.mode &= !libc::S_ISGID;
        }
    }
}

/// A directory and a name in it.
pub type Place<'a> = (Id, &'a str);

pub struct Model {
    pub nodes: Vec<Node>,
}

pub const ROOT: Id = 0;

impl Model {
    pub fn new() -> Self {
        let dir = |parent, mode| Node { mode, parent, ..new_node(Kind::Dir(BTreeMap::new())) };
        let mut model = Self { nodes: vec![dir(ROOT, 0o755)] };
        for bucket in BUCKETS {
            model.add((ROOT, bucket), dir(ROOT, 0o755));
        }
        model
    }

    pub fn node(&self, id: Id) -> &Node {
        &self.nodes[id]
    }

    pub fn names(&self, dir: Id) -> Answer<&BTreeMap<String, Id>> {
        match &self.nodes[dir].kind {
            Kind::Dir(names) => Ok(names),
            _ => Err(libc::ENOTDIR),
        }
    }

    fn names_mut(&mut self, dir: Id) -> &mut BTreeMap<String, Id> {
        match &mut self.nodes[dir].kind {
            Kind::Dir(names) => names,
            _ => panic!("{dir} is no directory"),
        }
    }

    pub fn find(&self, (dir, name): Place) -> Answer<Id> {
        self.names(dir)?.get(name).copied().ok_or(libc::ENOENT)
    }

    /// All names of an inode.
    pub fn names_of(&self, id: Id) -> Vec<(Id, String)> {
        let mut names = Vec::new();
        for (dir, node) in self.nodes.iter().enumerate() {
            if let Kind::Dir(entries) = &node.kind {
                names.extend(entries.iter().filter(|(_, entry)| **entry == id).map(|(name, _)| (dir, name.clone())));
            }
        }
        names
    }

    pub fn is_configuration(&self, id: Id) -> bool {
        self.names_of(id).iter().any(|(_, name)| name == CONFIGURATION)
    }

    fn bucket(&self, mut dir: Id) -> Id {
        while self.nodes[dir].parent != ROOT {
            dir = self.nodes[dir].parent;
        }
        dir
    }

    /// What a new object of that name gets; nothing is made where somebody wanted a configuration and none is valid.
    pub fn encryption_for(&self, (mut dir, name): Place) -> Answer<Encryption> {
        if name == CONFIGURATION {
            return Ok(Encryption::AES256);
        }
        while dir != ROOT {
            if let Ok(id) = self.find((dir, CONFIGURATION)) {
                match self.said_by(id) {
                    Some(said) => return Ok(said),
                    None if self.may_put(id, dir) => return Err(libc::EPERM),
                    None => {}
                }
            }
            dir = self.nodes[dir].parent;
        }
        Ok(Encryption::AES256)
    }

    fn said_by(&self, id: Id) -> Option<Encryption> {
        let Kind::File { content, .. } = &self.nodes[id].kind else { return None };
        CONFIGURATIONS.iter().find(|(text, _)| text.as_bytes() == content).and_then(|(_, said)| *said)
    }

    fn add(&mut self, (dir, name): Place, node: Node) -> Id {
        let id = self.nodes.len();
        let mut node = Node { parent: dir, ..node };
        if let Some(above) = self.nodes.get(dir)
            && above.mode & libc::S_ISGID != 0
        {
            node.owner.1 = above.owner.1;
            if node.is_dir() {
                node.mode |= libc::S_ISGID;
            }
        }
        self.nodes.push(node);
        self.names_mut(dir).insert(name.into(), id);
        id
    }

    /// Refuses a name that is there, and names that cannot be what is to be made.
    fn free(&self, place: Place, is_object: bool) -> Answer<()> {
        self.names(place.0)?;
        if place.1 == CONFIGURATION && !is_object {
            return Err(libc::EINVAL);
        }
        if self.find(place).is_ok() { Err(libc::EEXIST) } else { Ok(()) }
    }

    pub fn create(&mut self, place: Place, mode: u32) -> Answer<Id> {
        self.names(place.0)?;
        // The kernel asks for what is not there alone: what is looked at first is nothing that programs see.
        let encryption = self.encryption_for(place)?;
        self.free(place, true)?;
        Ok(self.add(place, Node { mode, ..new_node(Kind::File { content: Vec::new(), encryption }) }))
    }

    pub fn make(&mut self, place: Place, kind: Kind, mode: u32) -> Answer<Id> {
        self.free(place, false)?;
        Ok(self.add(place, Node { mode, ..new_node(kind) }))
    }

    pub fn unlink(&mut self, place: Place) -> Answer<()> {
        let id = self.find(place)?;
        if self.nodes[id].is_dir() {
            return Err(libc::EISDIR);
        }
        self.names_mut(place.0).remove(place.1);
        Ok(())
    }

    pub fn remove_dir(&mut self, place: Place) -> Answer<()> {
        let id = self.find(place)?;
        if !self.names(id)?.is_empty() {
            return Err(libc::ENOTEMPTY);
        }
        self.names_mut(place.0).remove(place.1);
        Ok(())
    }

    pub fn link(&mut self, id: Id, to: Place) -> Answer<()> {
        self.names(to.0)?;
        let Some((from, _)) = self.names_of(id).pop() else { return Err(libc::ENOENT) };
        if self.bucket(from) != self.bucket(to.0) {
            return Err(libc::EXDEV);
        }
        if self.find(to).is_ok() {
            return Err(libc::EEXIST);
        }
        self.adopt(id, to, None)?;
        self.names_mut(to.0).insert(to.1.into(), id);
        Ok(())
    }

    /// What a file has to be, or to become, to bear a name: `was` is the one it gives up for it.
    fn adopt(&mut self, id: Id, to: Place, was: Option<Place>) -> Answer<()> {
        let becomes = to.1 == CONFIGURATION;
        if becomes && self.nodes[id].is_file() && !self.may_put(id, to.0) {
            return Err(libc::EPERM);
        }
        if was.is_some_and(|(_, name)| name == CONFIGURATION) == becomes {
            return Ok(());
        }
        let said = self.said_by(id);
        let changes = self.nodes[id].is_file() && if becomes { said.is_some() } else { was.is_some() };
        let wanted = if changes { Some(self.encryption_for(to)?) } else { None };
        match (&mut self.nodes[id].kind, wanted) {
            (Kind::File { encryption, .. }, Some(wanted)) => {
                *encryption = wanted;
                Ok(())
            }
            _ if becomes => Err(libc::EINVAL),
            _ => Ok(()),
        }
    }

    /// Only root's and the directory's owner's configurations hold.
    pub fn may_put(&self, id: Id, dir: Id) -> bool {
        [0, self.nodes[dir].owner.0].contains(&self.nodes[id].owner.0)
    }

    pub fn rename(&mut self, from: Place, to: Place, how: Rename) -> Answer<()> {
        self.names(from.0)?;
        self.names(to.0)?;
        if self.bucket(from.0) != self.bucket(to.0) {
            return Err(libc::EXDEV);
        }
        let id = self.find(from)?;
        let target = self.find(to).ok();
        match (how, target) {
            (Rename::NoReplace, Some(_)) => return Err(libc::EEXIST),
            (Rename::Exchange, None) => return Err(libc::ENOENT),
            (_, Some(target)) if target == id => return Ok(()),
            _ => {}
        }
        self.check_move((id, from), (target, to), how)?;
        // Both are judged by what is in force before anything moves.
        let before = self.nodes.clone();
        let other = target.filter(|_| how == Rename::Exchange);
        let judged = match other {
            Some(other) => self.adopt_both((id, from), (other, to)),
            None => self.adopt(id, to, Some(from)),
        };
        if let Err(errno) = judged {
            self.nodes = before;
            return Err(errno);
        }
        self.names_mut(from.0).remove(from.1);
        self.names_mut(to.0).insert(to.1.into(), id);
        self.nodes[id].parent = to.0;
        if let Some(other) = other {
            self.names_mut(from.0).insert(from.1.into(), other);
            self.nodes[other].parent = from.0;
        }
        Ok(())
    }

    fn check_move(&self, (id, from): (Id, Place), (target, to): (Option<Id>, Place), how: Rename) -> Answer<()> {
        let exchange = how == Rename::Exchange;
        if let Some(target) = target.filter(|_| !exchange) {
            match (self.nodes[id].is_dir(), self.nodes[target].is_dir()) {
                (true, false) => return Err(libc::ENOTDIR),
                (false, true) => return Err(libc::EISDIR),
                _ => {}
            }
        }
        if self.is_below(to.0, id) {
            return Err(libc::EINVAL);
        }
        let Some(target) = target else { return Ok(()) };
        if exchange {
            return if self.is_below(from.0, target) { Err(libc::EINVAL) } else { Ok(()) };
        }
        match &self.nodes[target].kind {
            Kind::Dir(names) if !names.is_empty() => Err(libc::ENOTEMPTY),
            _ => Ok(()),
        }
    }

    fn adopt_both(&mut self, (id, from): (Id, Place), (other, to): (Id, Place)) -> Answer<()> {
        self.adopt(id, to, Some(from))?;
        self.adopt(other, from, Some(to))
    }

    /// Whether `dir` is `id` or lies below it.
    fn is_below(&self, mut dir: Id, id: Id) -> bool {
        while dir != ROOT {
            if dir == id {
                return true;
            }
            dir = self.nodes[dir].parent;
        }
        false
    }

    // ---- content

    pub fn content(&self, id: Id) -> &[u8] {
        match &self.nodes[id].kind {
            Kind::File { content, .. } => content,
            _ => panic!("{id} is no file"),
        }
    }

    pub fn encryption(&self, id: Id) -> Encryption {
        match &self.nodes[id].kind {
            Kind::File { encryption, .. } => *encryption,
            _ => panic!("{id} is no file"),
        }
    }

    pub fn encrypt(&mut self, id: Id, new: Encryption) {
        self.nodes[id].mtime = None;
        if let Kind::File { encryption, .. } = &mut self.nodes[id].kind {
            *encryption = new;
        }
    }

    pub fn change(&mut self, id: Id, unprivileged: bool, change: impl FnOnce(&mut Vec<u8>)) {
        let node = &mut self.nodes[id];
        node.mtime = None;
        if unprivileged {
            node.drop_set_id(node.owner.1 == super::model_and_fs::USER.gid);
        }
        match &mut node.kind {
            Kind::File { content, .. } => change(content),
            _ => panic!("{id} is no file"),
        }
    }

    // ---- attributes

    pub fn set_mode(&mut self, id: Id, mode: u32) {
        self.nodes[id].mode = mode;
    }

    pub fn set_owner(&mut self, id: Id, owner: (u32, u32)) {
        self.nodes[id].owner = owner;
        if !self.nodes[id].is_dir() {
            self.nodes[id].drop_set_id(true);
        }
    }

    pub fn set_xattr(&mut self, id: Id, name: &str, value: &[u8], flags: XattrFlags) -> Answer<()> {
        let node = &mut self.nodes[id];
        if !node.is_dir() && !node.is_file() {
            return Err(libc::EPERM);
        }
        match (flags, node.xattrs.contains_key(name)) {
            (XattrFlags::Create, true) => Err(libc::EEXIST),
            (XattrFlags::Replace, false) => Err(libc::ENODATA),
            _ => {
                node.xattrs.insert(name.into(), value.into());
                Ok(())
            }
        }
    }

    pub fn remove_xattr(&mut self, id: Id, name: &str) -> Answer<()> {
        let node = &mut self.nodes[id];
        if !node.is_dir() && !node.is_file() {
            return Err(libc::EPERM);
        }
        node.xattrs.remove(name).map(|_| ()).ok_or(libc::ENODATA)
    }
}

fn new_node(kind: Kind) -> Node {
    Node { kind, mode: 0, owner: (0, 0), xattrs: BTreeMap::new(), mtime: None, atime: None, parent: ROOT }
}
