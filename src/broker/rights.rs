//! What a user may do now, by the API server's word: a SubjectAccessReview for each scope, on the resource's own object.
//!
//! A permit is believed for five seconds and a denial for one. Who asks the same at the same time waits for one answer. What
//! cannot be known is not known, and never permitted.

use super::question::ask;
use crate::{
    metrics::{BrokerMetrics, Lookups},
    policy::exchange::Right,
};
use aws_lc_rs::digest::{Context, SHA256};
use futures::future::join_all;
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec};
use kube::Client;
use moka::{Expiry, future::Cache};
use std::{
    collections::BTreeMap,
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{sync::Semaphore, time::timeout};

/// How long a permit is believed.
pub(super) const PERMIT: Duration = Duration::from_secs(5);
/// How long a denial is believed.
const DENIAL: Duration = Duration::from_secs(1);
/// Answers that are remembered.
const REMEMBERED: u64 = 50_000;
/// Reviews under way at once: they share the API server's queue with every workload.
const REVIEWS: usize = 32;
/// How long all scopes together may take.
const PATIENCE: Duration = Duration::from_secs(1);

/// What is asked: SHA-256 over user, groups, resource and scope.
type Question = [u8; 32];

/// What is remembered: whether the user may.
struct ByAnswer;

impl Expiry<Question, bool> for ByAnswer {
    fn expire_after_create(&self, _: &Question, allowed: &bool, _: Instant) -> Option<Duration> {
        Some(if *allowed { PERMIT } else { DENIAL })
    }
}

/// A user, as the API server is to judge him.
#[derive(Clone, Copy, Debug)]
pub struct Person<'a> {
    /// His name.
    pub username: &'a str,
    /// His groups.
    pub groups: &'a [String],
}

/// Asks the API server what users may do.
pub(super) struct Rights {
    client: Client,
    known: Cache<Question, bool>,
    lookups: Lookups,
    metrics: Arc<BrokerMetrics>,
    turns: Semaphore,
}

impl fmt::Debug for Rights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Rights")
    }
}

impl Rights {
    /// Questions to this API server.
    pub(super) fn new(client: Client, metrics: &Arc<BrokerMetrics>) -> Self {
        let known = Cache::builder().max_capacity(REMEMBERED).expire_after(ByAnswer).build();
        let (lookups, turns) = (metrics.lookups("right"), Semaphore::new(REVIEWS));
        Self { client, known, lookups, metrics: Arc::clone(metrics), turns }
    }

    /// Whether `person` may have each of `scopes` at the ProtectedResource of this name.
    pub(super) async fn of<'s>(
        &self,
        person: Person<'_>,
        resource: &str,
        scopes: impl Iterator<Item = &'s str>,
    ) -> BTreeMap<String, Right> {
        let ask = async |scope: &'s str| {
            let answer = timeout(PATIENCE, self.one(person, resource, scope)).await;
            (scope.to_owned(), answer.unwrap_or(Right::Unknown))
        };
        join_all(scopes.map(ask)).await.into_iter().collect()
    }

    async fn one(&self, person: Person<'_>, resource: &str, scope: &str) -> Right {
        if person.is_of_kubernetes() {
            return Right::Denied;
        }
        let Some(question) = question(person, resource, scope) else { return Right::Unknown };
        let known = self.known.get(&question).await;
        self.lookups.looked(known.is_some());
        let answer = match known {
            Some(known) => Ok(known),
            None => self.known.try_get_with(question, self.review(person, resource, scope)).await,
        };
        match answer {
            Ok(true) => Right::Allowed,
            Ok(false) => Right::Denied,
            Err(_) => Right::Unknown,
        }
    }

    async fn review(&self, person: Person<'_>, resource: &str, scope: &str) -> Result<bool, ()> {
        let _turn = self.turns.acquire().await.map_err(|_| ())?;
        let review = review(person, resource, scope);
        let answer = ask(&self.client, &review).await;
        let said = match &answer {
            Ok(answer) => allowed(answer),
            Err(error) => {
                tracing::warn!(%error, resource, scope, "what a user may do could not be asked");
                None
            }
        };
        let result = said.map_or("failed", |allowed| if allowed { "yes" } else { "no" });
        self.metrics.reviewed("SubjectAccessReview", result);
        said.ok_or(())
    }
}

impl Person<'_> {
    /// Whether it has one of Kubernetes' own names. Those are nobody's to lend: a review with the group system:masters
    /// permits everything.
    pub fn is_of_kubernetes(&self) -> bool {
        let is_kubernetes = |name: &str| name.starts_with("system:");
        is_kubernetes(self.username) || self.groups.iter().any(|group| is_kubernetes(group))
    }
}

/// What to ask the API server: whether `person` may have `scope` at the ProtectedResource of this name.
pub fn review(person: Person<'_>, resource: &str, scope: &str) -> SubjectAccessReview {
    let attributes = ResourceAttributes {
        group: Some("deputy.dev".to_owned()),
        version: Some("v1alpha1".to_owned()),
        resource: Some("protectedresources".to_owned()),
        subresource: Some("scopes".to_owned()),
        name: Some(resource.to_owned()),
        verb: Some(scope.to_owned()),
        ..ResourceAttributes::default()
    };
    let groups = person.groups.iter().cloned().chain(["system:authenticated".to_owned()]);
    let spec = SubjectAccessReviewSpec {
        user: Some(person.username.to_owned()),
        groups: Some(groups.collect()),
        resource_attributes: Some(attributes),
        ..SubjectAccessReviewSpec::default()
    };
    SubjectAccessReview { spec, ..SubjectAccessReview::default() }
}

/// What the API server answered. Without a status nothing was decided.
pub fn allowed(answer: &SubjectAccessReview) -> Option<bool> {
    answer.status.as_ref().map(|status| status.allowed && status.denied != Some(true))
}

/// Over the parts and their lengths, so that no two questions are one.
fn question(person: Person<'_>, resource: &str, scope: &str) -> Option<Question> {
    let mut digest = Context::new(&SHA256);
    let groups = person.groups.iter().map(String::as_str);
    for part in [person.username, resource, scope].into_iter().chain(groups) {
        digest.update(&(part.len() as u64).to_be_bytes());
        digest.update(part.as_bytes());
    }
    digest.finish().as_ref().try_into().ok()
}
