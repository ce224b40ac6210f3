//! Key policies: AWS's JSON read into statements, and what they say to a request. No I/O, no clock, no user database.

mod condition;
mod defaults;
mod document;
mod pattern;
#[cfg(test)]
mod vectors;

pub use defaults::{aws_s3_policy, default_policy};
pub use document::principal;

use condition::Condition;
use pattern::Pattern;

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
}

#[derive(Debug)]
enum Principals {
    Everyone,
    /// ARNs; an account stands for its root. Of other kinds (`Service`) there are none here, so they are left out.
    These(Vec<String>),
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
    /// ARNs of whoever asks: a Linux user is itself and each of its groups.
    pub principals: &'a [String],
    /// The values of a condition key, whose name is in small letters; none if the request does not have it.
    pub values: &'a dyn Fn(&str) -> Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    Allowed,
    /// No statement allows it.
    NotAllowed,
    /// A statement denies it, whatever others allow.
    Denied,
}

impl Policy {
    /// Explicit deny wins, and what nothing allows is refused.
    pub fn decide(&self, request: &Request<'_>) -> Decision {
        let mut decision = Decision::NotAllowed;
        for statement in self.statements.iter().filter(|statement| statement.matches(request)) {
            match statement.effect {
                Effect::Deny => return Decision::Denied,
                Effect::Allow => decision = Decision::Allowed,
            }
        }
        decision
    }
}

impl Statement {
    fn matches(&self, request: &Request<'_>) -> bool {
        self.actions.has(|pattern| pattern.matches_ignoring_case(request.action))
            && self.who.matches(request.principals)
            && self.resources.has(|pattern| pattern.matches(request.resource))
            && self.conditions.iter().all(|condition| condition.holds(request.values))
    }
}

impl Who {
    /// `NotPrincipal` is everybody but the listed: who is listed as a user or by any group is not meant.
    fn matches(&self, principals: &[String]) -> bool {
        let listed = match &self.listed {
            Principals::Everyone => true,
            Principals::These(arns) => principals.iter().any(|principal| arns.contains(principal)),
        };
        listed != self.negated
    }
}

impl Listed {
    fn has(&self, matches: impl Fn(&Pattern) -> bool) -> bool {
        self.patterns.iter().any(matches) != self.negated
    }
}
