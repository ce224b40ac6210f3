//! The user database of the machine, behind one small interface: it may be asked by another process.

use kmsfs_locks::{Mutex, ranks};
use nix::errno::Errno;
use nix::unistd::{self, Gid, Group, Uid, getgrouplist};
use serde::{Deserialize, Serialize};
use std::borrow::Borrow;
use std::collections::HashMap;
use std::ffi::CString;
use std::hash::Hash;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// An entry of passwd(5).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// Of the user.
    pub name: String,
    /// The user's number.
    pub uid: u32,
    /// The group that it has in its entry.
    pub gid: u32,
}

/// Users and groups by number and by name. `None` is the database's own word that there is no such entry; an error says
/// that it cannot tell. A call may take as long as a directory service does: nobody makes one who holds a lock.
pub trait UserDatabase: Send + Sync {
    /// The user with that number.
    fn user(&self, uid: u32) -> Result<Option<User>, Errno>;
    /// The user of that name.
    fn user_named(&self, name: &str) -> Result<Option<User>, Errno>;
    /// The name of a group.
    fn group_name(&self, gid: u32) -> Result<Option<String>, Errno>;
    /// The number of a group.
    fn group_named(&self, name: &str) -> Result<Option<u32>, Errno>;
    /// Its own group and all that list it.
    fn groups_of(&self, user: &User) -> Result<Vec<u32>, Errno>;
}

/// NSS, asked by this process (getpwnam(3): that there is no entry is no error there).
pub struct SystemUsers;

impl UserDatabase for SystemUsers {
    fn user(&self, uid: u32) -> Result<Option<User>, Errno> {
        Ok(unistd::User::from_uid(Uid::from_raw(uid))?.map(User::from))
    }

    fn user_named(&self, name: &str) -> Result<Option<User>, Errno> {
        Ok(unistd::User::from_name(name)?.map(User::from))
    }

    fn group_name(&self, gid: u32) -> Result<Option<String>, Errno> {
        Ok(Group::from_gid(Gid::from_raw(gid))?.map(|group| group.name))
    }

    fn group_named(&self, name: &str) -> Result<Option<u32>, Errno> {
        Ok(Group::from_name(name)?.map(|group| group.gid.as_raw()))
    }

    fn groups_of(&self, user: &User) -> Result<Vec<u32>, Errno> {
        let name = CString::new(user.name.as_str()).map_err(|_| Errno::EINVAL)?;
        Ok(getgrouplist(&name, Gid::from_raw(user.gid))?.into_iter().map(Gid::as_raw).collect())
    }
}

impl From<unistd::User> for User {
    fn from(user: unistd::User) -> Self {
        Self { name: user.name, uid: user.uid.as_raw(), gid: user.gid.as_raw() }
    }
}

/// A change of users and groups takes effect within this time, and one that cannot be asked is asked again after it.
pub(super) const LIFETIME: Duration = Duration::from_secs(1);

/// A user database whose answers are kept for a limited time, errors too: an open costs no look-up.
pub(super) struct CachedUsers {
    database: Arc<dyn UserDatabase>,
    by_uid: Kept<u32, Result<Option<User>, Errno>>,
    by_name: Kept<String, Result<Option<User>, Errno>>,
    group_names: Kept<u32, Result<Option<String>, Errno>>,
    groups: Kept<String, Result<Option<u32>, Errno>>,
    memberships: Kept<String, Result<Vec<u32>, Errno>>,
}

impl CachedUsers {
    pub(crate) fn new(database: Arc<dyn UserDatabase>) -> Self {
        let (by_uid, by_name, group_names, groups, memberships) = Default::default();
        Self { database, by_uid, by_name, group_names, groups, memberships }
    }
}

impl UserDatabase for CachedUsers {
    fn user(&self, uid: u32) -> Result<Option<User>, Errno> {
        self.by_uid.get(&uid, || self.database.user(uid))
    }

    fn user_named(&self, name: &str) -> Result<Option<User>, Errno> {
        self.by_name.get(name, || self.database.user_named(name))
    }

    fn group_name(&self, gid: u32) -> Result<Option<String>, Errno> {
        self.group_names.get(&gid, || self.database.group_name(gid))
    }

    fn group_named(&self, name: &str) -> Result<Option<u32>, Errno> {
        self.groups.get(name, || self.database.group_named(name))
    }

    fn groups_of(&self, user: &User) -> Result<Vec<u32>, Errno> {
        self.memberships.get(user.name.as_str(), || self.database.groups_of(user))
    }
}

/// Answers for a limited time, limited in number.
pub(super) struct Kept<K, V>(Mutex<ranks::UserEntries, HashMap<K, (Instant, V)>>);

/// Answers of each kind that are kept: the quota of a key's grants and some more.
const KEPT: usize = 1 << 16;

impl<K, V> Default for Kept<K, V> {
    fn default() -> Self {
        Self(Mutex::new(HashMap::new()))
    }
}

impl<K: Eq + Hash, V: Clone> Kept<K, V> {
    pub(crate) fn get<Q>(&self, key: &Q, look_up: impl FnOnce() -> V) -> V
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ToOwned<Owned = K> + ?Sized,
    {
        if let Some((since, value)) = self.0.lock().get(key)
            && since.elapsed() < LIFETIME
        {
            return value.clone();
        }
        // Without the lock: a directory service may take its time.
        let value = look_up();
        let mut kept = self.0.lock();
        if kept.len() >= KEPT {
            kept.retain(|_, (since, _)| since.elapsed() < LIFETIME);
        }
        if kept.len() >= KEPT {
            kept.clear();
        }
        kept.insert(key.to_owned(), (Instant::now(), value.clone()));
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_kept_and_the_number_of_them_is_bounded() {
        let kept = Kept::default();
        assert_eq!(kept.get(&1, || "first"), "first");
        assert_eq!(kept.get(&1, || panic!("it is known")), "first");
        let before = Instant::now().checked_sub(LIFETIME).unwrap();
        kept.0.lock().insert(1, (before, "old"));
        assert_eq!(kept.get(&1, || "new"), "new");
        for number in 0..2 * KEPT {
            kept.get(&number, || "many");
            assert!(kept.0.lock().len() <= KEPT);
        }
    }

    #[test]
    fn the_machines_own_database_knows_root_and_not_everybody() {
        let root = SystemUsers.user(0).unwrap().unwrap();
        assert_eq!((root.name.as_str(), root.uid, root.gid), ("root", 0, 0));
        assert_eq!(SystemUsers.user_named("root"), Ok(Some(root.clone())));
        assert_eq!(SystemUsers.group_named("root"), Ok(Some(0)));
        assert_eq!(SystemUsers.group_name(0), Ok(Some("root".into())));
        assert!(SystemUsers.groups_of(&root).unwrap().contains(&0));
        assert_eq!(SystemUsers.user(4_000_000), Ok(None));
        assert_eq!(SystemUsers.user_named("nobody-has-this-name"), Ok(None));
        assert_eq!(SystemUsers.group_named("nobody-has-this-name"), Ok(None));
    }
}
