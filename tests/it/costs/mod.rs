//! What an operation costs, in requests of the kernel and in calls to the file system below. docs/PERFORMANCE.md has
//! the numbers; a test fails when they are not these.

mod calls;
mod requests;
mod s3;

use std::collections::HashMap;
use std::fs;
use std::path::Path;

/// The cost that the document states for each operation, in the column that the table under this heading has.
fn stated(heading: &str, column: usize) -> HashMap<String, u64> {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/PERFORMANCE.md")).unwrap();
    let section = text.split(&format!("## {heading}\n")).nth(1).unwrap_or_else(|| panic!("no section {heading}"));
    let table = section.lines().skip_while(|line| !line.starts_with("| ---")).skip(1);
    let rows = table.take_while(|line| line.starts_with('|'));
    let row = |line: &str| {
        let cells: Vec<_> = line.split('|').map(str::trim).collect();
        let number = || cells[1 + column].parse().unwrap_or_else(|_| panic!("no number: {line}"));
        (cells[1 + column] != "-").then(|| (cells[1].to_owned(), number()))
    };
    rows.filter_map(row).collect()
}

/// What was measured is what the document says, for every row of it.
#[track_caller]
fn compare(stated: &HashMap<String, u64>, measured: &[(&str, u64, String)]) {
    let mut wrong = Vec::new();
    for (operation, cost, how) in measured {
        match stated.get(*operation) {
            Some(known) if known == cost => {}
            known => wrong.push(format!("{operation}: {cost} ({how}), the document says {known:?}")),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let measured: Vec<_> = measured.iter().map(|(operation, ..)| *operation).collect();
    let unmeasured: Vec<_> = stated.keys().filter(|operation| !measured.contains(&operation.as_str())).collect();
    assert!(unmeasured.is_empty(), "nobody measures {unmeasured:?}");
}
