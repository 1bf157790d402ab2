//! Who acts: an agent, by the token that is projected into its pod. The API server says once whose token it is; whether that
//! pod lives and its agent may act, the snapshot says at every request.

use super::reviews::Reviews;
use crate::{
    identity::agent_of_account,
    index::{Identity, Snapshot, Standing},
    metrics::BrokerMetrics,
    oauth::Reason,
};
use k8s_openapi::{api::authentication::v1::UserInfo, jiff::Timestamp};
use kube::Client;
use std::{sync::Arc, time::Duration};

/// How long what the API server said of a token is believed.
const BELIEVED: Duration = Duration::from_secs(300);

/// An agent whose token the API server knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Actor {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Username of its account.
    pub account: String,
    /// Uid of its account, as of the token's issue.
    pub account_uid: String,
    /// Name and uid of the pod that the token is bound to.
    pub pod: Option<(String, String)>,
    /// The `jti` of the token, by which the API server's audit log knows it.
    pub credential_id: Option<String>,
    /// When the token ends.
    pub expires: Timestamp,
}

impl Reviews<Actor> {
    /// Whose tokens for `audience`, this broker's issuer, are, if they are agents'.
    pub(super) fn of_agents(client: Client, audience: String, metrics: &Arc<BrokerMetrics>) -> Self {
        Self::new(client, audience, BELIEVED, read, metrics.lookups("actor"), Arc::clone(metrics))
    }
}

/// Reads whom the API server knows a token as.
fn read(user: UserInfo, expires: Timestamp) -> Result<Actor, Reason> {
    let account = user.username.unwrap_or_default();
    let (namespace, name) = account
        .strip_prefix("system:serviceaccount:")
        .and_then(|account| account.split_once(':'))
        .and_then(|(namespace, account)| Some((namespace, agent_of_account(account)?)))
        .filter(|(_, name)| !name.is_empty())
        .ok_or(Reason::ActorNotAnAgent)?;
    let one = |key: &str| {
        user.extra.as_ref()?.get(&format!("authentication.kubernetes.io/{key}"))?.first().cloned()
    };
    let credential_id = one("credential-id").map(|id| id.strip_prefix("JTI=").unwrap_or(&id).to_owned());
    Ok(Actor {
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        account_uid: user.uid.clone().unwrap_or_default(),
        pod: one("pod-name").zip(one("pod-uid")),
        credential_id,
        expires,
        account: account.clone(),
    })
}

/// Whether its pod is known to live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Presence {
    /// It lives.
    Live,
    /// It is not known: it may have begun a moment ago.
    Unseen,
}

impl Actor {
    /// The identity by which the agent may act in `snapshot` at `now`, and whether its pod is there.
    ///
    /// # Errors
    /// Why it may not act.
    pub(super) fn standing<'a>(
        &self,
        client_id: Option<&str>,
        snapshot: &'a Snapshot,
        now: Timestamp,
    ) -> Result<(&'a Identity, Presence), Reason> {
        if self.expires <= now {
            return Err(Reason::ActorExpired);
        }
        let Standing::Valid(identity) = snapshot.standing(&self.namespace, &self.name) else {
            return Err(Reason::AgentUnknown);
        };
        if snapshot.suspension(&self.namespace, &self.name).is_some() {
            return Err(Reason::AgentSuspended);
        }
        let Some((_, pod)) = &self.pod else { return Err(Reason::ActorUnbound) };
        let presence = match snapshot.pod(&self.namespace, pod) {
            Some(pod) if pod.lives(now) => Presence::Live,
            Some(_) => return Err(Reason::ActorPodGone),
            None => Presence::Unseen,
        };
        let account = snapshot.account(&self.namespace, &crate::identity::account_name(&self.name));
        if account.is_none_or(|account| account.uid != self.account_uid) {
            return Err(Reason::ActorAccountReplaced);
        }
        if client_id.is_some_and(|id| id != self.account) {
            return Err(Reason::ClientMismatch);
        }
        Ok((identity, presence))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Timestamp {
        Timestamp::from_second(1_800_000_000).unwrap()
    }

    #[test]
    fn whom_the_api_server_names_is_an_agent_or_nobody() {
        let user = |name: &str| UserInfo {
            username: Some(name.to_owned()),
            uid: Some("u".to_owned()),
            extra: Some(
                [
                    ("authentication.kubernetes.io/pod-name".to_owned(), vec!["p".to_owned()]),
                    ("authentication.kubernetes.io/pod-uid".to_owned(), vec!["pu".to_owned()]),
                    ("authentication.kubernetes.io/credential-id".to_owned(), vec!["JTI=j".to_owned()]),
                ]
                .into(),
            ),
            ..UserInfo::default()
        };
        let actor = read(user("system:serviceaccount:ns:agent.a"), now()).unwrap();
        assert_eq!((actor.namespace.as_str(), actor.name.as_str()), ("ns", "a"));
        assert_eq!(actor.pod, Some(("p".to_owned(), "pu".to_owned())));
        assert_eq!(actor.credential_id.as_deref(), Some("j"));
        for other in [
            "system:serviceaccount:ns:default",
            "system:admin",
            "agent.a",
            "",
            "system:serviceaccount:ns:agent.",
        ] {
            assert_eq!(read(user(other), now()), Err(Reason::ActorNotAnAgent), "{other}");
        }
    }
}
