//! Slots as text and as JSON.

use crate::cli::text::escape;
use kmsfs_kms_local::SlotInfo;
use serde_json::{Value, json};
use std::fmt::Write as _;
use time::OffsetDateTime;
use time::macros::format_description;

/// A line a slot under a heading.
pub fn table(slots: &[SlotInfo]) -> String {
    let mut rows = vec![["SLOT", "KIND", "CREATED", "COST", "NAME"].map(str::to_owned)];
    rows.extend(slots.iter().map(|slot| {
        let or_none = |text: Option<String>| text.unwrap_or_else(|| "-".into());
        let name = slot.name.as_deref().map(escape);
        [slot.number.to_string(), escape(&slot.kind), or_none(created(slot)), or_none(cost(slot)), or_none(name)]
    }));
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths = [0, 1, 2, 3].map(width);
    let mut text = String::new();
    for [number, kind, created, cost, name] in &rows {
        let [w0, w1, w2, w3] = widths;
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{number:w0$}  {kind:w1$}  {created:w2$}  {cost:w3$}  {name}");
    }
    text
}

pub fn json(slots: &[SlotInfo]) -> Value {
    let slot = |slot: &SlotInfo| {
        let mut object = json!({"Number": slot.number, "Kind": slot.kind});
        if let Some(name) = &slot.name {
            object["Name"] = json!(name);
        }
        if let Some(created) = created(slot) {
            object["CreationDate"] = json!(created);
        }
        if let Some(cost) = slot.cost {
            object["Argon2id"] = json!({"MemoryKiB": cost.memory_kib, "Passes": cost.passes, "Lanes": cost.lanes});
        }
        object
    };
    json!({"Slots": slots.iter().map(slot).collect::<Vec<_>>()})
}

/// Kind, and what unlocking with it costs.
pub fn describe(slot: &SlotInfo) -> String {
    match cost(slot) {
        Some(cost) => format!("{}, Argon2id with {cost}: unlocking needs that much memory", slot.kind),
        None => slot.kind.clone(),
    }
}

fn cost(slot: &SlotInfo) -> Option<String> {
    slot.cost.map(|cost| match cost.memory_kib % 1024 {
        0 => format!("{} MiB, {} passes", cost.memory_kib / 1024, cost.passes),
        _ => format!("{} KiB, {} passes", cost.memory_kib, cost.passes),
    })
}

fn created(slot: &SlotInfo) -> Option<String> {
    let format = format_description!("[year]-[month]-[day]T[hour]:[minute]:[second]Z");
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(slot.created?)).ok()?.format(format).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::text::pretty;
    use kmsfs_crypto::passphrase::Cost;

    fn slots() -> Vec<SlotInfo> {
        let cost = Cost { memory_kib: 256 << 10, passes: 4, lanes: 1 };
        let slot = |number, kind: &str| SlotInfo { number, kind: kind.into(), name: None, created: None, cost: None };
        vec![
            SlotInfo { created: Some(1_700_000_000_000_000_000), cost: Some(cost), ..slot(0, "passphrase") },
            SlotInfo { name: Some("a\x1b[31m name".into()), ..slot(12, "key-file") },
        ]
    }

    #[test]
    fn the_table_lines_up_and_drives_no_terminal() {
        let expected = "\
SLOT  KIND        CREATED               COST               NAME
0     passphrase  2023-11-14T22:13:20Z  256 MiB, 4 passes  -
12    key-file    -                     -                  a\\x1b[31m name
";
        assert_eq!(table(&slots()), expected);
    }

    #[test]
    fn json_has_what_is_known_of_each() {
        let text = pretty(&json(&slots()[..1]));
        let expected = r#"{"Slots": [{"Number": 0, "Kind": "passphrase", "CreationDate": "2023-11-14T22:13:20Z",
            "Argon2id": {"MemoryKiB": 262144, "Passes": 4, "Lanes": 1}}]}"#;
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), serde_json::from_str::<Value>(expected).unwrap());
        assert_eq!(json(&slots()[1..])["Slots"][0]["Name"], "a\u{1b}[31m name");
    }
}
