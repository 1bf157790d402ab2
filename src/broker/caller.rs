//! Who asks about somebody else's action: a ServiceAccount, by its own token for this broker. The API server says whose it is;
//! which resources it may ask about, their owners say.

use super::reviews::Reviews;
use crate::{metrics::BrokerMetrics, oauth::Reason};
use http::{HeaderMap, header::AUTHORIZATION};
use k8s_openapi::{api::authentication::v1::UserInfo, jiff::Timestamp};
use kube::Client;
use std::{sync::Arc, time::Duration};

/// How long what the API server said of a token is believed. Nobody watches the pods of callers: one that has ended may ask
/// for as long.
const BELIEVED: Duration = Duration::from_secs(60);

/// A ServiceAccount whose token the API server knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Caller {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub account: String,
    /// Its username.
    pub username: String,
}

impl Reviews<Caller> {
    /// Whose tokens for `audience`, this broker's issuer, are.
    pub(super) fn of_callers(client: Client, audience: String, metrics: &Arc<BrokerMetrics>) -> Self {
        Self::new(client, audience, BELIEVED, read, metrics.lookups("caller"), Arc::clone(metrics))
    }

    /// Who sent these `headers`, by a token of the issuer `cluster` for this broker alone.
    ///
    /// # Errors
    /// [`Reason::CallerUnauthenticated`] when that cannot be told, [`Reason::CallerUnknown`] when the API server does not say.
    pub(super) async fn caller(
        &self,
        headers: &HeaderMap,
        cluster: &str,
        now: Timestamp,
    ) -> Result<Arc<Caller>, Reason> {
        let token = bearer(headers).ok_or(Reason::CallerUnauthenticated)?;
        self.of(token, cluster, now).await.map_err(|reason| match reason {
            Reason::ActorUnknown => Reason::CallerUnknown,
            _ => Reason::CallerUnauthenticated,
        })
    }
}

/// The one Bearer token of a request (RFC 6750, section 2.1).
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let (Some(value), None) = (values.next(), values.next()) else { return None };
    let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

fn read(user: UserInfo, _: Timestamp) -> Result<Caller, Reason> {
    let username = user.username.unwrap_or_default();
    let account = username.strip_prefix("system:serviceaccount:").and_then(|account| account.split_once(':'));
    let (namespace, account) = account.ok_or(Reason::CallerUnauthenticated)?;
    Ok(Caller { namespace: namespace.to_owned(), account: account.to_owned(), username: username.clone() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_caller_sends_one_bearer_token() {
        let headers = |values: &[&'static str]| {
            let value = |value: &&'static str| (AUTHORIZATION, http::HeaderValue::from_static(value));
            values.iter().map(value).collect::<HeaderMap>()
        };
        assert_eq!(bearer(&headers(&["Bearer a.b.c"])), Some("a.b.c"));
        assert_eq!(bearer(&headers(&["bearer  a.b.c "])), Some("a.b.c"));
        for none in [&[][..], &["Basic x"], &["Bearer"], &["Bearer a", "Bearer b"]] {
            assert_eq!(bearer(&headers(none)), None, "{none:?}");
        }
    }

    #[test]
    fn a_caller_is_an_account() {
        let named =
            |name: &str| read(UserInfo { username: Some(name.into()), ..<_>::default() }, Timestamp::MAX);
        let found = named("system:serviceaccount:papers:api").unwrap();
        assert_eq!((found.namespace.as_str(), found.account.as_str()), ("papers", "api"));
        for other in ["alice", "system:node:n", ""] {
            assert_eq!(named(other), Err(Reason::CallerUnauthenticated), "{other}");
        }
    }
}
