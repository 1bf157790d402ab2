//! Whose a token of this cluster is, by the API server's word, which is asked at first sight.

use super::question::ask;
use crate::{
    metrics::{BrokerMetrics, Lookups},
    oauth::Reason,
};
use aws_lc_rs::digest::{SHA256, digest};
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use k8s_openapi::{
    api::authentication::v1::{TokenReview, TokenReviewSpec, UserInfo},
    jiff::Timestamp,
};
use kube::Client;
use moka::future::Cache;
use serde::{Deserialize, de::IgnoredAny};
use std::{fmt, sync::Arc, time::Duration};
use tokio::{sync::Semaphore, time::timeout};

/// Tokens of which it is remembered.
const REMEMBERED: u64 = 20_000;
/// Reviews under way at once: the API server answers some three thousand a second, to everybody together.
const REVIEWS: usize = 64;
/// How long one may take, the wait for its turn included.
const PATIENCE: Duration = Duration::from_secs(1);

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
fn prefilter(token: &str, cluster: &str, broker: &str, now: Timestamp) -> Result<Timestamp, Reason> {
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

/// What is made of whom the API server names: a `T` whose token ends at that time, or why it is none.
type Reading<T> = fn(UserInfo, Timestamp) -> Result<T, Reason>;

/// Asks the API server whose a token is.
pub(super) struct Reviews<T> {
    client: Client,
    audience: String,
    /// And when the token ends.
    known: Cache<[u8; 32], (Arc<T>, Timestamp)>,
    lookups: Lookups,
    metrics: Arc<BrokerMetrics>,
    read: Reading<T>,
    turns: Semaphore,
}

impl<T> fmt::Debug for Reviews<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Reviews for {}", self.audience)
    }
}

impl<T: Send + Sync + 'static> Reviews<T> {
    /// Reviews of tokens for `audience`, this broker's issuer, each believed for so long.
    pub(super) fn new(
        client: Client,
        audience: String,
        believed: Duration,
        read: Reading<T>,
        lookups: Lookups,
        metrics: Arc<BrokerMetrics>,
    ) -> Self {
        let known = Cache::builder().max_capacity(REMEMBERED).time_to_live(believed).build();
        let turns = Semaphore::new(REVIEWS);
        Self { client, audience, known, lookups, metrics, read, turns }
    }

    /// Whose token this is at `now`, which `cluster` should have issued. Requests with one token wait for one review.
    ///
    /// # Errors
    /// When it is nobody's, or the API server does not say, or need not be asked.
    pub(super) async fn of(&self, token: &str, cluster: &str, now: Timestamp) -> Result<Arc<T>, Reason> {
        let hash = digest(&SHA256, token.as_bytes());
        let key: [u8; 32] = hash.as_ref().try_into().map_err(|_| Reason::ActorUnknown)?;
        // What it says of itself it says still, and only the time is another.
        let known = self.known.get(&key).await;
        self.lookups.looked(known.is_some());
        if let Some((known, expires)) = known {
            return if expires <= now { Err(Reason::ActorExpired) } else { Ok(known) };
        }
        let expires = prefilter(token, cluster, &self.audience, now)?;
        let asked = async {
            let review = timeout(PATIENCE, self.review(token)).await.map_err(|_| Reason::ActorUnknown)??;
            Ok((Arc::new((self.read)(review, expires)?), expires))
        };
        let known = self.known.try_get_with(key, asked).await;
        known.map(|(known, _)| known).map_err(|reason: Arc<Reason>| *reason)
    }

    async fn review(&self, token: &str) -> Result<UserInfo, Reason> {
        let _turn = self.turns.acquire().await.map_err(|_| Reason::ActorUnknown)?;
        let spec =
            TokenReviewSpec { token: Some(token.to_owned()), audiences: Some(vec![self.audience.clone()]) };
        let review = TokenReview { spec, ..TokenReview::default() };
        let answer = ask(&self.client, &review).await.map_err(|error| {
            tracing::warn!(%error, "a token could not be reviewed");
            self.metrics.reviewed("TokenReview", "failed");
            Reason::ActorUnknown
        })?;
        let status = answer.status.unwrap_or_default();
        // An API server that knows nothing of audiences says nothing of them.
        let is_for_us = status.audiences.iter().flatten().any(|audience| *audience == self.audience);
        let is_good = status.authenticated == Some(true) && is_for_us;
        self.metrics.reviewed("TokenReview", if is_good { "yes" } else { "no" });
        if !is_good {
            return Err(Reason::ActorTokenInvalid);
        }
        status.user.ok_or(Reason::ActorTokenInvalid)
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
}
