//! Lists in aws' own pages: `--max-items` and `--starting-token`.

use super::{Ending, Usage, ask};
use crate::cli::aws_output::OutputArgs;
use kmsfs_kms::api::{PageRequest, Request, Service, TimeForm};
use serde_json::{Map, Value};

/// Entries that a call may be asked for.
const MOST: u64 = 1000;

/// As many entries as are wanted, from as many calls as that takes; `NextToken` where there are more.
pub fn list(service: &dyn Service, request: &mut Request, wanted: &OutputArgs) -> Result<Value, Ending> {
    let mut left = wanted.max_items.unwrap_or(u64::MAX);
    // Without a number a call answers all.
    let limit = |left: u64| wanted.max_items.map(|_| left.min(MOST));
    let mut marker = wanted.starting_token.clone();
    let mut all = Map::new();
    loop {
        let Some(page) = page_of(request) else {
            return Err(
                Usage("Unknown options: --max-items, --starting-token: this operation lists nothing".into()).into()
            );
        };
        *page = PageRequest { limit: limit(left), marker: marker.take() };
        let answer = ask(service, request)?.to_json(TimeForm::Text);
        let Some(Value::Object(mut answer)) = answer else { return Ok(Value::Object(all)) };
        answer.remove("Truncated");
        marker = answer.remove("NextMarker").and_then(|marker| marker.as_str().map(str::to_owned));
        for (name, value) in answer {
            let Value::Array(entries) = value else { continue };
            left = left.saturating_sub(entries.len() as u64);
            match all.entry(name).or_insert_with(|| Value::Array(Vec::new())) {
                Value::Array(all) => all.extend(entries),
                _ => unreachable!("it was made an array"),
            }
        }
        match marker {
            Some(marker) if left == 0 => {
                all.insert("NextToken".into(), marker.into());
                return Ok(Value::Object(all));
            }
            Some(_) => {}
            None => return Ok(Value::Object(all)),
        }
    }
}

fn page_of(request: &mut Request) -> Option<&mut PageRequest> {
    match request {
        Request::ListKeys { page }
        | Request::ListAliases { page, .. }
        | Request::ListResourceTags { page, .. }
        | Request::ListKeyRotations { page, .. }
        | Request::ListKeyPolicies { page, .. }
        | Request::ListGrants { page, .. }
        | Request::ListRetirableGrants { page, .. } => Some(page),
        _ => None,
    }
}
