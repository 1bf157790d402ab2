//! For code hosts and editors: SARIF 2.1.0 (OASIS).

use crate::{
    policy::{Action, Rule, Severity, rules},
    scan::{Judged, LocatedFinding, Report, Unread},
};
use serde_json::{Value, json};

/// The report in SARIF.
pub fn sarif(report: &Report) -> String {
    let results: Vec<_> = report
        .results
        .iter()
        .flat_map(|judged| judged.findings.iter().map(|found| result(judged, found)))
        .collect();
    let unread: Vec<_> = report.unread.iter().map(|(source, unread)| notification(source, unread)).collect();
    let log = json!({
        "$schema": "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": {"driver": {
                "name": "deputy",
                "version": env!("CARGO_PKG_VERSION"),
                "rules": rules().iter().map(|rule| descriptor(rule)).collect::<Vec<_>>(),
            }},
            "columnKind": "unicodeCodePoints",
            "invocations": [{
                "executionSuccessful": unread.is_empty(),
                "toolExecutionNotifications": unread,
            }],
            "results": results,
        }],
    });
    format!("{log:#}\n")
}

fn descriptor(rule: &Rule) -> Value {
    let (level, score) = match rule.severity {
        Severity::Low => ("note", "3.0"),
        Severity::Medium => ("warning", "5.0"),
        Severity::High => ("error", "8.0"),
        Severity::Critical => ("error", "9.5"),
    };
    let tags: Vec<_> = rule.nhi.iter().map(|entry| format!("OWASP-NHI{entry}-2025")).collect();
    json!({
        "id": rule.id,
        "name": rule.name,
        "shortDescription": {"text": rule.title},
        "fullDescription": {"text": rule.why},
        "help": {"text": format!("What to do: {}.", rule.remedy)},
        "defaultConfiguration": {"level": level},
        "properties": {"tags": tags, "security-severity": score},
    })
}

fn result(judged: &Judged, LocatedFinding { finding, line }: &LocatedFinding) -> Value {
    let Judged { source, kind, namespace, name, .. } = judged;
    let object =
        if namespace.is_empty() { format!("{kind} {name}") } else { format!("{kind} {namespace}/{name}") };
    let level = match finding.action {
        Action::Deny => "error",
        Action::Warn => "warning",
    };
    json!({
        "ruleId": finding.rule.id,
        "ruleIndex": rules().iter().position(|rule| rule.id == finding.rule.id),
        "level": level,
        "message": {"text": format!("{object}: {}: {}; {}", finding.path, finding.message, finding.rule.remedy)},
        "locations": [{
            "physicalLocation": {
                "artifactLocation": {"uri": uri(source)},
                "region": {"startLine": line},
            },
            "logicalLocations": [{"fullyQualifiedName": format!("{object} {}", finding.path), "kind": "member"}],
        }],
    })
}

fn notification(source: &str, unread: &Unread) -> Value {
    let mut location = json!({"artifactLocation": {"uri": uri(source)}});
    if let Some(line) = unread.line {
        location["region"] = json!({"startLine": line});
    }
    json!({
        "level": "error",
        "message": {"text": unread.message},
        "locations": [{"physicalLocation": location}],
    })
}

/// A path as a relative reference (RFC 3986).
fn uri(path: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte);
    let path = path.strip_prefix("./").unwrap_or(path).replace('\\', "/");
    let write = |byte: u8| if is_plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") };
    path.bytes().map(write).collect()
}

#[cfg(test)]
mod tests {
    use super::uri;

    #[test]
    fn a_path_is_a_reference() {
        assert_eq!(uri("./a b/ü#1.yaml"), "a%20b/%C3%BC%231.yaml");
        assert_eq!(uri("a/b-c_d.yml"), "a/b-c_d.yml");
    }
}
