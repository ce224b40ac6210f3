//! People for the tests of policies.

use super::{Groups, Known, Names, Subject, Unknown};

/// A user database: alice is 1001 and bob 1002, 1003 has the name 1001 and 1004 two names. staff is 50, audit 51, and
/// 52 has the name 50.
pub(crate) struct People;

const USERS: [(&str, u32); 5] = [("alice", 1001), ("bob", 1002), ("1001", 1003), ("carol", 1004), ("caroline", 1004)];
const GROUPS: [(&str, u32); 3] = [("staff", 50), ("audit", 51), ("50", 52)];

fn number(entries: &[(&str, u32)], name: &str) -> Option<u32> {
    entries.iter().find(|(known, _)| *known == name).map(|(_, number)| *number)
}

fn name(entries: &[(&str, u32)], number: u32) -> Option<String> {
    entries.iter().find(|(_, known)| *known == number).map(|(name, _)| (*name).to_owned())
}

impl Names for People {
    fn uid(&self, name: &str) -> Known<Option<u32>> {
        Ok(number(&USERS, name))
    }

    fn gid(&self, name: &str) -> Known<Option<u32>> {
        Ok(number(&GROUPS, name))
    }

    fn user_name(&self, uid: u32) -> Known<Option<String>> {
        Ok(name(&USERS, uid))
    }

    fn group_name(&self, gid: u32) -> Known<Option<String>> {
        Ok(name(&GROUPS, gid))
    }
}

/// A user database that does not answer.
pub(crate) struct Away;

pub(crate) fn away<T>() -> Known<T> {
    Err(Unknown("away".into()))
}

impl Names for Away {
    fn uid(&self, _: &str) -> Known<Option<u32>> {
        away()
    }

    fn gid(&self, _: &str) -> Known<Option<u32>> {
        away()
    }

    fn user_name(&self, _: u32) -> Known<Option<String>> {
        away()
    }

    fn group_name(&self, _: u32) -> Known<Option<String>> {
        away()
    }
}

/// One that has forgotten everybody.
pub(crate) struct Empty;

impl Names for Empty {
    fn uid(&self, _: &str) -> Known<Option<u32>> {
        Ok(None)
    }

    fn gid(&self, _: &str) -> Known<Option<u32>> {
        Ok(None)
    }

    fn user_name(&self, _: u32) -> Known<Option<String>> {
        Ok(None)
    }

    fn group_name(&self, _: u32) -> Known<Option<String>> {
        Ok(None)
    }
}

pub(crate) fn subject<'a>(names: &'a dyn Names, uid: u32, groups: &'a Groups, all_groups: &'a Groups) -> Subject<'a> {
    Subject { account: "111122223333", uid, is_root: uid == 0, groups, all_groups, names }
}
