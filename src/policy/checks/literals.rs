//! AI206, AI207: keys in clear text. Every string of the pod is looked at, fields this version does not know included,
//! so that no place can be forgotten. What is of a known format is refused; what only looks like a key and is called one
//! is warned of.

use crate::policy::{
    Finding, Place, Rule, Settings, Target,
    facts::List,
    formats::is_suspicious,
    rule::{AI206, AI207},
    walk::{self, Path, Text},
};
use serde_json::Value;

/// Where the debug containers are.
const EPHEMERAL: &str = "spec.ephemeralContainers";

/// Checks the pod's spec and metadata.
pub(in crate::policy) fn check(pod: &Value, settings: &Settings, findings: &mut Vec<Finding>) {
    if let Some(Value::Object(metadata)) = pod.get("metadata") {
        for (key, value) in metadata {
            // Written by the API server: names of fields, never their values.
            if key != "managedFields" {
                scan(value, &Path::Key(&Path::Root("metadata"), key), &AI207, settings, findings);
            }
        }
    }
    if let Some(spec) = pod.get("spec") {
        scan(spec, &Path::Root("spec"), &AI206, settings, findings);
    }
}

/// Checks the debug containers alone.
pub(in crate::policy) fn check_debug_containers(
    pod: &Value,
    settings: &Settings,
    findings: &mut Vec<Finding>,
) {
    if let Some(containers) = pod.pointer("/spec/ephemeralContainers") {
        scan(containers, &Path::Root(EPHEMERAL), &AI206, settings, findings);
    }
}

fn scan(
    value: &Value,
    root: &Path<'_>,
    rule: &'static Rule,
    settings: &Settings,
    findings: &mut Vec<Finding>,
) {
    walk::strings(value, root, &mut |path, Text { name, text }| {
        let characters = text.chars().count();
        if let Some(format) = settings.formats.find_under(name, text) {
            let message = format!("matches {format:?} ({characters} characters)");
            findings.push(Finding::deny(rule, place(path), message));
        } else if is_suspicious(name, text)
            || flag(text).is_some_and(|(name, text)| is_suspicious(name, text))
        {
            let message = format!("looks like a key ({characters} characters), and is called one");
            findings.push(Finding::warn(rule, place(path), message));
        }
    });
}

/// Name and value of a flag in one word.
fn flag(text: &str) -> Option<(&str, &str)> {
    text.strip_prefix('-')?.split_once('=')
}

/// The path in words, and the container or volume it leads into.
fn place(path: &Path<'_>) -> Place {
    let mut at = path;
    let target = loop {
        match at {
            Path::Index(Path::Key(Path::Root("spec"), "volumes"), index) => {
                break Some(Target::Volume(*index));
            }
            Path::Index(Path::Key(Path::Root("spec"), field), index) => {
                let list = List::ALL.into_iter().find(|list| list.field() == *field);
                break list.map(|list| Target::Container(list, *index));
            }
            Path::Index(Path::Root(EPHEMERAL), index) => {
                break Some(Target::Container(List::Ephemeral, *index));
            }
            Path::Key(parent, _) | Path::Index(parent, _) => at = parent,
            Path::Root(_) => break None,
        }
    };
    match target {
        Some(target) => Place::within(target, path.to_string()),
        None => path.to_string().into(),
    }
}
