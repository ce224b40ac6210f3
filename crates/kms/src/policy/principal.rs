//! Whom policies and grants name, and whether whoever asks is meant. Names are resolved to numbers and numbers
//! compared: what a process can change about itself, or a database that is away, makes nobody somebody else.

use std::cell::RefCell;
use std::fmt;

/// What cannot be told: why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unknown(pub String);

/// What may not be told.
pub type Known<T> = Result<T, Unknown>;

/// Whom a statement or a grant names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Principal {
    /// An account, which is its root too.
    Account(String),
    /// A user or a group.
    Of {
        /// Which of the two.
        kind: Kind,
        /// Twelve digits.
        account: String,
        /// Its name or number.
        id: Id,
    },
    /// The ARN of a session of a role or of a federated user: nobody here is one.
    Session(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
/// What a principal of an account is here.
pub enum Kind {
    /// A Linux user.
    User,
    /// A group of Linux.
    Role,
}

/// In an ARN: `NAME`, or `uid:NUMBER` (`gid:NUMBER` of a role), which no name can be, for passwd(5) parts by colons.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Id {
    /// As the user database has it.
    Name(String),
    /// `uid:` or `gid:`.
    Number(u32),
}

impl Id {
    fn parse(text: &str, number: &str) -> Option<Self> {
        if !text.contains(':') {
            return Some(Self::Name(text.into()));
        }
        let digits = text.strip_prefix(number)?;
        digits.parse().ok().filter(|number: &u32| number.to_string() == digits).map(Self::Number)
    }
}

impl Principal {
    /// An ARN, or an account's number; without patterns.
    pub fn parse(text: &str) -> Option<Self> {
        if is_account(text) {
            return Some(Self::Account(text.into()));
        }
        let parts: Vec<_> = text.splitn(6, ':').collect();
        let ["arn", "aws", service, "", account, resource] = parts[..] else { return None };
        if !is_account(account) {
            return None;
        }
        match service {
            "iam" => Self::of_resource(account, resource),
            "sts" => {
                let (kind, of) = resource.split_once('/')?;
                let is_one = matches!(kind, "assumed-role" | "federated-user") && is_literal(of);
                is_one.then(|| Self::Session(text.into()))
            }
            _ => None,
        }
    }

    /// `root`, `user/…` or `role/…`.
    pub fn of_resource(account: &str, resource: &str) -> Option<Self> {
        let Some((kind, id)) = resource.split_once('/') else {
            return (resource == "root").then(|| Self::Account(account.into()));
        };
        let (kind, number) = match kind {
            "user" => (Kind::User, "uid:"),
            "role" => (Kind::Role, "gid:"),
            _ => return None,
        };
        let id = Some(id).filter(|id| is_literal(id)).and_then(|id| Id::parse(id, number))?;
        Some(Self::Of { kind, account: account.into(), id })
    }

    /// What has to be looked up to tell who it is: `user/NAME` or `role/NAME`; `None` where nothing has to.
    pub fn name_in(&self, account: &str) -> Option<String> {
        match self {
            Self::Of { account: of, id: Id::Name(_), .. } if of == account => Some(self.resource()),
            _ => None,
        }
    }

    fn resource(&self) -> String {
        match self {
            Self::Account(_) => "root".into(),
            Self::Of { kind: Kind::User, id: Id::Name(name), .. } => format!("user/{name}"),
            Self::Of { kind: Kind::User, id: Id::Number(uid), .. } => format!("user/uid:{uid}"),
            Self::Of { kind: Kind::Role, id: Id::Name(name), .. } => format!("role/{name}"),
            Self::Of { kind: Kind::Role, id: Id::Number(gid), .. } => format!("role/gid:{gid}"),
            Self::Session(arn) => arn.clone(),
        }
    }
}

/// Its ARN.
impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Account(account) | Self::Of { account, .. } => {
                write!(f, "arn:aws:iam::{account}:{}", self.resource())
            }
            Self::Session(arn) => f.write_str(arn),
        }
    }
}

fn is_account(text: &str) -> bool {
    text.len() == 12 && text.bytes().all(|byte| byte.is_ascii_digit())
}

fn is_literal(text: &str) -> bool {
    !text.is_empty() && !text.contains(['*', '?'])
}

/// The user database as policies need it. `None`: it has no such entry.
pub trait Names {
    /// The number of a user, if there is one of that name.
    fn uid(&self, name: &str) -> Known<Option<u32>>;
    /// The number of a group, if there is one of that name.
    fn gid(&self, name: &str) -> Known<Option<u32>>;
    /// The name of a user, if it has one.
    fn user_name(&self, uid: u32) -> Known<Option<String>>;
    /// The name of a group, if it has one.
    fn group_name(&self, gid: u32) -> Known<Option<String>>;
}

/// Groups, and why there may be more of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Groups {
    /// Numbers.
    pub gids: Vec<u32>,
    /// Why there may be more.
    pub missing: Option<Unknown>,
}

impl Groups {
    fn has(&self, gid: u32) -> Known<bool> {
        match &self.missing {
            _ if self.gids.contains(&gid) => Ok(true),
            Some(unknown) => Err(unknown.clone()),
            None => Ok(false),
        }
    }
}

/// Whoever asks.
pub struct Subject<'a> {
    /// The account that it is of.
    pub account: &'a str,
    /// Its number.
    pub uid: u32,
    /// It is the account's root, too.
    pub is_root: bool,
    /// Of the process: it may have given some up, in a user namespace for instance.
    pub groups: &'a Groups,
    /// Those and the user's own by the database.
    pub all_groups: &'a Groups,
    /// Who knows the names.
    pub names: &'a dyn Names,
}

impl<'a> Subject<'a> {
    /// The readings of who asks that a statement is tried on.
    pub(super) fn views(&'a self, ghosts: &'a RefCell<Option<String>>) -> impl Iterator<Item = View<'a>> {
        let view = move |groups| View { subject: self, groups, ghosts, are_ghosts_meant: false };
        let wider = (self.groups != self.all_groups).then_some(self.all_groups);
        std::iter::once(self.groups).chain(wider).map(view)
    }

    /// Whether a grant for that principal is for whoever asks, by the groups of the process.
    pub fn is(&self, principal: &Principal) -> Known<bool> {
        let ghosts = RefCell::default();
        View { subject: self, groups: self.groups, ghosts: &ghosts, are_ghosts_meant: false }.is(principal)
    }

    /// The same for a principal by its ARN: nobody is what is none.
    pub fn is_named(&self, principal: &str) -> Known<bool> {
        Principal::parse(principal).map_or(Ok(false), |principal| self.is(&principal))
    }
}

/// One reading of who asks: with which groups, and whether names that nobody has are taken for its own.
#[derive(Clone, Copy)]
pub(super) struct View<'a> {
    subject: &'a Subject<'a>,
    groups: &'a Groups,
    /// A name that the database does not know, if one was met.
    ghosts: &'a RefCell<Option<String>>,
    are_ghosts_meant: bool,
}

impl View<'_> {
    pub(crate) fn meaning_ghosts(self) -> Self {
        Self { are_ghosts_meant: true, ..self }
    }

    pub(crate) fn is_in_account(&self, principal: &Principal) -> bool {
        matches!(principal, Principal::Account(account) if account == self.subject.account)
    }

    pub(crate) fn is(&self, principal: &Principal) -> Known<bool> {
        let (kind, id) = match principal {
            Principal::Account(_) => return Ok(self.subject.is_root && self.is_in_account(principal)),
            Principal::Of { kind, account, id } if account == self.subject.account => (kind, id),
            Principal::Of { .. } | Principal::Session(_) => return Ok(false),
        };
        let number = match (kind, id) {
            (_, Id::Number(number)) => Some(*number),
            (Kind::User, Id::Name(name)) => self.subject.names.uid(name)?,
            (Kind::Role, Id::Name(name)) => self.subject.names.gid(name)?,
        };
        match (kind, number) {
            (Kind::User, Some(uid)) => Ok(uid == self.subject.uid),
            (Kind::Role, Some(gid)) => self.groups.has(gid),
            (_, None) => {
                *self.ghosts.borrow_mut() = principal.name_in(self.subject.account);
                Ok(self.are_ghosts_meant)
            }
        }
    }

    /// `aws:username`.
    pub(crate) fn user_name(&self) -> Known<String> {
        let uid = self.subject.uid;
        Ok(self.subject.names.user_name(uid)?.unwrap_or_else(|| format!("uid:{uid}")))
    }

    /// `aws:PrincipalArn`: whoever asks is each of these.
    pub(crate) fn arns(&self) -> Known<Vec<String>> {
        let mut resources = Vec::new();
        if self.subject.is_root {
            resources.push("root".to_owned());
        }
        resources.push(format!("user/{}", self.user_name()?));
        if let Some(unknown) = &self.groups.missing {
            return Err(unknown.clone());
        }
        for gid in &self.groups.gids {
            let name = self.subject.names.group_name(*gid)?.unwrap_or_else(|| format!("gid:{gid}"));
            resources.push(format!("role/{name}"));
        }
        Ok(resources.iter().map(|resource| self.arn(resource)).collect())
    }

    pub(crate) fn arn(&self, resource: &str) -> String {
        format!("arn:aws:iam::{}:{resource}", self.subject.account)
    }

    pub(crate) fn is_resource(&self, resource: &str) -> Known<bool> {
        Principal::of_resource(self.subject.account, resource).map_or(Ok(false), |principal| self.is(&principal))
    }
}

/// Whether all hold: one that does not settles it, whatever is unknown.
pub(super) fn all(answers: impl IntoIterator<Item = Known<bool>>) -> Known<bool> {
    any(answers.into_iter().map(|answer| answer.map(|holds| !holds))).map(|one_fails| !one_fails)
}

/// Whether one holds: that settles it, whatever is unknown.
pub fn any(answers: impl IntoIterator<Item = Known<bool>>) -> Known<bool> {
    let mut unknown = None;
    for answer in answers {
        match answer {
            Ok(true) => return Ok(true),
            Ok(false) => {}
            Err(why) => unknown = Some(why),
        }
    }
    unknown.map_or(Ok(false), Err)
}
