//! `--output table`: a frame around each object or list, those within others further in.

use super::{is_scalar, scalar};
use serde_json::{Map, Value};
use std::collections::BTreeSet;

/// What a terminal has if it does not say.
const WIDTH: usize = 80;
/// Around each cell, with its right edge.
const PADDING: usize = 4;

pub fn of(operation: &str, value: &Value) -> String {
    let width = rustix::termios::tcgetwinsize(std::io::stdout()).map_or(WIDTH, |size| usize::from(size.ws_col));
    within(if width == 0 { WIDTH } else { width }, operation, value)
}

fn within(terminal: usize, operation: &str, value: &Value) -> String {
    let mut sections = Vec::new();
    any(Some(operation), value, 0, &mut sections);
    let widest = |sections: &[Section]| sections.iter().map(Section::total_width).max().unwrap_or(0);
    if widest(&sections) > terminal {
        // Of one row the columns become rows.
        sections.iter_mut().for_each(Section::turn);
    }
    let width = widest(&sections);
    if width == 0 {
        return String::new();
    }
    let mut lines = format!("{}\n", "-".repeat(width));
    for section in &sections {
        section.render(width, &mut lines);
    }
    lines
}

#[derive(Default)]
struct Section {
    title: String,
    indent: usize,
    headers: Vec<String>,
    rows: Vec<Vec<String>>,
}

fn any(title: Option<&str>, value: &Value, indent: usize, sections: &mut Vec<Section>) {
    let empty = match value {
        Value::Array(list) => list.is_empty(),
        Value::Object(members) => members.is_empty(),
        Value::String(text) => text.is_empty(),
        Value::Null => true,
        _ => false,
    };
    if empty {
        return;
    }
    if let Some(title) = title {
        sections.push(Section { title: title.to_owned(), indent, ..Section::default() });
    }
    match value {
        Value::Object(members) => object(members, indent, sections),
        Value::Array(list) if list[0].is_object() => objects(list, title, indent, sections),
        Value::Array(list) => list.iter().for_each(|element| match element {
            Value::Array(cells) if cells.iter().all(is_scalar) => row(sections, cells.iter().map(scalar).collect()),
            element if is_scalar(element) => row(sections, vec![scalar(element)]),
            element => any(None, element, 0, sections),
        }),
        value => row(sections, vec![scalar(value)]),
    }
}

fn row(sections: &mut [Section], cells: Vec<String>) {
    if let Some(section) = sections.last_mut() {
        section.rows.push(cells);
    }
}

/// Names of what is scalar in any of them, and of the rest.
fn names<'a>(all: impl Iterator<Item = &'a Map<String, Value>>) -> (BTreeSet<&'a String>, BTreeSet<&'a String>) {
    let (mut scalars, mut rest) = (BTreeSet::new(), BTreeSet::new());
    for (name, value) in all.flatten() {
        if is_scalar(value) { &mut scalars } else { &mut rest }.insert(name);
    }
    (scalars, rest)
}

fn object(members: &Map<String, Value>, indent: usize, sections: &mut Vec<Section>) {
    let (scalars, rest) = names(std::iter::once(members));
    let names: Vec<String> = scalars.iter().map(|name| (*name).clone()).collect();
    let cells: Vec<String> = scalars.iter().map(|name| scalar(&members[*name])).collect();
    match (&names[..], sections.last_mut()) {
        ([name], Some(section)) => section.rows.push(vec![name.clone(), cells.concat()]),
        ([_, _, ..], Some(section)) => {
            section.headers = names;
            section.rows.push(cells);
        }
        _ => {}
    }
    for name in rest {
        any(Some(name), &members[name], indent + 1, sections);
    }
}

fn objects(list: &[Value], title: Option<&str>, indent: usize, sections: &mut Vec<Section>) {
    let (scalars, rest) = names(list.iter().filter_map(Value::as_object));
    let headers: Vec<String> = scalars.iter().map(|name| (*name).clone()).collect();
    for (number, element) in list.iter().filter_map(Value::as_object).enumerate() {
        if number > 0 && !rest.is_empty() {
            sections.push(Section { title: title.unwrap_or_default().to_owned(), indent, ..Section::default() });
        }
        if let Some(section) = sections.last_mut() {
            section.headers.clone_from(&headers);
            section.rows.push(scalars.iter().map(|name| element.get(*name).map(scalar).unwrap_or_default()).collect());
        }
        for name in rest.iter().filter(|name| element.contains_key(**name)) {
            any(Some(name), &element[*name], indent + 1, sections);
        }
    }
}

fn length(text: &str) -> usize {
    text.chars().count()
}

impl Section {
    fn turn(&mut self) {
        if self.rows.len() == 1 && !self.headers.is_empty() {
            let cells = self.rows.remove(0);
            let headers = std::mem::take(&mut self.headers);
            self.rows = headers.into_iter().zip(cells).map(|(name, cell)| vec![name, cell]).collect();
        }
    }

    fn columns(&self) -> Vec<usize> {
        let count = self.rows.iter().map(Vec::len).chain([self.headers.len()]).max().unwrap_or(0);
        let widest = |column: usize| {
            let cells = self.rows.iter().chain([&self.headers]).filter_map(|row| row.get(column));
            cells.map(|cell| length(cell)).max().unwrap_or(0) + PADDING
        };
        (0..count).map(widest).collect()
    }

    fn total_width(&self) -> usize {
        let columns: usize = self.columns().iter().sum();
        (length(&self.title) + 2 + 2 * self.indent).max(columns + 2 + 2 * self.indent)
    }

    /// Columns that fill the width together.
    fn scaled(&self, width: usize) -> Vec<usize> {
        let mut columns = self.columns();
        let sum: usize = columns.iter().sum();
        if sum == 0 {
            return columns;
        }
        for column in &mut columns {
            // Rounded to even, as Python does.
            let (whole, rest) = (*column * width / sum, *column * width % sum);
            let up = 2 * rest > sum || (2 * rest == sum && whole % 2 == 1);
            *column = whole + usize::from(up);
        }
        let mut now: usize = columns.iter().sum();
        while now > width {
            for column in &mut columns {
                if now > width {
                    *column -= 1;
                    now -= 1;
                }
            }
        }
        while now < width {
            for column in columns.iter_mut().rev() {
                if now < width {
                    *column += 1;
                    now += 1;
                }
            }
        }
        columns
    }

    fn render(&self, width: usize, lines: &mut String) {
        let width = width - 2 * self.indent;
        let edge = "|".repeat(self.indent);
        let mut write = |line: &str| lines.push_str(&format_line(&edge, line));
        if !self.title.is_empty() {
            write(&centred(&self.title, width, "|"));
            if self.headers.is_empty() && self.rows.is_empty() {
                write(&format!("+{}+", "-".repeat(width - 2)));
            }
        }
        let columns = self.scaled(width);
        let border = |columns: &[usize]| {
            let mut line = String::new();
            for (number, column) in columns.iter().enumerate() {
                line.push_str(if number == 0 { "+" } else { "" });
                line.push_str(&"-".repeat(column - if number == 0 { 2 } else { 1 }));
                line.push('+');
            }
            line
        };
        if !self.headers.is_empty() {
            write(&border(&columns));
            write(&cells(&columns, &self.headers, centred));
        }
        if !self.rows.is_empty() && !columns.is_empty() {
            write(&border(&columns));
            for row in &self.rows {
                write(&cells(&columns, row, left));
            }
            write(&border(&columns));
        }
    }
}

fn format_line(edge: &str, line: &str) -> String {
    format!("{edge}{line}{edge}\n")
}

fn cells(columns: &[usize], row: &[String], place: fn(&str, usize, &str) -> String) -> String {
    let cells = columns.iter().zip(row).enumerate();
    cells.map(|(number, (width, cell))| place(cell, *width, if number == 0 { "|" } else { "" })).collect()
}

fn centred(text: &str, width: usize, edge: &str) -> String {
    let before = (width / 2).saturating_sub(length(text) / 2 + 1);
    let line = format!("{edge}{}{text}", " ".repeat(before));
    let after = width.saturating_sub(1 + length(&line));
    format!("{line}{}|", " ".repeat(after))
}

fn left(text: &str, width: usize, edge: &str) -> String {
    let padding = if width > length(text) + 2 + length(edge) { 2 } else { 0 };
    let line = format!("{edge}{}{text}", " ".repeat(padding));
    let after = width.saturating_sub(1 + length(&line));
    format!("{line}{}|", " ".repeat(after))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_list_is_a_table_within_the_operation_s() {
        let keys = json!({"Keys": [{"KeyArn": "arn:x", "KeyId": "x"}, {"KeyArn": "arn:y", "KeyId": "y"}]});
        let expected = "\
-----------------------
|      ListKeys       |
+---------------------+
||       Keys        ||
|+---------+---------+|
|| KeyArn  |  KeyId  ||
|+---------+---------+|
||  arn:x  |  x      ||
||  arn:y  |  y      ||
|+---------+---------+|
";
        assert_eq!(within(80, "ListKeys", &keys), expected);
        assert_eq!(within(80, "ListKeys", &json!({})), "");
    }
}
