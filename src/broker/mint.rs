//! What a token says, from what was permitted. Pure.

use super::actor::Actor;
use crate::{
    index::{Identity, delegation::Origin},
    oauth::{Actor as Act, AgentRef, Claims, ObjectVersion, PodRef, Provenance, Rights},
    policy::exchange::{Basis, Grant},
};
use k8s_openapi::jiff::Timestamp;

/// Names of this broker and of the cluster.
#[derive(Clone, Debug)]
pub struct Issuers {
    /// The broker: `iss` of its tokens, and the audience of the tokens agents send to it.
    pub broker: String,
    /// The cluster's issuer of ServiceAccount tokens, who says who the actor is.
    pub cluster: String,
}

/// The user for whom a token is.
#[derive(Clone, Debug)]
pub(super) struct OnBehalf {
    /// The user's name after the issuer's mapping.
    pub username: String,
    /// The user's groups, where what he may do is asked again by them.
    pub groups: Option<Vec<String>>,
    /// What the user's token descends from.
    pub lineage: String,
    /// When the user logged in, if the issuer said so.
    pub auth_time: Option<Timestamp>,
    /// Who said what he may do, and when that was true.
    pub rights: (&'static str, Timestamp),
}

/// What a token is made from besides the grant.
#[derive(Clone, Copy, Debug)]
pub(super) struct Making<'a> {
    /// Who acts.
    pub actor: &'a Actor,
    /// For whom; `None`: for itself.
    pub user: Option<&'a OnBehalf>,
    /// When.
    pub now: Timestamp,
    /// Until when.
    pub expires: Timestamp,
    /// `jti`: random.
    pub jti: &'a str,
    /// `txn`: random.
    pub transaction: &'a str,
}

fn version(origin: &Origin) -> ObjectVersion {
    ObjectVersion { uid: origin.uid.clone(), generation: origin.generation }
}

/// The claims of the token.
pub(super) fn claims(issuers: &Issuers, grant: &Grant<'_>, making: Making<'_>) -> Claims {
    let Basis { identity, resource, policy, issuer } = grant.basis;
    let Identity { namespace, name, uid, .. } = identity;
    let Making { actor, user, now, expires, jti, transaction } = making;
    let lineage = user.map(|user| user.lineage.clone()).into_iter().chain([jti.to_owned()]).collect();
    let (pod_name, pod_uid) = actor.pod.clone().unwrap_or_default();
    Claims {
        iss: issuers.broker.clone(),
        aud: resource.identifier.as_str().to_owned(),
        sub: user.map_or_else(|| actor.account.clone(), |user| user.username.clone()),
        sub_profile: Claims::profile(user.is_some()),
        act: user.is_some().then(|| Act::agent(&issuers.cluster, &actor.account)),
        client_id: actor.account.clone(),
        scope: grant.scopes().collect::<Vec<_>>().join(" "),
        iat: now.as_second(),
        exp: expires.as_second(),
        jti: jti.to_owned(),
        txn: transaction.to_owned(),
        auth_time: user.and_then(|user| user.auth_time).map(Timestamp::as_second),
        groups: user.and_then(|user| user.groups.clone()),
        provenance: Provenance {
            agent: AgentRef { namespace: namespace.clone(), name: name.clone(), uid: uid.clone() },
            serviceaccount_uid: actor.account_uid.clone(),
            pod: PodRef { name: pod_name, uid: pod_uid },
            policy: version(&policy.origin),
            resource: version(&resource.origin),
            issuer: issuer.map(|issuer| version(&issuer.origin)),
            lineage,
            rights: user
                .map(|user| Rights { mode: user.rights.0.to_owned(), as_of: user.rights.1.as_second() }),
        },
    }
}
