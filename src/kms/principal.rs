//! Linux users as principals of policies.

use super::{Caller, Code, Error};
use nix::errno::Errno;
use nix::unistd::{Gid, Group, Uid, User, getgrouplist};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::ffi::CString;
use std::hash::Hash;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A change of users and groups takes effect within this time.
const LIFETIME: Duration = Duration::from_secs(1);
/// Answers of each kind that are kept.
const KEPT: usize = 4096;

/// Who a Linux process is to policies.
#[derive(Debug, PartialEq, Eq)]
pub struct Principals {
    /// ARNs. The first one names it in messages.
    pub arns: Vec<String>,
    pub user: String,
}

/// The users and groups of this machine as principals of an account. What was looked up is kept for a second, so that an
/// open costs no look-up.
pub struct Directory {
    account: String,
    owner: u32,
    callers: Kept<Caller, Arc<Principals>>,
    users: Kept<u32, Option<User>>,
    groups: Kept<u32, String>,
}

impl Directory {
    /// `owner`: the user whose keyring it is, who is the account's root as the machine's root is.
    pub fn new(account: &str, owner: u32) -> Self {
        Self {
            account: account.into(),
            owner,
            callers: Kept::default(),
            users: Kept::default(),
            groups: Kept::default(),
        }
    }

    pub fn principals(&self, caller: &Caller) -> Result<Arc<Principals>, Error> {
        self.callers.get(*caller, || self.look_up(caller).map(Arc::new)).map_err(|errno| {
            // Nobody is taken for somebody else, whom no policy denies anything.
            let text = format!("the names of user {} and its groups cannot be looked up: {errno}", caller.uid);
            Error::new(Code::KmsInternal, text)
        })
    }

    fn look_up(&self, caller: &Caller) -> Result<Principals, Errno> {
        let user = self.users.get(caller.uid, || or_none(User::from_uid(Uid::from_raw(caller.uid))))?;
        let groups = match groups_of_process(caller) {
            Some(groups) => groups,
            None => groups_of_user(user.as_ref(), caller.gid)?,
        };
        let user = user.map_or_else(|| caller.uid.to_string(), |user| user.name);
        let arn = |of: String| format!("arn:aws:iam::{}:{of}", self.account);
        let mut arns = Vec::new();
        if caller.uid == 0 || caller.uid == self.owner {
            arns.push(arn("root".into()));
        }
        arns.push(arn(format!("user/{user}")));
        for gid in groups {
            let name = self.groups.get(gid, || {
                let group = or_none(Group::from_gid(Gid::from_raw(gid)))?;
                Ok(group.map_or_else(|| gid.to_string(), |group| group.name))
            })?;
            arns.push(arn(format!("role/{name}")));
        }
        Ok(Principals { arns, user })
    }
}

/// Answers for a limited time, limited in number.
struct Kept<K, V>(Mutex<HashMap<K, (Instant, V)>>);

impl<K, V> Default for Kept<K, V> {
    fn default() -> Self {
        Self(Mutex::new(HashMap::new()))
    }
}

impl<K: Eq + Hash, V: Clone> Kept<K, V> {
    fn get(&self, key: K, look_up: impl FnOnce() -> Result<V, Errno>) -> Result<V, Errno> {
        if let Some((since, value)) = self.0.lock().get(&key)
            && since.elapsed() < LIFETIME
        {
            return Ok(value.clone());
        }
        // Without the lock: a directory service may take its time.
        let since = Instant::now();
        let value = look_up()?;
        let mut kept = self.0.lock();
        if kept.len() >= KEPT {
            kept.retain(|_, (since, _)| since.elapsed() < LIFETIME);
        }
        if kept.len() >= KEPT {
            kept.clear();
        }
        kept.insert(key, (since, value.clone()));
        Ok(value)
    }
}

/// Some libraries answer an error where there is no such entry (getpwnam(3)).
fn or_none<T>(answer: nix::Result<Option<T>>) -> Result<Option<T>, Errno> {
    match answer {
        Err(Errno::ENOENT | Errno::ESRCH) => Ok(None),
        answer => answer,
    }
}

impl Caller {
    pub fn is_in_group(&self, gid: u32) -> bool {
        gid == self.gid || groups_of_process(self).is_some_and(|groups| groups.contains(&gid))
    }
}

/// The group and the supplementary groups of the process, if it is there and still the one that asks.
fn groups_of_process(caller: &Caller) -> Option<Vec<u32>> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", caller.pid)).ok()?;
    groups_in_status(&status, caller)
}

fn groups_in_status(status: &str, caller: &Caller) -> Option<Vec<u32>> {
    let numbers = |name: &str| -> Option<Vec<u32>> {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_whitespace().map(|number| number.parse().ok()).collect()
    };
    // Real, effective, saved and that for files, which is what the kernel asks with.
    if numbers("Uid:")?.get(3) != Some(&caller.uid) || numbers("Gid:")?.get(3) != Some(&caller.gid) {
        return None;
    }
    let mut groups = vec![caller.gid];
    groups.extend(numbers("Groups:")?.into_iter().filter(|gid| *gid != caller.gid));
    Some(groups)
}

fn groups_of_user(user: Option<&User>, gid: u32) -> Result<Vec<u32>, Errno> {
    let mut groups = vec![gid];
    if let Some(user) = user
        && let Ok(name) = CString::new(user.name.as_str())
    {
        let listed = getgrouplist(&name, user.gid)?.into_iter().map(Gid::as_raw);
        groups.extend(listed.filter(|listed| *listed != gid));
    }
    Ok(groups)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ACCOUNT: &str = "111122223333";

    fn arn(of: &str) -> String {
        format!("arn:aws:iam::{ACCOUNT}:{of}")
    }

    #[test]
    fn root_and_the_owner_are_the_accounts_root_and_themselves() {
        let directory = Directory::new(ACCOUNT, 4_000_000);
        let root = directory.principals(&Caller { uid: 0, gid: 0, pid: 0 }).unwrap();
        assert_eq!(root.arns[..2], [arn("root"), arn("user/root")]);
        assert!(root.arns.contains(&arn("role/root")));
        let owner = directory.principals(&Caller { uid: 4_000_000, gid: 4_000_001, pid: 0 }).unwrap();
        assert_eq!(owner.arns, [arn("root"), arn("user/4000000"), arn("role/4000001")]);
    }

    #[test]
    fn a_uid_without_a_name_is_its_number() {
        let directory = Directory::new(ACCOUNT, 0);
        let nobody = directory.principals(&Caller { uid: 4_000_000, gid: 0, pid: 0 }).unwrap();
        assert_eq!(nobody.arns, [arn("user/4000000"), arn("role/root")]);
        assert_eq!(nobody.user, "4000000");
    }

    #[test]
    fn the_groups_are_those_of_the_process() {
        let status = "Name:\tx\nUid:\t0\t0\t0\t1000\nGid:\t5\t5\t5\t100\nGroups:\t4 100 27 \nNStgid:\t1\n";
        let caller = Caller { uid: 1000, gid: 100, pid: 1 };
        assert_eq!(groups_in_status(status, &caller), Some(vec![100, 4, 27]));
        assert_eq!(groups_in_status(status, &Caller { uid: 0, ..caller }), None, "it is another process by now");
        assert_eq!(groups_in_status(status, &Caller { gid: 5, ..caller }), None);
        assert_eq!(groups_in_status("Name:\tx\n", &caller), None);
        let none = status.replace("4 100 27", "");
        assert_eq!(groups_in_status(&none, &caller), Some(vec![100]));
        let here = Caller { uid: Uid::current().as_raw(), gid: Gid::current().as_raw(), pid: std::process::id() };
        assert_eq!(groups_of_process(&here).map(|groups| groups[0]), Some(here.gid));
        assert!(here.is_in_group(here.gid));
        assert!(!here.is_in_group(4_000_000));
        assert!(!Caller { gid: 4_000_000, ..here }.is_in_group(here.gid), "it is another process by now");
    }

    #[test]
    fn a_look_up_is_kept_and_the_number_of_them_is_bounded() {
        let kept = Kept::default();
        assert_eq!(kept.get(1, || Ok("first")), Ok("first"));
        assert_eq!(kept.get(1, || panic!("it is known")), Ok("first"));
        assert_eq!(kept.get(2, || Err(Errno::EIO)), Err(Errno::EIO));
        assert_eq!(kept.get(2, || Ok("second")), Ok("second"), "an error is not kept");
        let before = Instant::now().checked_sub(LIFETIME).unwrap();
        kept.0.lock().insert(1, (before, "old"));
        assert_eq!(kept.get(1, || Ok("new")), Ok("new"));
        for number in 0..2 * KEPT {
            kept.get(number, || Ok("many")).unwrap();
            assert!(kept.0.lock().len() <= KEPT);
        }
    }
}
