//! Who is to hold what. Pure: the world as it was seen and the time that has passed in, steps out.
//!
//! **Why no two can share.** A webhook lets a pod use a Secret only where the claim it sees names the pod's identity and is
//! not released. What it sees is at most the freshness bound old, and what it lets through is stored within the API server's
//! request timeout. So once a claim has been *released*, and a quiet period longer than both has passed, no pod of its holder
//! can come any more that uses the Secret; and once a consistent list shows none that is there, there is none and will be none
//! until the holder has the claim again. Only then does it change hands. Every write is made on the version of the claim that
//! was looked at, and a claim is named by its subject: of two that write, the API server lets one.
//!
//! Time is counted by this process, from when it first saw the claim as it is now: a clock that is set, or another
//! controller's, shortens nothing. A controller that starts does not know which claims were taken away meanwhile, and makes
//! new ones only when its first quiet period is over.

use crate::{
    api::v1alpha1::ClaimHolder,
    index::{Claim, Subject},
};
use std::{
    collections::{BTreeMap, HashMap, HashSet},
    time::Duration,
};

/// An identity that may hold what it declares: it is valid, stays, and in a namespace that keeps others away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Contender {
    pub(super) holder: ClaimHolder,
    pub(super) subjects: Vec<Subject>,
}

/// What to do about one subject. Each is made on what was seen, and does nothing if that has changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Make a claim, if no pod of another's uses the subject.
    Claim { subject: Subject, holder: ClaimHolder },
    /// Somebody deleted the claim: put it back as a released one.
    TakeAway { subject: Subject, holder: ClaimHolder },
    /// The holder does not declare it any more.
    Release(Claim),
    /// The holder declares it again, and nobody has it yet.
    Restore(Claim),
    /// The quiet period is over: if no pod uses the subject, give it to the next, or to nobody.
    HandOver { claim: Claim, next: Option<ClaimHolder> },
}

impl Step {
    pub(super) fn subject(&self) -> &Subject {
        match self {
            Self::Claim { subject, .. } | Self::TakeAway { subject, .. } => subject,
            Self::Release(claim) | Self::Restore(claim) | Self::HandOver { claim, .. } => &claim.subject,
        }
    }
}

/// What is remembered between two plans.
#[derive(Debug, Default)]
pub(super) struct Memory {
    /// When a claim was first seen released, by uid and version.
    released: HashMap<(String, String), Duration>,
    /// Claims that somebody deleted, by name, and who held them.
    taken: HashMap<String, ClaimHolder>,
}

impl Memory {
    /// Somebody else deleted this claim.
    pub(super) fn taken_away(&mut self, claim: &Claim) {
        self.taken.insert(claim.subject.claim_name(), claim.holder.clone());
    }
}

/// Steps, and when to plan again if nothing happens before.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub(super) steps: Vec<Step>,
    pub(super) wake: Option<Duration>,
}

impl Plan {
    fn wake_at(&mut self, at: Duration) {
        self.wake = Some(self.wake.map_or(at, |wake| wake.min(at)));
    }
}

/// What to do, `now` after this process started, with claims by name.
pub(super) fn plan(
    contenders: &[Contender],
    claims: &BTreeMap<String, Claim>,
    quiet: Duration,
    memory: &mut Memory,
    now: Duration,
) -> Plan {
    let mut wanted: BTreeMap<String, (&Subject, Vec<&ClaimHolder>)> = BTreeMap::new();
    for contender in contenders {
        for subject in &contender.subjects {
            let wanting = wanted.entry(subject.claim_name()).or_insert((subject, vec![]));
            wanting.1.push(&contender.holder);
        }
    }
    for (_, wanting) in wanted.values_mut() {
        wanting.sort_by(|a, b| (&a.namespace, &a.name).cmp(&(&b.namespace, &b.name)));
    }
    memory.taken.retain(|name, _| !claims.contains_key(name));
    let present: HashSet<_> =
        claims.values().map(|claim| (claim.uid.as_str(), claim.resource_version.as_str())).collect();
    memory.released.retain(|(uid, version), _| present.contains(&(uid.as_str(), version.as_str())));

    let mut plan = Plan::default();
    for (name, (subject, wanting)) in &wanted {
        if claims.contains_key(name) {
            continue;
        }
        let step = match memory.taken.get(name) {
            Some(holder) => Step::TakeAway { subject: (*subject).clone(), holder: holder.clone() },
            None if now < quiet => {
                plan.wake_at(quiet);
                continue;
            }
            None => Step::Claim { subject: (*subject).clone(), holder: wanting[0].clone() },
        };
        plan.steps.push(step);
    }
    for (name, claim) in claims {
        let wanting = wanted.get(name).map_or(&[][..], |(_, wanting)| wanting);
        one(claim, wanting, quiet, memory, now, &mut plan);
    }
    plan
}

fn one(
    claim: &Claim,
    wanting: &[&ClaimHolder],
    quiet: Duration,
    memory: &mut Memory,
    now: Duration,
    plan: &mut Plan,
) {
    let is_wanted = wanting.iter().any(|holder| holder.uid == claim.holder.uid);
    let next = wanting.iter().copied().find(|holder| holder.uid != claim.holder.uid);
    match claim.released {
        None if is_wanted => {}
        None => plan.steps.push(Step::Release(claim.clone())),
        Some(_) if is_wanted && (!claim.taken_away || next.is_none()) => {
            plan.steps.push(Step::Restore(claim.clone()));
        }
        Some(_) => {
            let key = (claim.uid.clone(), claim.resource_version.clone());
            let over = *memory.released.entry(key).or_insert(now) + quiet;
            if now < over {
                plan.wake_at(over);
            } else {
                plan.steps.push(Step::HandOver { claim: claim.clone(), next: next.cloned() });
            }
        }
    }
}
