//! What becomes of a pod that runs as an agent. Pure.
//!
//! A suspension that keeps what runs still ends what slipped in: a create may commit up to a minute after the webhook
//! permitted it, and with it a pod that does not wait. `creationTimestamp` does not tell the two apart, since it is set
//! before admission. When the pod was given its node does: that is after its commit, by the API server's own clock, and
//! nobody but the scheduler and the node writes it. So no list of what ran has to be kept anywhere (ADR 5).

use crate::{api::v1alpha1::RunningPods, index::Suspension};
use k8s_openapi::jiff::{SignedDuration, Timestamp};

/// A pod is kept only if it had its node for longer than this: timestamps have whole seconds, and clocks of several API
/// servers differ.
const MARGIN: SignedDuration = SignedDuration::from_secs(2);

/// The longest a pod that is ended may take, in seconds: Kubernetes' own default. What its author declared beyond that
/// would be a way to go on.
pub(super) const GRACE: u32 = 30;

/// A pod that has not finished.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Pod {
    pub(super) name: String,
    pub(super) uid: String,
    /// The identity it was admitted for.
    pub(super) identity_uid: Option<String>,
    /// Since when it has a node.
    pub(super) bound: Option<Timestamp>,
    /// Whether it waits for a suspension to end.
    pub(super) is_gated: bool,
    /// How many seconds it may take to end.
    pub(super) grace: Option<u32>,
    /// It is ending already, and may take this long.
    pub(super) ending: Option<u32>,
}

/// Why a pod is ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// Its agent is suspended.
    Suspension,
    /// Its agent's identity is gone, and another has its name.
    Succession,
}

/// How a pod is ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct End {
    pub(super) cause: Cause,
    /// Whether eviction is tried first, which a Job may not count as a failure.
    pub(super) evict: bool,
    /// Seconds it may take.
    pub(super) grace: u32,
}

/// What all suspensions of an agent ask for together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Switch {
    pods: RunningPods,
    /// Since the first of them. What came later came in spite of it.
    since: Option<Timestamp>,
}

impl Switch {
    /// Of the suspensions in force; `None` if there are none.
    pub(super) fn of(suspensions: &[&Suspension]) -> Option<Self> {
        let ends = suspensions.iter().any(|suspension| suspension.pods == RunningPods::Delete);
        (!suspensions.is_empty()).then(|| Self {
            pods: if ends { RunningPods::Delete } else { RunningPods::Retain },
            since: suspensions.iter().filter_map(|suspension| suspension.since).min(),
        })
    }

    /// Whether `pod` is one to keep: it had its node before.
    fn retains(self, pod: &Pod) -> bool {
        let ran = |bound: Timestamp| self.since.is_none_or(|since| bound.duration_until(since) > MARGIN);
        self.pods == RunningPods::Retain && pod.bound.is_some_and(ran)
    }
}

/// Whether and how `pod` is to be ended, while the identity of its agent's name has the uid `living`.
pub(super) fn fate(pod: &Pod, living: Option<&str>, switch: Option<Switch>) -> Option<End> {
    // One without a stamp was not made under Deputy's eyes.
    let is_predecessors =
        pod.identity_uid.as_deref().is_some_and(|uid| living.is_some_and(|living| uid != living));
    let cause = match switch {
        // No token is issued to it meanwhile, whoever's it was.
        Some(switch) if switch.retains(pod) => return None,
        Some(_) if !pod.is_gated => Cause::Suspension,
        _ if is_predecessors => Cause::Succession,
        _ => return None,
    };
    if pod.ending.is_some_and(|seconds| seconds <= GRACE) {
        return None;
    }
    Some(End {
        cause,
        evict: cause == Cause::Suspension && pod.ending.is_none(),
        grace: pod.grace.unwrap_or(GRACE).min(GRACE),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn suspension(pods: RunningPods, since: Option<i64>) -> Suspension {
        Suspension {
            name: "s".into(),
            uid: "s".into(),
            agent: None,
            since: since.map(at),
            pods,
            reason: "r".into(),
            requested_by: None,
        }
    }

    fn switch(pods: RunningPods) -> Option<Switch> {
        Switch::of(&[&suspension(pods, Some(100))])
    }

    fn pod(bound: Option<i64>) -> Pod {
        Pod { identity_uid: Some("u".into()), bound: bound.map(at), grace: Some(5), ..Pod::default() }
    }

    fn cause(pod: &Pod, switch: Option<Switch>) -> Option<Cause> {
        fate(pod, Some("u"), switch).map(|end| end.cause)
    }

    #[test]
    fn delete_ends_what_does_not_wait() {
        let delete = switch(RunningPods::Delete);
        for bound in [None, Some(1), Some(200)] {
            let evicted = End { cause: Cause::Suspension, evict: true, grace: 5 };
            assert_eq!(fate(&pod(bound), Some("u"), delete), Some(evicted), "{bound:?}");
        }
        assert_eq!(cause(&Pod { is_gated: true, ..pod(None) }, delete), None);
        assert_eq!(cause(&pod(Some(1)), None), None);
    }

    #[test]
    fn retain_keeps_what_had_its_node_before_and_nothing_else() {
        let retain = switch(RunningPods::Retain);
        for (bound, kept) in [
            (Some(1), true),
            (Some(97), true),
            (Some(98), false),
            (Some(100), false),
            (Some(160), false),
            (None, false),
        ] {
            assert_eq!(cause(&pod(bound), retain).is_none(), kept, "{bound:?}");
        }
        assert_eq!(cause(&Pod { is_gated: true, ..pod(None) }, retain), None);
    }

    #[test]
    fn several_suspensions_are_the_strictest_of_them() {
        let (retain, delete) =
            (suspension(RunningPods::Retain, Some(100)), suspension(RunningPods::Delete, Some(200)));
        let unreadable = suspension(RunningPods::Retain, None);
        assert_eq!(Switch::of(&[]), None);
        for (suspensions, bound, kept) in [
            (vec![&retain, &delete], 1, false),
            (vec![&retain, &suspension(RunningPods::Retain, Some(200))], 150, false),
            (vec![&unreadable], 150, true),
            (vec![&unreadable, &retain], 150, false),
            (vec![&unreadable, &retain], 1, true),
        ] {
            let fate = cause(&pod(Some(bound)), Switch::of(&suspensions));
            assert_eq!(fate.is_none(), kept, "{bound} {suspensions:?}");
        }
        assert_eq!(cause(&pod(None), Switch::of(&[&unreadable])), Some(Cause::Suspension));
    }

    #[test]
    fn a_pod_of_an_identity_that_is_gone_is_ended_unless_it_is_evidence() {
        let old = Pod { identity_uid: Some("old".into()), ..pod(Some(1)) };
        let end = End { cause: Cause::Succession, evict: false, grace: 5 };
        assert_eq!(fate(&old, Some("u"), None), Some(end));
        assert_eq!(fate(&old, None, None), None);
        assert_eq!(cause(&Pod { identity_uid: None, ..old.clone() }, None), None);
        assert_eq!(cause(&old, switch(RunningPods::Retain)), None);
        let waits = Pod { is_gated: true, bound: None, ..old };
        assert_eq!(cause(&waits, switch(RunningPods::Delete)), Some(Cause::Succession));
    }

    #[test]
    fn nobody_takes_longer_than_half_a_minute_to_end() {
        let delete = switch(RunningPods::Delete);
        let grace = |pod: &Pod| fate(pod, Some("u"), delete).map(|end| (end.evict, end.grace));
        let declared = |grace| Pod { grace, ..pod(Some(1)) };
        assert_eq!(grace(&declared(Some(0))), Some((true, 0)));
        assert_eq!(grace(&declared(Some(86_400))), Some((true, GRACE)));
        assert_eq!(grace(&declared(None)), Some((true, GRACE)));
        let going = |seconds| Pod { ending: Some(seconds), ..declared(Some(86_400)) };
        assert_eq!(grace(&going(86_400)), Some((false, GRACE)));
        assert_eq!(grace(&going(GRACE)), None);
    }
}
