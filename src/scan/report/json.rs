//! For scripts. The shape is one that they rely on: fields come, none goes.

use crate::{
    plugin::escaped_json,
    scan::{Judged, LocatedFinding, Report},
};
use serde_json::{Value, json};

/// The report in JSON.
pub fn json(report: &Report) -> String {
    let results: Vec<Value> = report.results.iter().map(result).collect();
    let unread = report.unread.iter();
    let errors: Vec<_> = unread
        .map(|(source, unread)| json!({"source": **source, "line": unread.line, "message": unread.message}))
        .collect();
    let whole = json!({
        "results": results,
        "errors": errors,
        "summary": {
            "scanned": report.results.len(),
            "denied": report.denied(),
            "warned": report.warned(),
            "skipped": report.skipped,
        },
    });
    format!("{}\n", escaped_json(&format!("{whole:#}")))
}

fn result(judged: &Judged) -> Value {
    let Judged { source, document, kind, namespace, name, findings } = judged;
    let findings: Vec<_> = findings.iter().map(finding).collect();
    json!({"source": **source, "document": document, "kind": kind, "namespace": namespace, "name": name, "findings": findings})
}

fn finding(LocatedFinding { finding, line }: &LocatedFinding) -> Value {
    json!({
        "rule": finding.rule.id,
        "severity": finding.rule.severity.as_str(),
        "action": finding.action.as_str(),
        "path": finding.path,
        "line": line,
        "message": finding.message,
    })
}
