//! Linux users as principals of policies.

use super::users::{CachedUsers, Kept, User, UserDatabase};
use super::{Caller, Code, Error};
use nix::errno::Errno;
use std::sync::Arc;

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
    users: CachedUsers,
    callers: Kept<Caller, Result<Arc<Principals>, Errno>>,
}

impl Directory {
    /// `owner`: the user whose keyring it is, who is the account's root as the machine's root is.
    pub fn new(account: &str, owner: u32, users: Arc<dyn UserDatabase>) -> Self {
        Self { account: account.into(), owner, users: CachedUsers::new(users), callers: Kept::default() }
    }

    pub fn principals(&self, caller: &Caller) -> Result<Arc<Principals>, Error> {
        self.callers.get(caller, || self.look_up(caller).map(Arc::new)).map_err(|errno| {
            // Nobody is taken for somebody else, whom no policy denies anything.
            let text = format!("the names of user {} and its groups cannot be looked up: {errno}", caller.uid);
            Error::new(Code::KmsInternal, text)
        })
    }

    fn look_up(&self, caller: &Caller) -> Result<Principals, Errno> {
        let user = self.users.user(caller.uid)?;
        let groups = match groups_of_process(caller) {
            Some(groups) => groups,
            None => self.groups_of_user(user.as_ref(), caller.gid)?,
        };
        let user = user.map_or_else(|| caller.uid.to_string(), |user| user.name);
        let arn = |of: String| format!("arn:aws:iam::{}:{of}", self.account);
        let mut arns = Vec::new();
        if caller.uid == 0 || caller.uid == self.owner {
            arns.push(arn("root".into()));
        }
        arns.push(arn(format!("user/{user}")));
        for gid in groups {
            let name = self.users.group_name(gid)?.unwrap_or_else(|| gid.to_string());
            arns.push(arn(format!("role/{name}")));
        }
        Ok(Principals { arns, user })
    }

    fn groups_of_user(&self, user: Option<&User>, gid: u32) -> Result<Vec<u32>, Errno> {
        let mut groups = vec![gid];
        if let Some(user) = user {
            groups.extend(self.users.groups_of(user)?.into_iter().filter(|listed| *listed != gid));
        }
        Ok(groups)
    }
}

impl Caller {
    pub fn is_in_group(&self, gid: u32) -> bool {
        gid == self.gid || groups_of_process(self).is_some_and(|groups| groups.contains(&gid))
    }

    /// Root with `CAP_FSETID`, as far as it can be told: whoever is not root is taken to have no capability.
    pub fn keeps_set_id(&self) -> bool {
        self.uid == 0 && capabilities_of_process(self).is_none_or(|capabilities| capabilities & CAP_FSETID != 0)
    }
}

const CAP_FSETID: u64 = 1 << 4;

/// The effective ones, if the process is there.
fn capabilities_of_process(caller: &Caller) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", caller.pid)).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(line.trim(), 16).ok()
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

#[cfg(test)]
mod tests {
    use super::super::users::SystemUsers;
    use super::*;
    use nix::unistd::{Gid, Uid};

    const ACCOUNT: &str = "111122223333";

    fn arn(of: &str) -> String {
        format!("arn:aws:iam::{ACCOUNT}:{of}")
    }

    #[test]
    fn root_and_the_owner_are_the_accounts_root_and_themselves() {
        let directory = Directory::new(ACCOUNT, 4_000_000, Arc::new(SystemUsers));
        let root = directory.principals(&Caller { uid: 0, gid: 0, pid: 0 }).unwrap();
        assert_eq!(root.arns[..2], [arn("root"), arn("user/root")]);
        assert!(root.arns.contains(&arn("role/root")));
        let owner = directory.principals(&Caller { uid: 4_000_000, gid: 4_000_001, pid: 0 }).unwrap();
        assert_eq!(owner.arns, [arn("root"), arn("user/4000000"), arn("role/4000001")]);
    }

    #[test]
    fn a_uid_without_a_name_is_its_number() {
        let directory = Directory::new(ACCOUNT, 0, Arc::new(SystemUsers));
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
}
