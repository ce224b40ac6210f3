//! Condition operators, as IAM's reference of policy elements has them.

use super::Principal;
use super::pattern::Pattern;
use super::principal::{Known, View};
use std::cmp::Ordering;
use time::OffsetDateTime;
use time::format_description::well_known::Iso8601;

/// One operator over one condition key.
#[derive(Debug)]
pub(crate) struct Condition {
    /// In small letters: names of condition keys have no case.
    key: String,
    quantity: Quantity,
    if_exists: bool,
    negated: bool,
    tests: Vec<Test>,
    /// Of a key that names whoever asks: the wanted `user/…` and `role/…` that are no patterns, and of which account.
    /// They are compared by number.
    resources: Vec<(String, String)>,
}

const USER_NAME: &str = "aws:username";
const PRINCIPAL_ARN: &str = "aws:principalarn";

/// How a key of several values is looked at.
#[derive(Debug, Clone, Copy)]
enum Quantity {
    Plain,
    ForAll,
    ForAny,
}

#[derive(Debug)]
enum Test {
    /// Whether the key is absent.
    Absent(bool),
    Equals(String),
    EqualsIgnoringCase(String),
    Like(Pattern),
    /// Six parts, each a pattern of its own.
    Arn([Pattern; 6]),
    Number(Order, f64),
    /// Nanoseconds since 1970.
    Date(Order, i128),
    Bool(bool),
}

#[derive(Debug, Clone, Copy)]
enum Order {
    Equal,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl Condition {
    /// `operator` is the whole name, as `ForAnyValue:StringLikeIfExists`. On an error: what is wrong with it.
    pub(crate) fn new(operator: &str, key: &str, wanted: &[String]) -> Result<Self, String> {
        let (quantity, rest) = match operator.split_once(':') {
            Some((set, rest)) if set.eq_ignore_ascii_case("ForAllValues") => (Quantity::ForAll, rest),
            Some((set, rest)) if set.eq_ignore_ascii_case("ForAnyValue") => (Quantity::ForAny, rest),
            _ => (Quantity::Plain, operator),
        };
        let rest = rest.to_ascii_lowercase();
        let (name, if_exists) = rest.strip_suffix("ifexists").map_or((&*rest, false), |name| (name, true));
        let invalid = || format!("Invalid Condition type : {operator}.");
        let (parse, negated) = comparison(name).ok_or_else(invalid)?;
        if name == "null" && (if_exists || !matches!(quantity, Quantity::Plain)) {
            return Err(invalid());
        }
        if key.is_empty() || wanted.is_empty() {
            return Err(format!("{operator} needs a condition key with at least one value."));
        }
        if let Some(value) = wanted.iter().find(|value| value.contains("${")) {
            return Err(format!("{operator} of {key}: policy variables, as in '{value}', are not provided."));
        }
        let test = |value: &String| {
            parse(value).ok_or_else(|| format!("{operator} of {key}: '{value}' is not a value that it compares with."))
        };
        let tests = wanted.iter().map(test).collect::<Result<_, _>>()?;
        let key = key.to_ascii_lowercase();
        let ignores_case = name.ends_with("ignorecase");
        let resources = wanted.iter().filter(|_| !ignores_case).filter_map(|value| resource(&key, value)).collect();
        Ok(Self { key, quantity, if_exists, negated, tests, resources })
    }

    /// Names of an account that are compared by number: `user/NAME` or `role/NAME`.
    pub(crate) fn names(&self, account: &str) -> impl Iterator<Item = String> {
        let mine = self.resources.iter().filter(move |(of, _)| Pattern::new(of).matches(account));
        mine.filter_map(move |(_, resource)| Principal::of_resource(account, resource)?.name_in(account))
    }

    /// Whether who asks, or when, makes a difference.
    pub(crate) fn is_personal(&self) -> bool {
        matches!(&*self.key, USER_NAME | PRINCIPAL_ARN | "aws:userid" | "aws:currenttime" | "aws:epochtime")
    }

    /// Of a key that is not personal.
    pub(crate) fn holds_of_all(&self, values: &dyn Fn(&str) -> Vec<String>) -> bool {
        self.holds_of(&values(&self.key))
    }

    /// `values` of a key that does not name whoever asks.
    pub(crate) fn holds(&self, values: &dyn Fn(&str) -> Vec<String>, view: &View<'_>) -> Known<bool> {
        let values = match &*self.key {
            USER_NAME => self.with_other_names(vec![view.user_name()?], view)?,
            PRINCIPAL_ARN => self.with_other_names(view.arns()?, view)?,
            key => values(key),
        };
        Ok(self.holds_of(&values))
    }

    /// A user may have several names: a wanted one that is its, by number, is a value too.
    fn with_other_names(&self, mut values: Vec<String>, view: &View<'_>) -> Known<Vec<String>> {
        for (_, resource) in &self.resources {
            if view.is_resource(resource)? {
                let name = resource.strip_prefix("user/").filter(|_| self.key == USER_NAME);
                values.push(name.map_or_else(|| view.arn(resource), str::to_owned));
            }
        }
        Ok(values)
    }

    fn holds_of(&self, values: &[String]) -> bool {
        if let [Test::Absent(_), ..] = self.tests[..] {
            return self.tests.iter().any(|test| matches!(test, Test::Absent(absent) if *absent == values.is_empty()));
        }
        if values.is_empty() {
            return self.if_exists
                || match self.quantity {
                    Quantity::Plain => self.negated,
                    Quantity::ForAll => true,
                    Quantity::ForAny => false,
                };
        }
        // A negated operator asks for none of the wanted values.
        let suits = |value: &String| self.tests.iter().any(|test| test.holds(value)) != self.negated;
        match self.quantity {
            Quantity::ForAll => values.iter().all(suits),
            Quantity::Plain if self.negated => values.iter().all(suits),
            Quantity::Plain | Quantity::ForAny => values.iter().any(suits),
        }
    }
}

/// Of which account (a pattern) a value of a key that names whoever asks is, and what it stands for, unless that is a
/// pattern.
fn resource(key: &str, value: &str) -> Option<(String, String)> {
    let (account, resource) = match key {
        USER_NAME => ("*", format!("user/{value}")),
        PRINCIPAL_ARN => {
            let mut parts = value.splitn(6, ':').skip(4);
            (parts.next()?, parts.next()?.to_owned())
        }
        _ => return None,
    };
    Principal::of_resource("", &resource).map(|_| (account.to_owned(), resource))
}

type Parse = fn(&str) -> Option<Test>;

/// The operator's name in small letters: how its values are read, and whether it is negated.
fn comparison(name: &str) -> Option<(Parse, bool)> {
    let equals: Parse = |text| Some(Test::Equals(text.into()));
    let equals_ignoring_case: Parse = |text| Some(Test::EqualsIgnoringCase(text.into()));
    let like: Parse = |text| Some(Test::Like(Pattern::new(text)));
    Some(match name {
        "null" => (|text| boolean(text).map(Test::Absent), false),
        "bool" => (|text| boolean(text).map(Test::Bool), false),
        "stringequals" => (equals, false),
        "stringnotequals" => (equals, true),
        "stringequalsignorecase" => (equals_ignoring_case, false),
        "stringnotequalsignorecase" => (equals_ignoring_case, true),
        "stringlike" => (like, false),
        "stringnotlike" => (like, true),
        "arnequals" | "arnlike" => (arn, false),
        "arnnotequals" | "arnnotlike" => (arn, true),
        "numericequals" => (|text| number(text, Order::Equal), false),
        "numericnotequals" => (|text| number(text, Order::Equal), true),
        "numericlessthan" => (|text| number(text, Order::Less), false),
        "numericlessthanequals" => (|text| number(text, Order::LessOrEqual), false),
        "numericgreaterthan" => (|text| number(text, Order::Greater), false),
        "numericgreaterthanequals" => (|text| number(text, Order::GreaterOrEqual), false),
        "dateequals" => (|text| date(text, Order::Equal), false),
        "datenotequals" => (|text| date(text, Order::Equal), true),
        "datelessthan" => (|text| date(text, Order::Less), false),
        "datelessthanequals" => (|text| date(text, Order::LessOrEqual), false),
        "dategreaterthan" => (|text| date(text, Order::Greater), false),
        "dategreaterthanequals" => (|text| date(text, Order::GreaterOrEqual), false),
        _ => return None,
    })
}

impl Test {
    fn holds(&self, value: &str) -> bool {
        match self {
            Self::Absent(_) => false,
            Self::Equals(wanted) => wanted == value,
            Self::EqualsIgnoringCase(wanted) => wanted.to_lowercase() == value.to_lowercase(),
            Self::Like(wanted) => wanted.matches(value),
            Self::Arn(wanted) => {
                let mut parts = value.splitn(6, ':');
                wanted.iter().all(|wanted| parts.next().is_some_and(|part| wanted.matches(part)))
            }
            Self::Number(order, wanted) => {
                finite(value).and_then(|value| value.partial_cmp(wanted)).is_some_and(|found| order.allows(found))
            }
            Self::Date(order, wanted) => instant(value).is_some_and(|value| order.allows(value.cmp(wanted))),
            Self::Bool(wanted) => boolean(value) == Some(*wanted),
        }
    }
}

impl Order {
    fn allows(self, found: Ordering) -> bool {
        match self {
            Self::Equal => found.is_eq(),
            Self::Less => found.is_lt(),
            Self::LessOrEqual => found.is_le(),
            Self::Greater => found.is_gt(),
            Self::GreaterOrEqual => found.is_ge(),
        }
    }
}

fn boolean(text: &str) -> Option<bool> {
    text.to_ascii_lowercase().parse().ok()
}

fn arn(text: &str) -> Option<Test> {
    let parts: Vec<_> = if text == "*" { vec!["*"; 6] } else { text.splitn(6, ':').collect() };
    let parts: Vec<_> = parts.into_iter().map(Pattern::new).collect();
    parts.try_into().ok().map(Test::Arn)
}

fn finite(text: &str) -> Option<f64> {
    text.parse().ok().filter(|number: &f64| number.is_finite())
}

fn number(text: &str, order: Order) -> Option<Test> {
    finite(text).map(|number| Test::Number(order, number))
}

/// ISO 8601, or seconds since 1970.
fn instant(text: &str) -> Option<i128> {
    if let Ok(seconds) = text.parse::<i64>() {
        return Some(i128::from(seconds) * 1_000_000_000);
    }
    let parsed = OffsetDateTime::parse(text, &Iso8601::DEFAULT)
        .or_else(|_| OffsetDateTime::parse(&format!("{text}T00:00:00Z"), &Iso8601::DEFAULT));
    parsed.ok().map(OffsetDateTime::unix_timestamp_nanos)
}

fn date(text: &str, order: Order) -> Option<Test> {
    instant(text).map(|instant| Test::Date(order, instant))
}
