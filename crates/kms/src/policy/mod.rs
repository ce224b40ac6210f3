//! Key policies: AWS's JSON read into statements, and what they say to a request. No I/O, no clock, no user database.

mod condition;
mod defaults;
mod document;
mod pattern;
mod principal;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod vectors;
#[cfg(test)]
mod vectors_of_principals;

pub use defaults::{aws_s3_policy, default_policy};
pub use principal::{Groups, Id, Kind, Known, Names, Principal, Subject, Unknown, any};

use condition::Condition;
use pattern::Pattern;
use principal::{View, all};
use std::cell::RefCell;

/// A key policy that was read whole.
#[derive(Debug)]
pub struct Policy {
    statements: Vec<Statement>,
}

#[derive(Debug)]
struct Statement {
    effect: Effect,
    who: Who,
    actions: Listed,
    resources: Listed,
    conditions: Vec<Condition>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Effect {
    Allow,
    Deny,
}

/// `Principal` or `NotPrincipal`.
#[derive(Debug)]
struct Who {
    listed: Principals,
    negated: bool,
    /// An account that is listed stands for all who are in it. (An Allow for it leaves the rest to identity policies,
    /// of which there are none here.)
    is_account_everyone: bool,
}

#[derive(Debug)]
enum Principals {
    Everyone,
    /// Of other kinds (`Service`) there are none here, so they are left out.
    These(Vec<Principal>),
}

/// `Action` or `NotAction`, `Resource` or `NotResource`.
#[derive(Debug)]
struct Listed {
    patterns: Vec<Pattern>,
    negated: bool,
}

/// What is asked for, and by whom.
pub struct Request<'a> {
    /// With its prefix, as `kms:Decrypt`.
    pub action: &'a str,
    /// The key's ARN.
    pub resource: &'a str,
    /// Who asks.
    pub subject: &'a Subject<'a>,
    /// The values of a condition key, whose name is in small letters, but for those that name the subject; none if the
    /// request does not have it.
    pub values: &'a dyn Fn(&str) -> Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
/// What a policy says to a request.
pub enum Decision {
    /// A statement allows it, and none denies it.
    Allowed,
    /// No statement allows it.
    NotAllowed,
    /// A statement denies it, whatever others allow.
    Denied,
}

/// What those statements say of which it is known whether they match.
#[derive(Debug, PartialEq, Eq)]
pub struct Judgement {
    /// By those statements.
    pub decision: Decision,
    /// What could make it another.
    pub unknown: Option<Unknown>,
}

impl Policy {
    /// Explicit deny wins, and what nothing allows is refused.
    pub fn judge(&self, request: &Request<'_>) -> Judgement {
        let (mut decision, mut of_deny, mut of_allow) = (Decision::NotAllowed, None, None);
        for statement in self.statements.iter().filter(|statement| statement.concerns(request.action, request.resource))
        {
            match (statement.effect, statement.matches(request)) {
                (Effect::Deny, Ok(true)) => return Judgement { decision: Decision::Denied, unknown: None },
                (Effect::Allow, Ok(true)) => decision = Decision::Allowed,
                (_, Ok(false)) => {}
                (Effect::Deny, Err(unknown)) => of_deny = Some(unknown),
                (Effect::Allow, Err(unknown)) => of_allow = Some(unknown),
            }
        }
        let of_allow = of_allow.filter(|_| decision == Decision::NotAllowed);
        Judgement { decision, unknown: of_deny.or(of_allow) }
    }

    /// Whether this is allowed whoever asks, and whenever: a statement does so, and none denies it to some.
    pub fn is_for_everybody(&self, action: &str, resource: &str, values: &dyn Fn(&str) -> Vec<String>) -> bool {
        let all: Vec<_> = self.statements.iter().filter(|statement| statement.concerns(action, resource)).collect();
        let allows = |statement: &&Statement| statement.effect == Effect::Allow;
        let holds = |statement: &Statement| statement.conditions.iter().all(|condition| condition.holds_of_all(values));
        all.iter().all(allows) && all.iter().any(|statement| statement.is_impersonal() && holds(statement))
    }

    /// Whom of an account statements deny something, or exempt from that, by name: `user/NAME` or `role/NAME`.
    pub fn denied_names(&self, account: &str) -> impl Iterator<Item = String> {
        let denies = self.statements.iter().filter(|statement| statement.effect == Effect::Deny);
        denies.flat_map(move |statement| statement.names(account))
    }
}

impl Statement {
    fn concerns(&self, action: &str, resource: &str) -> bool {
        self.actions.has(|pattern| pattern.matches_ignoring_case(action))
            && self.resources.has(|pattern| pattern.matches(resource))
    }

    /// Whoever asks, and whenever.
    fn is_impersonal(&self) -> bool {
        let is_everyone = matches!(self.who, Who { listed: Principals::Everyone, negated: false, .. });
        is_everyone && !self.conditions.iter().any(Condition::is_personal)
    }

    /// An Allow has to match by every reading of who asks, a Deny by any. A Deny that matches only if a name that
    /// nobody has is the name of whoever asks is neither: a database that is away may answer so.
    fn matches(&self, request: &Request<'_>) -> Known<bool> {
        let ghosts = RefCell::default();
        let views: Vec<_> = request.subject.views(&ghosts).collect();
        let plain = || views.iter().map(|view| self.matches_in(request, view));
        let meaning_ghosts = || {
            let views = if ghosts.borrow().is_some() { &views[..] } else { &[] };
            views.iter().map(|view| self.matches_in(request, &view.meaning_ghosts()))
        };
        if self.effect == Effect::Allow {
            return all([all(plain()), all(meaning_ghosts())]);
        }
        let known = any(plain())?;
        if known || !any(meaning_ghosts())? {
            return Ok(known);
        }
        let name = ghosts.borrow().clone().unwrap_or_default();
        Err(Unknown(format!(
            "a statement of the policy denies, and the user database does not know whom it names: {name}; have the \
             database know it, or put a policy without it"
        )))
    }

    fn matches_in(&self, request: &Request<'_>, view: &View<'_>) -> Known<bool> {
        let conditions = self.conditions.iter().map(|condition| condition.holds(request.values, view));
        all(std::iter::once(self.who.matches(view)).chain(conditions))
    }

    fn names(&self, account: &str) -> impl Iterator<Item = String> {
        let listed = match &self.who.listed {
            Principals::Everyone => &[],
            Principals::These(principals) => &principals[..],
        };
        let of_conditions = self.conditions.iter().flat_map(move |condition| condition.names(account));
        listed.iter().filter_map(move |principal| principal.name_in(account)).chain(of_conditions)
    }
}

impl Who {
    /// `NotPrincipal` is everybody but the listed: who is listed as a user or by any group is not meant.
    fn matches(&self, view: &View<'_>) -> Known<bool> {
        let is = |listed: &Principal| {
            let is_everyone = self.is_account_everyone && view.is_in_account(listed);
            if is_everyone { Ok(true) } else { view.is(listed) }
        };
        let listed = match &self.listed {
            Principals::Everyone => Ok(true),
            Principals::These(principals) => any(principals.iter().map(is)),
        };
        listed.map(|listed| listed != self.negated)
    }
}

impl Listed {
    fn has(&self, matches: impl Fn(&Pattern) -> bool) -> bool {
        self.patterns.iter().any(matches) != self.negated
    }
}
