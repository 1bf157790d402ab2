//! How many identities have each condition, kept up to date at each reconcile.

use super::pods::Agent;
use crate::{
    api::condition::{ACCEPTED, READY, STALLED, SUSPENDED},
    metrics::ControllerMetrics,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use std::collections::HashMap;

const CONDITIONS: [&str; 4] = [ACCEPTED, READY, STALLED, SUSPENDED];

/// Counts per condition: how many are false, and how many true.
#[derive(Debug, Default)]
pub(super) struct Tally {
    of: HashMap<Agent, [bool; CONDITIONS.len()]>,
    counts: [[usize; 2]; CONDITIONS.len()],
}

impl Tally {
    /// Sets what is known of an identity.
    pub(super) fn put(&mut self, agent: &Agent, conditions: &[Condition]) {
        let holds = |name| conditions.iter().any(|c| c.type_ == name && c.status == "True");
        let now = CONDITIONS.map(holds);
        self.remove(agent);
        for (count, holds) in self.counts.iter_mut().zip(now) {
            count[usize::from(holds)] += 1;
        }
        self.of.insert(agent.clone(), now);
    }

    /// The identities that count.
    pub(super) fn agents(&self) -> impl Iterator<Item = &Agent> {
        self.of.keys()
    }

    /// Forgets an identity.
    pub(super) fn remove(&mut self, agent: &Agent) {
        for (count, held) in self.counts.iter_mut().zip(self.of.remove(agent).into_iter().flatten()) {
            count[usize::from(held)] -= 1;
        }
    }

    /// Writes the counts to the metrics.
    pub(super) fn report(&self, metrics: &ControllerMetrics) {
        for (condition, [no, yes]) in CONDITIONS.into_iter().zip(self.counts) {
            metrics.identities(condition, "False", no);
            metrics.identities(condition, "True", yes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::condition::condition;
    use k8s_openapi::{apimachinery::pkg::apis::meta::v1::Time, jiff::Timestamp};

    #[test]
    fn each_identity_counts_once() {
        let now = Time(Timestamp::UNIX_EPOCH);
        let with = |ready| vec![condition(READY, ready, "R", "m", None, &now)];
        let (a, b) = (("ns".to_owned(), "a".to_owned()), ("ns".to_owned(), "b".to_owned()));
        let mut tally = Tally::default();
        tally.put(&a, &with(false));
        tally.put(&a, &with(true));
        tally.put(&b, &with(false));
        assert_eq!(tally.counts[1], [1, 1]);
        tally.remove(&b);
        tally.remove(&b);
        assert_eq!(tally.counts, [[1, 0], [0, 1], [1, 0], [1, 0]]);
    }
}
