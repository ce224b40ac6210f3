//! A name that changes hands between being found and being used: whoever acts on an inode by its number acts on it, and
//! on nothing that has its name by then.

use crate::store::{CALLER, keys};
use kmsfs_fs::{Changes, Creation, Fs, FsOptions, Ino, Result, Time, Writer};
use kmsfs_store::backend::{Rename, XattrFlags};
use kmsfs_store::{self as store, Attr, Parameters, Store, StoreOptions, interleaving};
use kmsfs_testing::disk::SimulatedDisk;
use std::cell::Cell;
use std::ffi::OsStr;
use std::rc::Rc;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

const MODE: Creation = Creation { mode: 0o640, umask: 0, caller: CALLER };
const WHO: &str = "user.who";
/// For how long another thread is given way that has to wait for this one. Only a fault is missed that takes longer.
const LONG: Duration = Duration::from_millis(100);

/// More than there are in any call.
const MOMENTS: usize = 100;

/// A mount without FUSE, in which no lock of the kernel's keeps requests apart.
struct OwnerAndHeir {
    fs: Arc<Fs>,
    bucket: Ino,
    /// Who has the name, and who gets it.
    owner: Ino,
    heir: Ino,
}

impl OwnerAndHeir {
    /// Of two files, or two symlinks, that nobody has open.
    fn new(links: bool) -> Self {
        let (disk, keys) = (SimulatedDisk::new(), keys());
        let parameters =
            Parameters { store_id: [1; 16], account_id: "000000000000".into(), region: "us-east-1".into() };
        store::create(&disk, &parameters, keys.service()).unwrap();
        let store = Store::open(Arc::new(disk), keys, StoreOptions::default()).unwrap();
        let options =
            FsOptions { read_only: false, keep_owners: true, noatime: true, open_dirs: 100, most_inodes: None };
        let fs = Fs::new(store, options);
        let bucket = fs.mkdir(fs.root(), OsStr::new("bucket"), &MODE).unwrap().ino();
        let make = |name: &str, who: &str| {
            let name = OsStr::new(name);
            if links {
                return fs.symlink(bucket, name, who.as_bytes(), &MODE).unwrap().ino();
            }
            let (entry, handle) = fs.create(bucket, name, &MODE).unwrap();
            fs.write(handle, 0, who.as_bytes(), Writer::Privileged).unwrap();
            fs.flush(handle).unwrap();
            fs.release(handle);
            fs.set_xattr(entry.ino(), OsStr::new(WHO), who.as_bytes(), XattrFlags::Any, &CALLER).unwrap();
            entry.ino()
        };
        let (owner, heir) = (make("name", "owner"), make("other", "the heir"));
        fs.store().checkpoint().unwrap();
        assert!([owner, heir].iter().all(|ino| fs.store().attached(*ino).is_none()), "they are reached by name");
        Self { fs, bucket, owner, heir }
    }

    fn attr(&self, name: &str) -> Attr {
        self.fs.lookup(self.bucket, OsStr::new(name)).unwrap().attr
    }

    fn who(&self, ino: Ino) -> Result<Vec<u8>> {
        self.fs.get_xattr(ino, OsStr::new(WHO), &CALLER)
    }
}

/// How the name changes hands.
#[derive(Debug, Clone, Copy, PartialEq)]
enum How {
    Moved,
    Exchanged,
    Replaced,
    Removed,
}

impl How {
    fn act(self, fs: &Fs, bucket: Ino) {
        let rename = |from: &str, to: &str, how| {
            fs.rename(bucket, OsStr::new(from), bucket, OsStr::new(to), how, &CALLER).unwrap();
        };
        match self {
            Self::Moved => rename("name", "away", Rename::NoReplace),
            Self::Removed => fs.unlink(bucket, OsStr::new("name")).unwrap(),
            Self::Exchanged | Self::Replaced => {}
        }
        let exchanges = self == Self::Exchanged;
        rename("other", "name", if exchanges { Rename::Exchange } else { Rename::Replace });
    }

    /// The name that the owner has afterwards.
    fn leaves(self) -> Option<&'static str> {
        match self {
            Self::Moved => Some("away"),
            Self::Exchanged => Some("other"),
            Self::Replaced | Self::Removed => None,
        }
    }
}

/// Does something to the owner while the name changes hands at the moment of that number. `None` if there is no such
/// moment.
fn beside<T>(pair: &OwnerAndHeir, how: How, moment: usize, act: impl FnOnce(&OwnerAndHeir) -> T) -> Option<T> {
    let (left, mover) = (Rc::new(Cell::new(Some(moment))), Rc::new(Cell::new(None)));
    let meanwhile = {
        let (left, mover, fs, bucket) = (left.clone(), mover.clone(), pair.fs.clone(), pair.bucket);
        move || match left.get() {
            Some(0) => {
                left.set(None);
                let (fs, (done, is_done)) = (fs.clone(), mpsc::channel());
                mover.set(Some(thread::spawn(move || {
                    how.act(&fs, bucket);
                    let _ = done.send(());
                })));
                let _ = is_done.recv_timeout(LONG);
            }
            Some(moment) => left.set(Some(moment - 1)),
            None => {}
        }
    };
    interleaving::meanwhile(Some(Box::new(meanwhile)));
    let done = act(pair);
    interleaving::meanwhile(None);
    mover.take().map(|mover| mover.join().unwrap())?;
    Some(done)
}

/// Tries each way and each moment. `act` is told whether the owner has a name afterwards.
fn at_each_moment(links: bool, act: impl Fn(&OwnerAndHeir, How, usize) -> bool) {
    for how in [How::Moved, How::Exchanged, How::Replaced, How::Removed] {
        let moments = (0..MOMENTS).take_while(|moment| act(&OwnerAndHeir::new(links), how, *moment)).count();
        assert!((1..MOMENTS).contains(&moments), "{how:?}: all moments were tried, and there were some");
    }
}

/// Something that is done to the owner.
type Change<'a> = &'a dyn Fn(&OwnerAndHeir) -> Result<()>;

#[test]
fn what_changes_attributes_changes_nobody_elses() {
    let attribute = OsStr::new(WHO);
    let set =
        |changes: Changes| move |pair: &OwnerAndHeir| pair.fs.setattr(pair.owner, None, &changes, &CALLER).map(drop);
    let changes: [(&str, Change<'_>); 5] = [
        ("chmod", &set(Changes { mode: Some(0o604), ..Changes::default() })),
        ("chown", &set(Changes { uid: Some(1234), gid: Some(4321), ..Changes::default() })),
        ("utimes", &set(Changes { atime: Some(Time(1)), mtime: Some(Time(2)), ..Changes::default() })),
        ("setxattr", &|pair| pair.fs.set_xattr(pair.owner, attribute, b"changed", XattrFlags::Any, &CALLER)),
        ("removexattr", &|pair| pair.fs.remove_xattr(pair.owner, attribute, &CALLER)),
    ];
    let shown = |attr: &Attr| (attr.ino, attr.mode, attr.uid, attr.gid, attr.atime, attr.mtime);
    for (what, change) in changes {
        let expected = {
            let pair = OwnerAndHeir::new(false);
            change(&pair).unwrap();
            let attr = pair.attr("name");
            (attr.mode, attr.uid, attr.gid, attr.atime.min(Time(2)), attr.mtime.min(Time(2)), pair.who(pair.owner).ok())
        };
        at_each_moment(false, |pair, how, moment| {
            let before = pair.attr("other");
            let Some(done) = beside(pair, how, moment, change) else { return false };
            let when = format!("{what}, {how:?} at moment {moment}: {done:?}");
            assert_eq!(shown(&pair.attr("name")), shown(&before), "{when}");
            assert_eq!(pair.who(pair.heir).as_deref(), Ok(&b"the heir"[..]), "{when}");
            if let Some(name) = how.leaves() {
                let attr = pair.attr(name);
                let found = (
                    attr.mode,
                    attr.uid,
                    attr.gid,
                    attr.atime.min(Time(2)),
                    attr.mtime.min(Time(2)),
                    pair.who(pair.owner).ok(),
                );
                assert_eq!((&done, attr.ino, found), (&Ok(()), pair.owner, expected.clone()), "{when}");
            }
            true
        });
    }
}

#[test]
fn what_reads_attributes_reads_nobody_elses() {
    at_each_moment(false, |pair, how, moment| {
        let Some(read) = beside(pair, how, moment, |pair| pair.who(pair.owner)) else { return false };
        let is_right = read.as_deref() == Ok(b"owner") || (how.leaves().is_none() && read.is_err());
        assert!(is_right, "{how:?} at moment {moment}: {read:?}");
        true
    });
    at_each_moment(true, |pair, how, moment| {
        let Some(read) = beside(pair, how, moment, |pair| pair.fs.readlink(pair.owner)) else { return false };
        let is_right = read.as_deref() == Ok(b"owner") || (how.leaves().is_none() && read.is_err());
        assert!(is_right, "{how:?} at moment {moment}: {read:?}");
        true
    });
}
