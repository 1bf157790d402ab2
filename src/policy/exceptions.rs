//! What the platform team's exceptions do to findings.

use super::{Action, Finding, Rule, Target, facts::PodFacts};
use crate::{
    api::v1alpha1::ExceptionEffect,
    index::{Exception, NamedTarget},
};
use k8s_openapi::jiff::Timestamp;
use std::sync::Arc;

/// An exception without which a rule would have refused the pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Used<'a> {
    /// The exception.
    pub exception: &'a Exception,
    /// The rule.
    pub rule: &'static Rule,
}

/// Takes from `findings` what an exception allows, and has those only warn of which one says so. The first by name counts.
pub(super) fn apply<'a>(
    findings: &mut Vec<Finding>,
    facts: &PodFacts<'_>,
    exceptions: &'a [Arc<Exception>],
    now: Timestamp,
) -> Vec<Used<'a>> {
    let mut used = vec![];
    if findings.is_empty() || exceptions.is_empty() {
        return used;
    }
    findings.retain_mut(|finding| {
        if finding.action != Action::Deny {
            return true;
        }
        let named = |effect| {
            let mut of_effect =
                exceptions.iter().map(Arc::as_ref).filter(|e| e.effect == effect && e.holds_at(now));
            of_effect.find(|exception| speaks_of(exception, finding, facts))
        };
        let exceptable = finding.rule.exceptable;
        let allowed = named(ExceptionEffect::Allow).filter(|_| exceptable.may_allow());
        let exception = allowed.or_else(|| named(ExceptionEffect::Warn).filter(|_| exceptable.may_warn()));
        let Some(exception) = exception else { return true };
        let this = Used { exception, rule: finding.rule };
        if !used.contains(&this) {
            used.push(this);
        }
        finding.action = Action::Warn;
        exception.effect == ExceptionEffect::Warn
    });
    used
}

/// Whether `exception` is about the rule and the place of `finding`. A name that two containers or volumes bear is nobody's.
fn speaks_of(exception: &Exception, finding: &Finding, facts: &PodFacts<'_>) -> bool {
    let is_there = match (&exception.target, finding.target) {
        (None, _) => exception.effect == ExceptionEffect::Warn,
        (Some(NamedTarget::Container(name)), Some(at @ Target::Container(..)))
        | (Some(NamedTarget::Volume(name)), Some(at @ Target::Volume(_))) => {
            facts.unique_name(at) == Some(name.as_str())
        }
        (Some(_), _) => false,
    };
    is_there && exception.is_about(finding.rule.id)
}
