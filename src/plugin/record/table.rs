//! Entries for people, and for programs.

use super::{
    super::{escaped_json, table::aligned},
    Found,
};
use crate::audit::{Decision, Entry, User};
use serde_json::Value;

impl Found {
    /// Entries under one another. A user is a pseudonym but for the one that is `named`.
    pub fn table(all: &[Self], named: Option<(&User, &str)>) -> String {
        let head =
            ["TIME", "REPLICA", "INDEX", "KIND", "DECISION", "AGENT", "USER", "RESOURCE", "SCOPES", "WHY"];
        let rows = all.iter().map(|found| found.row(named));
        aligned(&std::iter::once(head.map(str::to_owned)).chain(rows).collect::<Vec<_>>(), 0)
    }

    fn row(&self, named: Option<(&User, &str)>) -> [String; 10] {
        let Self { replica, index, entry, .. } = self;
        let none = || "-".to_owned();
        let user = entry.user.as_ref().map(|user| match named {
            Some((known, name)) if known == user => name.to_owned(),
            _ => user.pseudonym.clone(),
        });
        let decision = entry.decision.map(|decision| match decision {
            Decision::Deny => "deny".to_owned(),
            Decision::Permit => "permit".to_owned(),
        });
        [
            format!("{:.3}", entry.ts.0),
            replica.clone(),
            index.to_string(),
            serde_json::to_value(entry.kind)
                .ok()
                .and_then(|kind| Some(kind.as_str()?.to_owned()))
                .unwrap_or_else(none),
            decision.unwrap_or_else(none),
            entry.agent.as_ref().map_or_else(none, |agent| format!("{}/{}", agent.ns, agent.name)),
            user.unwrap_or_else(none),
            entry.resource.clone().unwrap_or_else(none),
            if entry.scopes.is_empty() { none() } else { entry.scopes.join(",") },
            why(entry).unwrap_or_else(none),
        ]
    }

    /// Entries as JSON, one a line, each as it is stored.
    pub fn json(all: &[Self]) -> String {
        let entries = all.iter().map(|Self { replica, origin, index, stored, .. }| {
            let text = |text: &str| Value::from(text).to_string();
            let (replica, log) = (text(replica), text(origin));
            format!("{{\"replica\":{replica},\"log\":{log},\"index\":{index},\"entry\":{stored}}}")
        });
        let entries: Vec<_> = entries.collect();
        escaped_json(&format!("{{\"entries\":[\n{}\n]}}\n", entries.join(",\n")))
    }
}

/// What decided it; of an entry that is no decision, what it tells.
fn why(entry: &Entry) -> Option<String> {
    if let Some(reason) = &entry.reason {
        let half = entry.half.as_ref().map_or_else(String::new, |half| format!("{half}: "));
        return Some(format!("{half}{reason}"));
    }
    if !entry.counts.is_empty() {
        let counts = entry.counts.iter().map(|(reason, count)| format!("{reason} {count}"));
        return Some(counts.collect::<Vec<_>>().join(", "));
    }
    let size = entry.size.map(|size| format!("after {size} entries"));
    let torn = entry.torn_bytes.map(|torn| format!("{torn} torn bytes were cut"));
    let log = entry.log.as_ref().map(|log| format!("log {log}"));
    let told: Vec<_> = [log, size, torn].into_iter().flatten().collect();
    (!told.is_empty()).then(|| told.join(", "))
}
