//! What people read: findings cut to the sizes that the API server and its clients take.

use crate::{
    api::v1alpha1::ExceptionEffect,
    policy::{Admission, Finding, Used},
};
use k8s_openapi::jiff::Timestamp;

/// Findings in one answer; what goes beyond is counted. A pod can be made to break a rule ten thousand times.
const SHOWN_FINDINGS: usize = 40;
/// Warnings in one answer, and bytes in one warning: the API server cuts longer ones.
const SHOWN_WARNINGS: usize = 16;
const WARNING_BYTES: usize = 256;
/// Bytes of an exception's name in a warning.
const SHOWN_NAME_BYTES: usize = 80;

/// Days before its end from which an exception is told to be ending.
const NOTICE_DAYS: i64 = 14;

/// The message of a refusal: every finding on a line of its own.
pub(super) fn message(findings: &[Finding]) -> String {
    let mut lines: Vec<_> = findings.iter().take(SHOWN_FINDINGS).map(ToString::to_string).collect();
    if findings.len() > SHOWN_FINDINGS {
        lines.push(format!("and {} more", findings.len() - SHOWN_FINDINGS));
    }
    lines.join("\n")
}

/// The warnings of an answer.
pub(super) fn warnings(findings: &[Finding]) -> Vec<String> {
    let line = |finding: &Finding| {
        let whole = finding.to_string();
        // What to do stands behind the reference, and that is always seen.
        if whole.len() > WARNING_BYTES { finding.brief(WARNING_BYTES) } else { whole }
    };
    findings.iter().take(SHOWN_WARNINGS).map(line).collect()
}

/// What lets the pod pass, and when it will not any more.
fn exceptions(used: &[Used<'_>], now: Timestamp) -> Vec<String> {
    let line = |Used { exception, rule }: &Used<'_>| {
        let does = match exception.effect {
            ExceptionEffect::Allow => "allowed",
            ExceptionEffect::Warn => "only warned of",
        };
        let seconds = exception.expiration.as_second() - now.as_second();
        let days = seconds / (24 * 60 * 60);
        let notice = match days {
            0 => "; it ends within a day, and such pods are refused then".to_owned(),
            days if days < NOTICE_DAYS => format!("; it ends in {days} days, and such pods are refused then"),
            _ => String::new(),
        };
        let (id, name) = (rule.id, &exception.name);
        // The name is cut by itself, so that what follows it is always seen.
        let name = &name[..name.floor_char_boundary(SHOWN_NAME_BYTES)];
        let (ends, reason) = (exception.expiration, &exception.reason);
        cut(format!("[{id}] {does} by AgentException {name:?} until {ends}{notice} ({reason})"))
    };
    used.iter().take(SHOWN_WARNINGS).map(line).collect()
}

/// All warnings of an answer: the exceptions first.
pub(super) fn told(admission: &Admission<'_>, now: Timestamp) -> Vec<String> {
    let mut told = exceptions(&admission.exceptions, now);
    told.extend(warnings(&admission.findings));
    told.truncate(SHOWN_WARNINGS);
    told
}

/// The names of the exceptions, each once.
pub(super) fn names(used: &[Used<'_>]) -> String {
    let mut names: Vec<_> = used.iter().map(|used| used.exception.name.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    names.truncate(SHOWN_FINDINGS);
    names.join(",")
}

/// The ids of the rules that spoke, each once.
pub(super) fn rules(findings: &[Finding]) -> String {
    let mut rules: Vec<_> = findings.iter().map(|finding| finding.rule.id).collect();
    rules.sort_unstable();
    rules.dedup();
    rules.join(",")
}

/// At most [`WARNING_BYTES`] of `text`, whole characters.
fn cut(mut text: String) -> String {
    const MARK: &str = "...";
    if text.len() > WARNING_BYTES {
        text.truncate(text.floor_char_boundary(WARNING_BYTES - MARK.len()));
        text.push_str(MARK);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy;

    fn findings(count: usize, message: &str) -> Vec<Finding> {
        (0..count)
            .map(|at| Finding::warn(policy::rules()[0], format!("spec.volumes[{at}]"), message))
            .collect()
    }

    #[test]
    fn answers_are_bounded() {
        assert_eq!(message(&findings(2, "m")).lines().count(), 2);
        let long = message(&findings(10_000, "m"));
        assert_eq!(long.lines().count(), SHOWN_FINDINGS + 1);
        assert!(long.ends_with("and 9960 more"));
        let warnings = warnings(&findings(17, &"é".repeat(300)));
        assert_eq!(warnings.len(), SHOWN_WARNINGS);
        assert!(
            warnings.iter().all(|w| w.len() <= WARNING_BYTES && w.ends_with("... (docs/rules.md#ai001)"))
        );
    }

    #[test]
    fn a_rule_is_named_once() {
        assert_eq!(rules(&findings(3, "m")), "AI001");
        assert_eq!(rules(&[]), "");
    }
}
