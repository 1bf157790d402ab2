//! What is put on record of a request. Pure.

use super::actor::Actor;
use crate::{
    audit::{Agent, Basis, Decision, Entry, Kind, Rights, RightsMode, User, Version},
    index::delegation::Origin,
    oauth::Reason,
    policy::exchange::{self, Grant},
};
use k8s_openapi::{apimachinery::pkg::apis::meta::v1::MicroTime, jiff::Timestamp};

/// What is known of a request once it is known who asks.
#[derive(Clone, Debug)]
pub(super) struct Asked<'a> {
    /// What kind of request.
    pub kind: Asking,
    /// When.
    pub now: Timestamp,
    /// `txn`, or the evaluation.
    pub id: &'a str,
    /// Who acts, if that is known.
    pub actor: Option<&'a Actor>,
    /// Uid of its identity, if it has one that is valid.
    pub identity: Option<&'a str>,
    /// For whom, if for somebody who is known.
    pub user: Option<User>,
    /// What is to be done.
    pub action: Option<String>,
    /// The resource's identifier.
    pub resource: Option<&'a str>,
    /// The scopes that were asked for.
    pub scopes: Vec<String>,
    /// The token that is issued, or was presented.
    pub jti: Option<&'a str>,
    /// Username of who asks, if that is not who acts.
    pub caller: Option<&'a str>,
}

/// What is asked for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Asking {
    /// A decision.
    Evaluation,
    /// A token.
    Exchange,
}

fn version(origin: &Origin) -> Version {
    Version { uid: origin.uid.clone(), generation: origin.generation }
}

impl Asked<'_> {
    fn entry(&self, kind: Kind) -> Entry {
        let agent = self.actor.map(|actor| Agent {
            ns: actor.namespace.clone(),
            name: actor.name.clone(),
            uid: self.identity.unwrap_or_default().to_owned(),
            pod: actor.pod.as_ref().map(|(_, uid)| uid.clone()),
        });
        Entry {
            id: Some(self.id.to_owned()),
            agent,
            user: self.user.clone(),
            action: self.action.clone(),
            resource: self.resource.map(str::to_owned),
            scopes: self.scopes.clone(),
            jti: self.jti.map(str::to_owned),
            credential_id: self.actor.and_then(|actor| actor.credential_id.clone()),
            caller: self.caller.map(str::to_owned),
            ..Entry::new(kind, self.now)
        }
    }

    /// It was refused.
    pub(super) fn denied(&self, reason: Reason) -> Entry {
        self.against(reason, self.kind.kind())
    }

    /// It was permitted, on these rights of the user's.
    pub(super) fn permitted(&self, grant: &Grant<'_>, rights: Option<(RightsMode, Timestamp)>) -> Entry {
        let exchange::Basis { identity, resource, policy, issuer } = grant.basis;
        let identity = Version { uid: identity.uid.clone(), generation: identity.generation };
        let basis = Basis {
            policy: Some(version(&policy.origin)),
            identity: Some(identity),
            resource: Some(version(&resource.origin)),
            issuer: issuer.map(|issuer| version(&issuer.origin)),
            rights: rights.map(|(mode, as_of)| Rights { mode, as_of: MicroTime(as_of) }),
        };
        Entry {
            decision: Some(Decision::Permit),
            scopes: grant.scopes().map(str::to_owned).collect(),
            basis: Some(basis),
            ..self.entry(self.kind.kind())
        }
    }

    /// What was permitted, and is on record, is not answered so after all.
    pub(super) fn withheld(&self, reason: Reason) -> Entry {
        self.against(reason, self.kind.withheld())
    }

    fn against(&self, reason: Reason, kind: Kind) -> Entry {
        Entry {
            decision: Some(Decision::Deny),
            half: reason.half().map(|half| half.as_str().into()),
            reason: Some(reason.as_str().into()),
            ..self.entry(kind)
        }
    }
}

impl Asking {
    fn kind(self) -> Kind {
        match self {
            Self::Evaluation => Kind::ActionEvaluation,
            Self::Exchange => Kind::TokenExchange,
        }
    }

    fn withheld(self) -> Kind {
        match self {
            Self::Evaluation => Kind::ActionWithheld,
            Self::Exchange => Kind::TokenWithheld,
        }
    }
}
