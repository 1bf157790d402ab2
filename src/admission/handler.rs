//! The way of one request: a review of a kind we registered for, a decision, an answer.

use super::{
    intake::{Intake, Taken},
    review::{Answer, Request},
    wording,
};
use crate::{
    api::v1alpha1::ExceptionEffect,
    identity::{TrustDomain, account_name},
    index::{Exception, Identity, Snapshot, freshness::Freshness},
    metrics::{self, AdmissionMetrics, DecodeError, Effect, Pass, Verdict},
    policy::{
        Action, Admission, Finding, Malformed, Mutation, Settings, Subject, Template, admit, admit_template,
        mutate,
    },
};
use axum::{
    Json, Router,
    body::Body,
    extract::State,
    http::HeaderMap,
    response::{IntoResponse, Response},
    routing::post,
};
use k8s_openapi::jiff::Timestamp;
use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Duration,
};
use tokio::{
    sync::{Semaphore, SemaphorePermit, watch},
    time::{Instant, timeout_at},
};

/// What one replica takes on at most.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Bytes of one review. The API server sends at most twice an object's 3 MiB and some.
    pub body_bytes: usize,
    /// Bytes of all bodies that arrive or are being parsed.
    pub bodies_bytes: usize,
    /// Bytes that one review may take once it is parsed.
    pub review_bytes: usize,
    /// Bytes that all reviews being judged may take.
    pub reviews_bytes: usize,
    /// Bytes of these that may wait for an identity; more are refused at once. Less than the whole, or reviews that
    /// only wait would keep out those that can be judged.
    pub waiting_bytes: usize,
    /// Time for a body to arrive, and for room for it. Shorter than the API server's own patience, so that it hears
    /// why.
    pub body_time: Duration,
    /// How long a review waits for an identity.
    pub mutation_wait: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body_bytes: 8 << 20,
            bodies_bytes: 16 << 20,
            review_bytes: 64 << 20,
            reviews_bytes: 96 << 20,
            waiting_bytes: 32 << 20,
            body_time: Duration::from_secs(3),
            mutation_wait: Duration::from_secs(2),
        }
    }
}

/// The webhook: what it decides on and what it counts.
#[derive(Debug)]
pub struct Webhook {
    snapshots: watch::Receiver<Arc<Snapshot>>,
    freshness: watch::Receiver<Freshness>,
    settings: Settings,
    clock: fn() -> Timestamp,
    trust_domain: TrustDomain,
    metrics: Arc<AdmissionMetrics>,
    intake: Intake,
    waiting: Semaphore,
    wait: Duration,
}

impl Webhook {
    /// A webhook that decides on the newest of `snapshots` and by `clock`, and permits as long as `freshness` allows.
    pub fn new(
        snapshots: watch::Receiver<Arc<Snapshot>>,
        freshness: watch::Receiver<Freshness>,
        settings: Settings,
        clock: fn() -> Timestamp,
        trust_domain: TrustDomain,
        metrics: Arc<AdmissionMetrics>,
        limits: Limits,
    ) -> Self {
        let waiting = Semaphore::new(limits.waiting_bytes / 1024);
        let wait = limits.mutation_wait;
        Self {
            snapshots,
            freshness,
            settings,
            clock,
            trust_domain,
            metrics,
            intake: Intake::new(limits),
            waiting,
            wait,
        }
    }
}

/// The routes `/mutate` and `/validate`; `/validate-foreign`, for pods that are no agent's and need not be; and `/warn`, for
/// templates of agents' pods, which refuses nothing.
pub fn router(webhook: Arc<Webhook>) -> Router {
    Router::new()
        .route("/validate-foreign", post(serve_foreign))
        .route("/mutate", post(serve_mutate))
        .route("/validate", post(serve_validate))
        .route("/warn", post(serve_template))
        .with_state(webhook)
}

async fn serve_mutate(State(webhook): State<Arc<Webhook>>, headers: HeaderMap, body: Body) -> Response {
    webhook.serve(metrics::Webhook::Mutate, &headers, body).await
}

async fn serve_validate(State(webhook): State<Arc<Webhook>>, headers: HeaderMap, body: Body) -> Response {
    webhook.serve(metrics::Webhook::Validate, &headers, body).await
}

async fn serve_foreign(State(webhook): State<Arc<Webhook>>, headers: HeaderMap, body: Body) -> Response {
    webhook.serve(metrics::Webhook::Foreign, &headers, body).await
}

async fn serve_template(State(webhook): State<Arc<Webhook>>, headers: HeaderMap, body: Body) -> Response {
    webhook.serve(metrics::Webhook::Template, &headers, body).await
}

/// A review that is one, but could not be judged.
#[derive(Debug, thiserror::Error)]
enum Unjudged {
    #[error("the pod cannot be judged: {0}")]
    Malformed(#[from] Malformed),
    #[error("judging the pod failed, which is a fault of Deputy; its log says where")]
    Panicked,
    #[error("this webhook judges the creation of pods, their debug containers and their templates only")]
    Unexpected,
}

impl Unjudged {
    fn class(&self) -> DecodeError {
        match self {
            Self::Malformed(_) => DecodeError::MalformedPod,
            Self::Panicked => DecodeError::Panic,
            Self::Unexpected => DecodeError::Unexpected,
        }
    }

    fn answer(&self, uid: &str) -> Answer {
        match self {
            Self::Panicked => Answer::fail(uid, self.to_string()),
            Self::Malformed(_) | Self::Unexpected => Answer::reject(uid, self.to_string()),
        }
    }
}

/// What an exception does, as it is counted.
fn effect(exception: &Exception) -> Pass {
    match exception.effect {
        ExceptionEffect::Allow => Pass::Allow,
        ExceptionEffect::Warn => Pass::Warn,
    }
}

/// Runs a decision. One pod that a rule stumbles over must not take along the reviews that share its connection.
fn guarded<T>(decide: impl FnOnce() -> Result<T, Malformed>) -> Result<T, Unjudged> {
    catch_unwind(AssertUnwindSafe(decide)).map_err(|_| Unjudged::Panicked)?.map_err(Unjudged::from)
}

type Judged = (Verdict, Answer);

impl Webhook {
    async fn serve(&self, kind: metrics::Webhook, headers: &HeaderMap, body: Body) -> Response {
        let started = Instant::now();
        let (verdict, response) = match self.intake.read(headers, body).await {
            Ok(taken) => {
                let (verdict, answer) = self.answer(kind, &taken).await;
                (verdict, Json(answer).into_response())
            }
            Err(error) => {
                let (status, class) = error.classes();
                tracing::warn!(webhook = ?kind, %error, "request refused unread");
                self.metrics.unreadable(kind, class);
                let response = match error.uid() {
                    Some(uid) if kind == metrics::Webhook::Template => {
                        let warning = format!("Deputy cannot say what becomes of the pods: {error}");
                        Json(Answer::allow(uid).warn(vec![warning])).into_response()
                    }
                    Some(uid) => Json(Answer::reject(uid, error.to_string())).into_response(),
                    None => (status, error.to_string()).into_response(),
                };
                (Verdict::Unreadable, response)
            }
        };
        self.metrics.reviewed(kind, verdict, started.elapsed());
        response
    }

    async fn answer(&self, kind: metrics::Webhook, taken: &Taken<'_>) -> Judged {
        let request = &taken.review.request;
        let judged = self.judge(kind, request, Patience::new(self, taken.weight)).await;
        let fresh = |judged| match kind {
            // A warning permits nothing.
            metrics::Webhook::Template => judged,
            _ => self.on_a_fresh_view(request, judged),
        };
        judged.map(fresh).unwrap_or_else(|unjudged| {
            tracing::warn!(
                webhook = ?kind,
                namespace = request.namespace,
                name = request.shown_name(),
                user = request.user_info.username,
                error = %unjudged,
                "review refused unjudged"
            );
            self.metrics.unreadable(kind, unjudged.class());
            let answer = match kind {
                metrics::Webhook::Template => Answer::allow(&request.uid),
                _ => unjudged.answer(&request.uid),
            };
            (Verdict::Unreadable, answer)
        })
    }

    /// The verdict, unless it permits something on a view that is too old. Denials always stand.
    fn on_a_fresh_view(&self, request: &Request, judged: Judged) -> Judged {
        let permits = matches!(judged.0, Verdict::Allowed | Verdict::Patched);
        match self.freshness.borrow().check(Instant::now().into_std()) {
            Err(stale) if permits => {
                let message = format!(
                    "Deputy permits nothing at the moment: {stale}; try again, and see docs/operations.md#stale"
                );
                (Verdict::Stale, Answer::unavailable(&request.uid, message))
            }
            _ => judged,
        }
    }

    async fn judge(
        &self,
        kind: metrics::Webhook,
        request: &Request,
        patience: Patience<'_>,
    ) -> Result<Judged, Unjudged> {
        if request.creates_pod() && request.is_mirror_pod() {
            return Ok((Verdict::Mirror, Answer::allow(&request.uid).audit("mirror", "true".to_owned())));
        }
        match kind {
            metrics::Webhook::Mutate if request.creates_pod() => self.mutate(request, patience).await,
            metrics::Webhook::Validate if request.creates_pod() => self.validate(request, patience).await,
            metrics::Webhook::Validate if request.adds_debug_containers() => {
                self.validate_once(request, Subject::DebugContainers)
            }
            metrics::Webhook::Foreign if request.creates_pod() => {
                self.validate_once(request, Subject::ForeignPod)
            }
            metrics::Webhook::Foreign if request.adds_debug_containers() => {
                self.validate_once(request, Subject::ForeignDebugContainers)
            }
            metrics::Webhook::Template => self.warn(request, patience).await,
            _ => Err(Unjudged::Unexpected),
        }
    }

    /// Says what will become of a template's pods.
    async fn warn(&self, request: &Request, mut patience: Patience<'_>) -> Result<Judged, Unjudged> {
        let template = Template::of(&request.object).ok_or(Unjudged::Unexpected)?;
        // The API server waits for two seconds in all.
        patience.deadline -= self.wait / 2;
        loop {
            let (snapshot, now) = (patience.snapshot(), (self.clock)());
            let judge = || admit_template(template, &request.namespace, &snapshot, now, &self.settings);
            let Some(admission) = guarded(judge)? else {
                return Ok((Verdict::Allowed, Answer::allow(&request.uid)));
            };
            if admission.awaited && patience.is_rewarded().await {
                continue;
            }
            let answer = Answer::allow(&request.uid).warn(wording::told(&admission, now));
            return Ok((
                Verdict::Allowed,
                self.audited(answer, &admission.findings, admission.identity, &snapshot),
            ));
        }
    }

    async fn mutate(&self, request: &Request, mut patience: Patience<'_>) -> Result<Judged, Unjudged> {
        loop {
            let snapshot = patience.snapshot();
            let finding = match guarded(|| {
                mutate(&request.object, &request.namespace, &snapshot, &self.settings)
            })? {
                Mutation::NotAnAgent => return Ok((Verdict::Allowed, Answer::allow(&request.uid))),
                Mutation::Refuse(findings) => return Ok(self.deny(request, &findings, None, &snapshot)),
                Mutation::Wait(finding) => finding,
                Mutation::Patch { operations, warnings, identity } => {
                    let allowed = self.allow(request, &warnings, Some(identity), &snapshot);
                    let verdict = if operations.0.is_empty() { Verdict::Allowed } else { Verdict::Patched };
                    return Ok((verdict, allowed.patch(&operations).map_err(|_| Unjudged::Panicked)?));
                }
            };
            if !patience.is_rewarded().await {
                return Ok(self.deny(request, &[finding], None, &snapshot));
            }
        }
    }

    /// Judges a pod being created. What another replica has mutated by an account that this one is yet to hear of is
    /// waited for as well.
    async fn validate(&self, request: &Request, mut patience: Patience<'_>) -> Result<Judged, Unjudged> {
        loop {
            let snapshot = patience.snapshot();
            let now = (self.clock)();
            let admission = self.admit(request, Subject::Pod, &snapshot, now)?;
            let may_wait = admission.is_denied() && admission.awaited;
            if !may_wait || !patience.is_rewarded().await {
                return Ok(self.verdict(request, &admission, &snapshot, now));
            }
        }
    }

    /// Judges what nothing that is on its way could make right.
    fn validate_once(&self, request: &Request, subject: Subject) -> Result<Judged, Unjudged> {
        let snapshot = Arc::clone(&self.snapshots.borrow());
        let now = (self.clock)();
        let admission = self.admit(request, subject, &snapshot, now)?;
        Ok(self.verdict(request, &admission, &snapshot, now))
    }

    fn admit<'a>(
        &self,
        request: &Request,
        subject: Subject,
        snapshot: &'a Snapshot,
        now: Timestamp,
    ) -> Result<Admission<'a>, Unjudged> {
        let Request { object, namespace, .. } = request;
        guarded(|| admit(object, namespace, subject, snapshot, now, &self.settings))
    }

    /// The answer to what the rules say.
    fn verdict(
        &self,
        request: &Request,
        admission: &Admission<'_>,
        snapshot: &Snapshot,
        now: Timestamp,
    ) -> Judged {
        let Admission { findings, exceptions, identity, .. } = admission;
        if admission.is_denied() {
            return self.deny(request, findings, *identity, snapshot);
        }
        for used in exceptions {
            self.metrics.excepted(used.rule.id, effect(used.exception));
        }
        let answer = self.allow(request, findings, *identity, snapshot).warn(wording::told(admission, now));
        (Verdict::Allowed, answer.audit("exceptions", wording::names(exceptions)))
    }

    fn allow(
        &self,
        request: &Request,
        findings: &[Finding],
        identity: Option<&Identity>,
        snapshot: &Snapshot,
    ) -> Answer {
        self.count(findings);
        let answer = Answer::allow(&request.uid).warn(wording::warnings(findings));
        self.audited(answer, findings, identity, snapshot)
    }

    fn deny(
        &self,
        request: &Request,
        findings: &[Finding],
        identity: Option<&Identity>,
        snapshot: &Snapshot,
    ) -> Judged {
        self.count(findings);
        tracing::info!(
            namespace = request.namespace,
            name = request.shown_name(),
            user = request.user_info.username,
            rules = wording::rules(findings),
            snapshot = snapshot.version,
            "pod refused"
        );
        let answer = Answer::forbid(&request.uid, wording::message(findings));
        (Verdict::Denied, self.audited(answer, findings, identity, snapshot))
    }

    /// Puts on the API server's record what the answer was made from.
    fn audited(
        &self,
        answer: Answer,
        findings: &[Finding],
        identity: Option<&Identity>,
        snapshot: &Snapshot,
    ) -> Answer {
        let answer =
            answer.audit("rules", wording::rules(findings)).audit("snapshot", snapshot.version.to_string());
        match identity {
            None => answer,
            Some(Identity { uid, namespace, name, .. }) => answer
                .audit("identity", uid.clone())
                .audit("principal", self.trust_domain.principal(namespace, &account_name(name))),
        }
    }

    fn count(&self, findings: &[Finding]) {
        for finding in findings {
            let effect = match finding.action {
                Action::Deny => Effect::Deny,
                Action::Warn => Effect::Warn,
            };
            self.metrics.violation(finding.rule.id, effect);
        }
    }
}

/// One review's wait for an identity or account that may be on its way: one `kubectl apply` of an identity and its pod
/// sends the pod a few milliseconds behind the identity. Bounded in time and in the memory of all that wait.
struct Patience<'a> {
    webhook: &'a Webhook,
    weight: u32,
    snapshots: watch::Receiver<Arc<Snapshot>>,
    deadline: Instant,
    place: Option<(SemaphorePermit<'a>, metrics::Waiting)>,
}

impl<'a> Patience<'a> {
    fn new(webhook: &'a Webhook, weight: u32) -> Self {
        let deadline = Instant::now() + webhook.wait;
        Self { webhook, weight, snapshots: webhook.snapshots.clone(), deadline, place: None }
    }

    /// The newest snapshot.
    fn snapshot(&mut self) -> Arc<Snapshot> {
        Arc::clone(&self.snapshots.borrow_and_update())
    }

    /// Whether a newer snapshot came in time. At once false if too many wait already.
    async fn is_rewarded(&mut self) -> bool {
        if self.place.is_none() {
            let Ok(place) = self.webhook.waiting.try_acquire_many(self.weight) else { return false };
            self.place = Some((place, self.webhook.metrics.waiting()));
        }
        matches!(timeout_at(self.deadline, self.snapshots.changed()).await, Ok(Ok(())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_an_answer() {
        let unjudged = guarded::<()>(|| panic!("a value of the pod")).unwrap_err();
        assert_eq!(unjudged.class(), DecodeError::Panic);
        assert!(!unjudged.to_string().contains("value"), "{unjudged}");
    }
}
