//! `--output text`: scalars between tabs, a line for each object, which begins with the name of the list that it is in.

use super::{is_scalar, scalar};
use serde_json::{Map, Value};
use std::collections::BTreeSet;

pub fn of(value: &Value) -> String {
    let mut lines = String::new();
    any(value, None, None, &mut lines);
    lines
}

/// `columns`: the names of what is scalar in any object of the list that this one is in.
fn any(value: &Value, name: Option<&str>, columns: Option<&BTreeSet<&String>>, lines: &mut String) {
    match value {
        Value::Object(members) => object(members, name, columns, lines),
        Value::Array(list) => array(list, name, lines),
        value => line(&[scalar(value)], lines),
    }
}

fn array(list: &[Value], name: Option<&str>, lines: &mut String) {
    if list.iter().any(Value::is_object) {
        let members = list.iter().filter_map(Value::as_object).flatten();
        let columns = members.filter(|(_, value)| is_scalar(value)).map(|(name, _)| name).collect();
        for element in list {
            any(element, name, Some(&columns), lines);
        }
    } else if list.iter().any(Value::is_array) {
        let (lists, scalars): (Vec<_>, Vec<_>) = list.iter().partition(|element| element.is_array());
        if !scalars.is_empty() {
            scalar_list(scalars.into_iter(), name, lines);
        }
        for list in lists {
            any(list, name, None, lines);
        }
    } else if !list.is_empty() {
        scalar_list(list.iter(), name, lines);
    }
}

fn scalar_list<'a>(list: impl Iterator<Item = &'a Value>, name: Option<&str>, lines: &mut String) {
    match name {
        Some(name) => list.for_each(|element| line(&[name.to_uppercase(), scalar(element)], lines)),
        None => line(&list.map(scalar).collect::<Vec<_>>(), lines),
    }
}

fn object(members: &Map<String, Value>, name: Option<&str>, columns: Option<&BTreeSet<&String>>, lines: &mut String) {
    let own: BTreeSet<&String>;
    let columns = if let Some(columns) = columns {
        columns
    } else {
        own = members.iter().filter(|(_, value)| is_scalar(value)).map(|(name, _)| name).collect();
        &own
    };
    let mut cells: Vec<String> =
        columns.iter().map(|column| members.get(*column).map(scalar).unwrap_or_default()).collect();
    if !cells.is_empty() {
        if let Some(name) = name {
            cells.insert(0, name.to_uppercase());
        }
        line(&cells, lines);
    }
    let rest: BTreeSet<&String> = members.keys().filter(|name| !columns.contains(name)).collect();
    for name in rest {
        any(&members[name], Some(name), None, lines);
    }
}

fn line(cells: &[String], lines: &mut String) {
    lines.push_str(&cells.join("\t"));
    lines.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn lists_of_objects_have_a_line_each_with_the_columns_of_all() {
        let answer = json!({"Keys": [{"KeyId": "a", "KeyArn": "x"}, {"KeyId": "b"}], "Truncated": false});
        assert_eq!(of(&answer), "False\nKEYS\tx\ta\nKEYS\t\tb\n");
        assert_eq!(of(&json!({"PolicyNames": ["default", "other"]})), "POLICYNAMES\tdefault\nPOLICYNAMES\tother\n");
        assert_eq!(of(&json!([["a", 1], ["b", null]])), "a\t1\nb\tNone\n");
        assert_eq!(of(&json!([])), "");
        let deep =
            json!({"KeyMetadata": {"Enabled": true, "EncryptionAlgorithms": ["SYMMETRIC_DEFAULT"], "KeyId": "a"}});
        assert_eq!(of(&deep), "KEYMETADATA\tTrue\ta\nENCRYPTIONALGORITHMS\tSYMMETRIC_DEFAULT\n");
    }
}
