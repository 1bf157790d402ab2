//! What is put on record of an exchange. Pure.

use super::actor::Actor;
use crate::{
    audit::{Agent, Basis, Decision, Entry, Kind, Rights, RightsMode, User, Version},
    index::{Identity, delegation::Origin},
    oauth::Reason,
    policy::exchange::{self, Grant},
};
use k8s_openapi::{apimachinery::pkg::apis::meta::v1::MicroTime, jiff::Timestamp};

/// What is known of an exchange once its agent is.
#[derive(Clone, Debug)]
pub(super) struct Asked<'a> {
    /// When.
    pub now: Timestamp,
    /// `txn`.
    pub transaction: &'a str,
    /// Who.
    pub actor: &'a Actor,
    /// Its identity, if it has one that is valid.
    pub identity: Option<&'a Identity>,
    /// For whom, if for somebody who is known.
    pub user: Option<User>,
    /// The resource's identifier.
    pub resource: &'a str,
    /// The scopes that were asked for.
    pub scopes: Vec<String>,
}

fn version(origin: &Origin) -> Version {
    Version { uid: origin.uid.clone(), generation: origin.generation }
}

impl Asked<'_> {
    fn entry(&self, kind: Kind) -> Entry {
        let agent = Agent {
            ns: self.actor.namespace.clone(),
            name: self.actor.name.clone(),
            uid: self.identity.map(|identity| identity.uid.clone()).unwrap_or_default(),
            pod: self.actor.pod.as_ref().map(|(_, uid)| uid.clone()),
        };
        Entry {
            id: Some(self.transaction.to_owned()),
            agent: Some(agent),
            user: self.user.clone(),
            action: Some("token".to_owned()),
            resource: Some(self.resource.to_owned()),
            credential_id: self.actor.credential_id.clone(),
            ..Entry::new(kind, self.now)
        }
    }

    /// It was refused.
    pub(super) fn denied(&self, reason: Reason) -> Entry {
        Entry {
            decision: Some(Decision::Deny),
            half: reason.half().map(|half| half.as_str().into()),
            reason: Some(reason.as_str().into()),
            scopes: self.scopes.clone(),
            ..self.entry(Kind::TokenExchange)
        }
    }

    /// It was permitted, as `jti`, on these rights of the user's.
    pub(super) fn permitted(
        &self,
        grant: &Grant<'_>,
        jti: &str,
        rights: Option<(RightsMode, Timestamp)>,
    ) -> Entry {
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
            jti: Some(jti.to_owned()),
            ..self.entry(Kind::TokenExchange)
        }
    }

    /// What was permitted as `jti`, and on record, is not handed out after all.
    pub(super) fn withheld(&self, reason: Reason, jti: &str) -> Entry {
        Entry { kind: Kind::TokenWithheld, jti: Some(jti.to_owned()), ..self.denied(reason) }
    }
}
