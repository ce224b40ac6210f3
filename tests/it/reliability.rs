//! docs/RELIABILITY.md: the tests that it names are there.

use crate::harness::files_below;
use std::fs;
use std::path::Path;

#[test]
fn every_promise_names_tests_that_are_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let document = fs::read_to_string(root.join("docs/RELIABILITY.md")).unwrap();
    let lines = || document.split("## Figures").next().unwrap().lines();
    let rows = lines().filter(|line| line.starts_with("| ")).skip(2);
    // What is a list and no promise may name some.
    let items = lines().filter(|line| line.starts_with("- "));
    let tests = [files_below(&root.join("tests/it")), files_below(&root.join("crates"))].concat();
    let mut named = 0;
    for row in rows.chain(items) {
        let names: Vec<_> = row.split('`').filter(|word| word.contains("::")).collect();
        assert!(!names.is_empty() || row.starts_with("- "), "no test for: {row}");
        for name in names {
            let (modules, function) = name.rsplit_once("::").unwrap();
            let path = modules.replace("::", "/");
            // A unit test's name begins with its package.
            let (package, inside) = path.split_once('/').unwrap_or((&path, ""));
            let package = package.replace('_', "-");
            let places = [
                format!("tests/it/{path}.rs"),
                format!("tests/it/{path}/mod.rs"),
                format!("crates/{package}/src/{inside}.rs"),
            ];
            let places = places.map(|place| root.join(place));
            let file =
                tests.iter().find(|file| places.contains(file)).unwrap_or_else(|| panic!("{name}: no such file"));
            let text = fs::read_to_string(file).unwrap();
            assert!(text.contains(&format!("fn {function}() {{")), "{name} is not there");
            named += 1;
        }
    }
    assert!(named >= 15, "{named}");
}
