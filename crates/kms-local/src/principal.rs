//! Linux users as principals of policies.

use super::users::{CachedUsers, Kept, User, UserDatabase};
use kmsfs_kms::policy::{Groups, Id, Kind, Known, Names, Principal as Named, Subject, Unknown};
use kmsfs_kms::{Caller, Principal};
use nix::errno::Errno;
use std::sync::Arc;

/// Who a principal is to policies: the Linux user who asks, and the groups.
pub struct Principals {
    account: String,
    uid: u32,
    /// The machine's root, and the user whose keyring it is, are the account's.
    pub is_root: bool,
    groups: Groups,
    all_groups: Groups,
    users: Arc<CachedUsers>,
}

/// The users and groups of this machine as principals of an account. What was looked up is kept for a second, so that
/// an open costs no look-up.
pub(crate) struct Directory {
    account: String,
    owner: u32,
    users: Arc<CachedUsers>,
    known: Kept<Who, Arc<Principals>>,
}

/// What of a principal says which user and groups it is: whatever else a request says of itself, it is the same one.
type Who = (u32, u32, Option<Caller>);

impl Directory {
    /// `owner`: the user whose keyring it is, who is the account's root as the machine's root is.
    pub(crate) fn new(account: &str, owner: u32, users: Arc<dyn UserDatabase>) -> Self {
        let users = Arc::new(CachedUsers::new(users));
        Self { account: account.into(), owner, users, known: Kept::default() }
    }

    pub(crate) fn principals(&self, who: &Principal) -> Arc<Principals> {
        let key = (who.uid(), who.gid(), who.process().copied());
        self.known.get(&key, || Arc::new(self.look_up(who)))
    }

    /// The user of that name; `None` if there is none.
    pub(crate) fn user_named(&self, name: &str) -> Known<Option<User>> {
        self.users.user_named(name).map_err(|errno| unknown(&format!("user {name}"), errno))
    }

    fn look_up(&self, who: &Principal) -> Principals {
        let listed = self.listed_groups(who.uid());
        let process = who.process().and_then(Caller::groups);
        let mut all_groups = Groups { gids: process.clone().unwrap_or_else(|| vec![who.gid()]), missing: None };
        match listed {
            Ok(listed) => {
                let more: Vec<_> = listed.into_iter().filter(|gid| !all_groups.gids.contains(gid)).collect();
                all_groups.gids.extend(more);
            }
            Err(unknown) => all_groups.missing = Some(unknown),
        }
        // A process that is gone had some of those that its user has; whoever signs a request has all of them.
        let groups = process.map_or_else(|| all_groups.clone(), |gids| Groups { gids, missing: None });
        Principals {
            account: self.account.clone(),
            uid: who.uid(),
            is_root: who.uid() == 0 || who.uid() == self.owner,
            groups,
            all_groups,
            users: Arc::clone(&self.users),
        }
    }

    /// By the user database.
    fn listed_groups(&self, uid: u32) -> Known<Vec<u32>> {
        let what = || format!("the groups of uid {uid}");
        let Some(user) = self.users.user(uid).map_err(|errno| unknown(&what(), errno))? else {
            return Ok(Vec::new());
        };
        self.users.groups_of(&user).map_err(|errno| unknown(&what(), errno))
    }
}

impl Principals {
    pub fn subject(&self) -> Subject<'_> {
        Subject {
            account: &self.account,
            uid: self.uid,
            is_root: self.is_root,
            groups: &self.groups,
            all_groups: &self.all_groups,
            names: self,
        }
    }

    /// Its ARN, for messages and records.
    pub fn arn(&self) -> String {
        let resource = if self.is_root { "root".into() } else { format!("user/{}", self.user()) };
        format!("arn:aws:iam::{}:{resource}", self.account)
    }

    /// Its name; its number where it has none, or none that can be told.
    pub fn user(&self) -> String {
        let name = self.user_name(self.uid).ok().flatten();
        name.unwrap_or_else(|| format!("uid:{}", self.uid))
    }

    /// An ARN, and others that mean the same user or group: by its number, by its name.
    pub fn forms(&self, arn: &str) -> Known<Vec<String>> {
        let mut forms = vec![arn.to_owned()];
        if let Some(Named::Of { kind, account, id }) = Named::parse(arn) {
            let (number, name) = match (&id, kind) {
                (Id::Number(uid), Kind::User) => (None, self.user_name(*uid)?),
                (Id::Number(gid), Kind::Role) => (None, self.group_name(*gid)?),
                (Id::Name(name), Kind::User) => (self.uid(name)?, None),
                (Id::Name(name), Kind::Role) => (self.gid(name)?, None),
            };
            let id = number.map(Id::Number).or(name.map(Id::Name));
            forms.extend(id.map(|id| Named::Of { kind, account, id }.to_string()));
        }
        Ok(forms)
    }

    /// Whether a grant says so of it.
    pub fn is(&self, principal: &str) -> Known<bool> {
        self.subject().is_named(principal)
    }
}

impl Names for Principals {
    fn uid(&self, name: &str) -> Known<Option<u32>> {
        let user = self.users.user_named(name).map_err(|errno| unknown(&format!("user {name}"), errno))?;
        Ok(user.map(|user| user.uid))
    }

    fn gid(&self, name: &str) -> Known<Option<u32>> {
        self.users.group_named(name).map_err(|errno| unknown(&format!("group {name}"), errno))
    }

    fn user_name(&self, uid: u32) -> Known<Option<String>> {
        let user = self.users.user(uid).map_err(|errno| unknown(&format!("uid {uid}"), errno))?;
        Ok(user.map(|user| user.name))
    }

    fn group_name(&self, gid: u32) -> Known<Option<String>> {
        self.users.group_name(gid).map_err(|errno| unknown(&format!("gid {gid}"), errno))
    }
}

fn unknown(what: &str, errno: Errno) -> Unknown {
    Unknown(format!("the user database cannot be asked about {what}: {}", errno.desc()))
}

#[cfg(test)]
mod tests {
    use super::super::users::SystemUsers;
    use super::*;
    use kmsfs_kms::{AccessKeyId, SignedRequest};

    const ACCOUNT: &str = "111122223333";

    fn arn(of: &str) -> String {
        format!("arn:aws:iam::{ACCOUNT}:{of}")
    }

    fn gone(uid: u32, gid: u32) -> Principal {
        Principal::Process(Caller { uid, gid, pid: 0 })
    }

    #[test]
    fn root_and_the_owner_are_the_accounts_root_and_themselves() {
        let directory = Directory::new(ACCOUNT, 4_000_000, Arc::new(SystemUsers));
        for (caller, also) in [
            (gone(0, 0), ["user/root", "user/uid:0", "role/root"]),
            (gone(4_000_000, 4_000_001), ["user/uid:4000000", "user/uid:4000000", "role/gid:4000001"]),
        ] {
            let who = directory.principals(&caller);
            assert_eq!((who.is_root, who.arn()), (true, arn("root")));
            for resource in also {
                assert_eq!(who.is(&arn(resource)), Ok(true), "{resource}");
            }
            assert_eq!((who.is(ACCOUNT), who.is(&arn("root"))), (Ok(true), Ok(true)));
        }
    }

    #[test]
    fn a_uid_without_a_name_is_no_user_whose_name_is_a_number() {
        let directory = Directory::new(ACCOUNT, 0, Arc::new(SystemUsers));
        let nobody = directory.principals(&gone(4_000_000, 4_000_000));
        assert_eq!((nobody.arn(), nobody.user()), (arn("user/uid:4000000"), "uid:4000000".into()));
        let is = |resource: &str| nobody.is(&arn(resource));
        assert_eq!((is("user/uid:4000000"), is("role/gid:4000000")), (Ok(true), Ok(true)));
        for other in ["user/4000000", "role/4000000", "user/gid:4000000", "user/uid:4000001", "user/uid:04000000"] {
            assert_eq!(is(other), Ok(false), "{other}");
        }
    }

    #[test]
    fn whoever_signs_a_request_is_the_user_of_the_access_key_with_all_groups() {
        let directory = Directory::new(ACCOUNT, 0, Arc::new(SystemUsers));
        let access_key = AccessKeyId::parse("AKIAIOSFODNN7EXAMPLE").unwrap();
        let request = SignedRequest { access_key, uid: 4_000_000, gid: 4_000_001, source: None, user_agent: None };
        let who = directory.principals(&Principal::Request(request.clone()));
        assert_eq!((who.arn(), who.is_root), (arn("user/uid:4000000"), false));
        assert_eq!(who.is(&arn("role/gid:4000001")), Ok(true));
        let root = directory.principals(&Principal::Request(SignedRequest { uid: 0, gid: 0, ..request }));
        assert!(root.is_root);
        assert_eq!(root.is(&arn("role/root")), Ok(true), "by the user database");
    }
}
