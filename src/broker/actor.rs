//! Who asks: an agent, by the token that is projected into its pod. The API server says once whose token it is; whether that
//! pod lives and its agent may act, the snapshot says at every request.

use crate::{
    identity::agent_of_account,
    index::{Identity, Snapshot, Standing},
    oauth::Reason,
};
use aws_lc_rs::digest::{SHA256, digest};
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use k8s_openapi::{
    api::authentication::v1::{TokenReview, TokenReviewSpec, UserInfo},
    jiff::Timestamp,
};
use kube::{Api, Client, api::PostParams};
use moka::future::Cache;
use serde::{Deserialize, de::IgnoredAny};
use std::{sync::Arc, time::Duration};
use tokio::{sync::Semaphore, time::timeout};

/// How long what the API server said of a token is believed.
const BELIEVED: Duration = Duration::from_secs(300);
/// Tokens of which it is remembered.
const REMEMBERED: u64 = 20_000;
/// Reviews under way at once: the API server answers some three thousand a second, to everybody together.
const REVIEWS: usize = 64;
/// How long one may take, the wait for its turn included.
const PATIENCE: Duration = Duration::from_secs(1);

/// An agent whose token the API server knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Actor {
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

/// What a token says of itself.
#[derive(Deserialize)]
struct Claims {
    iss: String,
    aud: Audience,
    exp: i64,
    act: Option<IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Many(Vec<String>),
}

/// Reads what decides whether the API server need be asked at all; returns when the token ends. Nothing of it is believed.
///
/// # Errors
/// The first thing that is wrong.
pub fn prefilter(token: &str, cluster: &str, broker: &str, now: Timestamp) -> Result<Timestamp, Reason> {
    let mut parts = token.split('.');
    let (Some(_), Some(payload), Some(_), None) = (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(Reason::ActorMalformed);
    };
    let payload = BASE64_URL_SAFE_NO_PAD.decode(payload).map_err(|_| Reason::ActorMalformed)?;
    let claims: Claims = serde_json::from_slice(&payload).map_err(|_| Reason::ActorMalformed)?;
    if claims.iss != cluster {
        return Err(Reason::ActorIssuer);
    }
    let sole = match &claims.aud {
        Audience::One(audience) => audience == broker,
        Audience::Many(audiences) => matches!(&audiences[..], [audience] if audience == broker),
    };
    if !sole {
        return Err(Reason::ActorAudience);
    }
    let expires = Timestamp::from_second(claims.exp).map_err(|_| Reason::ActorMalformed)?;
    if expires <= now {
        return Err(Reason::ActorExpired);
    }
    if claims.act.is_some() {
        return Err(Reason::ActorNested);
    }
    Ok(expires)
}

/// Asks the API server whose a token is.
#[derive(Debug)]
pub struct Reviews {
    api: Api<TokenReview>,
    audience: String,
    known: Cache<[u8; 32], Arc<Actor>>,
    turns: Semaphore,
}

impl Reviews {
    /// Reviews of tokens for `audience`, this broker's issuer.
    pub fn new(client: Client, audience: String) -> Self {
        let known = Cache::builder().max_capacity(REMEMBERED).time_to_live(BELIEVED).build();
        Self { api: Api::all(client), audience, known, turns: Semaphore::new(REVIEWS) }
    }

    /// The agent whose token this is, which ends at `expires`. Requests with one token wait for one review.
    ///
    /// # Errors
    /// When it is nobody's, or the API server does not say.
    pub async fn actor(&self, token: &str, expires: Timestamp) -> Result<Arc<Actor>, Reason> {
        let hash = digest(&SHA256, token.as_bytes());
        let key: [u8; 32] = hash.as_ref().try_into().map_err(|_| Reason::ActorUnknown)?;
        let asked = async {
            let review = timeout(PATIENCE, self.review(token)).await.map_err(|_| Reason::ActorUnknown)??;
            read(review, expires).map(Arc::new)
        };
        self.known.try_get_with(key, asked).await.map_err(|reason| *reason)
    }

    async fn review(&self, token: &str) -> Result<UserInfo, Reason> {
        let _turn = self.turns.acquire().await.map_err(|_| Reason::ActorUnknown)?;
        let spec =
            TokenReviewSpec { token: Some(token.to_owned()), audiences: Some(vec![self.audience.clone()]) };
        let review = TokenReview { spec, ..TokenReview::default() };
        let answer = self.api.create(&PostParams::default(), &review).await.map_err(|error| {
            tracing::warn!(%error, "a token could not be reviewed");
            Reason::ActorUnknown
        })?;
        let status = answer.status.unwrap_or_default();
        // An API server that knows nothing of audiences says nothing of them.
        let is_for_us = status.audiences.iter().flatten().any(|audience| *audience == self.audience);
        if status.authenticated != Some(true) || !is_for_us {
            return Err(Reason::ActorTokenInvalid);
        }
        status.user.ok_or(Reason::ActorTokenInvalid)
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
pub enum Presence {
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
    pub fn standing<'a>(
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
    use serde_json::{Value, json};

    const CLUSTER: &str = "https://kubernetes.default.svc";
    const BROKER: &str = "https://deputy.example.com";

    fn token(claims: &Value) -> String {
        format!("e30.{}.c2ln", BASE64_URL_SAFE_NO_PAD.encode(claims.to_string()))
    }

    fn now() -> Timestamp {
        Timestamp::from_second(1_800_000_000).unwrap()
    }

    #[test]
    fn what_is_not_worth_a_review_is_told_why() {
        let good = json!({"iss": CLUSTER, "aud": [BROKER], "exp": 1_800_000_001});
        let with = |field: &str, value: Value| {
            let mut claims = good.clone();
            claims[field] = value;
            token(&claims)
        };
        assert_eq!(prefilter(&token(&good), CLUSTER, BROKER, now()).unwrap().as_second(), 1_800_000_001);
        assert!(prefilter(&with("aud", json!(BROKER)), CLUSTER, BROKER, now()).is_ok());
        let cases = [
            ("no JWT", "a.b".to_owned(), Reason::ActorMalformed),
            ("four parts", format!("{}.x", token(&good)), Reason::ActorMalformed),
            ("no JSON", "e30.bm9uZQ.c2ln".to_owned(), Reason::ActorMalformed),
            ("another issuer", with("iss", json!("https://idp.example.com")), Reason::ActorIssuer),
            ("the API server's audience", with("aud", json!([CLUSTER])), Reason::ActorAudience),
            ("several audiences", with("aud", json!([BROKER, "x"])), Reason::ActorAudience),
            ("ended now", with("exp", json!(1_800_000_000)), Reason::ActorExpired),
            ("an end that is none", with("exp", json!("1800000001")), Reason::ActorMalformed),
            ("an end beyond time", with("exp", json!(9e30)), Reason::ActorMalformed),
            ("corpus_18_actor_with_act", with("act", json!({"sub": "x"})), Reason::ActorNested),
        ];
        for (what, token, reason) in cases {
            assert_eq!(prefilter(&token, CLUSTER, BROKER, now()), Err(reason), "{what}");
        }
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
