//! The answer to `kmsfs status` in the text format of Prometheus.

use rustix::fs::StatVfs;
use serde_json::{Map, Value};
use std::fmt::Write as _;

/// Counters and gauges; `space` is of the mount's file system.
pub fn text(status: &Map<String, Value>, space: Option<&StatVfs>) -> String {
    let mut text = Text(String::new());
    let member = |name: &str| status.get(name).unwrap_or(&Value::Null);
    text.one("kmsfs_uptime_seconds", "gauge", "Since it was mounted.", member("UptimeSeconds"));
    text.one("kmsfs_read_only", "gauge", "1 if nothing can be changed.", member("ReadOnly"));
    text.one("kmsfs_read_bytes_total", "counter", "Read by programs.", member("BytesRead"));
    text.one("kmsfs_written_bytes_total", "counter", "Written by programs.", member("BytesWritten"));
    text.one("kmsfs_copied_bytes_total", "counter", "Copied within the mount.", member("BytesCopied"));
    text.one("kmsfs_open_handles", "gauge", "Files that programs have open.", member("OpenHandles"));
    text.one("kmsfs_open_objects", "gauge", "Objects of these.", member("OpenObjects"));
    text.of(
        "kmsfs_operations_total",
        "counter",
        "Requests of the kernel.",
        "operation",
        &calls(member("Operations"), "Calls"),
    );
    text.of("kmsfs_errors_total", "counter", "Of these, refused.", "operation", &calls(member("Operations"), "Errors"));
    text.of("kmsfs_cached", "gauge", "What is kept in memory, by kind.", "kind", &members(member("Caches")));
    text.of("kmsfs_kms_calls_total", "counter", "Calls of the KMS.", "call", &members(member("KmsCalls")));
    let log = member("RedoLog");
    text.one("kmsfs_redo_log_bytes", "gauge", "Of the redo log in use.", &log["Bytes"]);
    text.one("kmsfs_redo_log_syncs_total", "counter", "Syncs of the redo log.", &log["Syncs"]);
    text.one("kmsfs_checkpoints_total", "counter", "Times that the redo log was written home.", &log["Checkpoints"]);
    text.durations(member("Operations"));
    if let Some(space) = space {
        let bytes = |blocks: u64| Value::from(blocks.saturating_mul(space.f_frsize));
        text.one("kmsfs_size_bytes", "gauge", "Of the file system.", &bytes(space.f_blocks));
        text.one("kmsfs_available_bytes", "gauge", "Of these, free.", &bytes(space.f_bavail));
        text.one("kmsfs_available_files", "gauge", "Files that can be made.", &space.f_favail.into());
    }
    text.0
}

struct Text(String);

impl Text {
    fn head(&mut self, name: &str, kind: &str, help: &str) {
        let _ = write!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
    }

    /// Nothing where there is no number.
    fn one(&mut self, name: &str, kind: &str, help: &str, value: &Value) {
        if let Some(number) = number(value) {
            self.head(name, kind, help);
            let _ = writeln!(self.0, "{name} {number}");
        }
    }

    fn of(&mut self, name: &str, kind: &str, help: &str, label: &str, values: &[(String, Value)]) {
        self.head(name, kind, help);
        for (of, value) in values {
            if let Some(number) = number(value) {
                let _ = writeln!(self.0, "{name}{{{label}=\"{of}\"}} {number}");
            }
        }
    }

    /// How long requests took: a histogram for each operation.
    fn durations(&mut self, operations: &Value) {
        let name = "kmsfs_operation_duration_seconds";
        self.head(name, "histogram", "How long requests took whoever did them.");
        for (operation, of) in operations.as_object().into_iter().flatten() {
            let operation = snake(operation);
            let mut count = 0;
            for pair in of["Durations"]["Buckets"].as_array().into_iter().flatten() {
                count += pair[1].as_u64().unwrap_or(0);
                let bound = pair[0].as_f64().map_or("+Inf".to_owned(), |bound| bound.to_string());
                let _ = writeln!(self.0, "{name}_bucket{{operation=\"{operation}\",le=\"{bound}\"}} {count}");
            }
            if let Some(sum) = of["Durations"]["Seconds"].as_f64() {
                let _ = writeln!(self.0, "{name}_sum{{operation=\"{operation}\"}} {sum}");
                let _ = writeln!(self.0, "{name}_count{{operation=\"{operation}\"}} {count}");
            }
        }
    }
}

fn number(value: &Value) -> Option<String> {
    match value {
        Value::Bool(is) => Some(u8::from(*is).to_string()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

fn members(value: &Value) -> Vec<(String, Value)> {
    value.as_object().into_iter().flatten().map(|(name, value)| (snake(name), value.clone())).collect()
}

fn calls(operations: &Value, which: &str) -> Vec<(String, Value)> {
    operations.as_object().into_iter().flatten().map(|(name, of)| (snake(name), of[which].clone())).collect()
}

/// `ReadDirPlus` is `read_dir_plus`.
fn snake(name: &str) -> String {
    let mut snake = String::new();
    for c in name.chars() {
        if c.is_ascii_uppercase() && !snake.is_empty() {
            snake.push('_');
        }
        snake.push(c.to_ascii_lowercase());
    }
    snake
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn each_number_has_its_type_and_its_help() {
        let status = json!({"UptimeSeconds": 5, "ReadOnly": false, "KmsCalls": {"GenerateDataKey": 2},
            "Operations": {"ReadDir": {"Calls": 3, "Errors": 1,
                "Durations": {"Seconds": 0.5, "Buckets": [[0.001, 2], [0.004, 0], [null, 1]]}}}});
        let text = text(status.as_object().unwrap(), None);
        let expected = [
            "# HELP kmsfs_uptime_seconds Since it was mounted.\n# TYPE kmsfs_uptime_seconds gauge\nkmsfs_uptime_seconds 5\n",
            "\nkmsfs_read_only 0\n",
            "\nkmsfs_operations_total{operation=\"read_dir\"} 3\n",
            "\nkmsfs_errors_total{operation=\"read_dir\"} 1\n",
            "\nkmsfs_kms_calls_total{call=\"generate_data_key\"} 2\n",
            "kmsfs_operation_duration_seconds_bucket{operation=\"read_dir\",le=\"0.001\"} 2\n",
            "kmsfs_operation_duration_seconds_bucket{operation=\"read_dir\",le=\"0.004\"} 2\n",
            "kmsfs_operation_duration_seconds_bucket{operation=\"read_dir\",le=\"+Inf\"} 3\n",
            "kmsfs_operation_duration_seconds_sum{operation=\"read_dir\"} 0.5\n",
            "kmsfs_operation_duration_seconds_count{operation=\"read_dir\"} 3\n",
        ];
        for part in expected {
            assert!(text.contains(part), "{part}\n{text}");
        }
        assert!(!text.contains("kmsfs_available_bytes") && !text.contains("null"), "{text}");
    }
}
