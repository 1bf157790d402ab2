//! What people read: findings cut to the sizes that the API server and its clients take.

use crate::policy::Finding;

/// Findings in one answer; what goes beyond is counted. A pod can be made to break a rule ten thousand times.
const SHOWN_FINDINGS: usize = 40;
/// Warnings in one answer, and bytes in one warning: the API server cuts longer ones.
const SHOWN_WARNINGS: usize = 16;
const WARNING_BYTES: usize = 256;

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
    findings.iter().take(SHOWN_WARNINGS).map(|finding| cut(finding.to_string())).collect()
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
        assert!(warnings.iter().all(|w| w.len() <= WARNING_BYTES && w.ends_with("...")));
    }

    #[test]
    fn a_rule_is_named_once() {
        assert_eq!(rules(&findings(3, "m")), "AI001");
        assert_eq!(rules(&[]), "");
    }
}
