//! Which entries somebody wants to see.

use crate::audit::{Decision, Entry, User};
use k8s_openapi::jiff::Timestamp;

/// Everything that is set must hold.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Namespace and name of the agent.
    pub agent: Option<(String, String)>,
    /// The user.
    pub user: Option<User>,
    /// Identifier of the resource.
    pub resource: Option<String>,
    /// How it was decided.
    pub decision: Option<Decision>,
    /// Not before.
    pub since: Option<Timestamp>,
    /// Not after.
    pub until: Option<Timestamp>,
}

impl Filter {
    /// Whether it is wanted.
    pub fn takes(&self, entry: &Entry) -> bool {
        let Self { agent, user, resource, decision, since, until } = self;
        let is_agent = |(ns, name): &(String, String)| {
            entry.agent.as_ref().is_some_and(|agent| agent.ns == *ns && agent.name == *name)
        };
        agent.as_ref().is_none_or(is_agent)
            && user.as_ref().is_none_or(|user| entry.user.as_ref() == Some(user))
            && resource.as_ref().is_none_or(|resource| entry.resource.as_ref() == Some(resource))
            && decision.is_none_or(|decision| entry.decision == Some(decision))
            && since.is_none_or(|since| entry.ts.0 >= since)
            && until.is_none_or(|until| entry.ts.0 <= until)
    }
}
