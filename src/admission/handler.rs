//! The way of one request: bytes within bounds, a review of a kind we registered for, a decision, an answer.

use super::review::{Answer, Request, Review};
use crate::{
    index::Snapshot,
    metrics::{self, AdmissionMetrics, DecodeError, Effect, Verdict},
    policy::{Action, Finding, Malformed, Mutation, Settings, Subject, admit, mutate},
};
use axum::{
    Json, Router,
    body::{Body, Bytes, to_bytes},
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::post,
};
use serde_json::Value;
use std::{sync::Arc, time::Duration};
use tokio::{
    sync::{Semaphore, SemaphorePermit, watch},
    time::{Instant, timeout_at},
};

/// Findings in one answer; what goes beyond is counted. A pod can be made to break a rule ten thousand times.
const SHOWN_FINDINGS: usize = 40;
/// Warnings in one answer, and bytes in one warning: the API server cuts longer ones.
const SHOWN_WARNINGS: usize = 16;
const WARNING_BYTES: usize = 256;

/// What one replica takes on at most.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Bytes of one review. The API server sends at most twice an object's 3 MiB and some.
    pub body_bytes: usize,
    /// Bytes of all reviews in hand together.
    pub budget_bytes: usize,
    /// Time for a body to arrive, and for room for it.
    pub body_time: Duration,
    /// Reviews that wait for an identity at once; more are refused at once.
    pub waiters: usize,
    /// How long one of them waits.
    pub mutation_wait: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body_bytes: 8 << 20,
            budget_bytes: 24 << 20,
            body_time: Duration::from_secs(3),
            waiters: 256,
            mutation_wait: Duration::from_secs(2),
        }
    }
}

/// The webhook: what it decides on and what it counts.
#[derive(Debug)]
pub struct Webhook {
    snapshots: watch::Receiver<Arc<Snapshot>>,
    settings: Settings,
    metrics: Arc<AdmissionMetrics>,
    limits: Limits,
    budget: Semaphore,
    waiters: Semaphore,
}

impl Webhook {
    /// A webhook that decides on the newest of `snapshots`.
    pub fn new(
        snapshots: watch::Receiver<Arc<Snapshot>>,
        settings: Settings,
        metrics: Arc<AdmissionMetrics>,
        limits: Limits,
    ) -> Self {
        let budget = Semaphore::new(kibibytes(limits.budget_bytes) as usize);
        let waiters = Semaphore::new(limits.waiters);
        Self { snapshots, settings, metrics, limits, budget, waiters }
    }
}

/// The routes `/mutate` and `/validate`.
pub fn router(webhook: Arc<Webhook>) -> Router {
    Router::new()
        .route("/mutate", post(serve_mutate))
        .route("/validate", post(serve_validate))
        .with_state(webhook)
}

async fn serve_mutate(State(webhook): State<Arc<Webhook>>, headers: HeaderMap, body: Body) -> Response {
    serve(&webhook, metrics::Webhook::Mutate, &headers, body).await
}

async fn serve_validate(State(webhook): State<Arc<Webhook>>, headers: HeaderMap, body: Body) -> Response {
    serve(&webhook, metrics::Webhook::Validate, &headers, body).await
}

/// A request that is no review which could be answered as one.
#[derive(Debug, thiserror::Error)]
enum NoReview {
    #[error("send application/json")]
    ContentType,
    #[error("the review is larger than {0} bytes")]
    TooLarge(usize),
    #[error("the review did not arrive in time")]
    Incomplete,
    #[error("too many reviews at once; try again")]
    Overload,
    #[error("the body is no AdmissionReview: {0}")]
    Malformed(#[from] serde_json::Error),
    #[error("this webhook speaks admission.k8s.io/v1 AdmissionReview only")]
    WrongKind,
}

impl NoReview {
    fn classes(&self) -> (StatusCode, DecodeError) {
        match self {
            Self::ContentType => (StatusCode::UNSUPPORTED_MEDIA_TYPE, DecodeError::ContentType),
            Self::TooLarge(_) => (StatusCode::PAYLOAD_TOO_LARGE, DecodeError::BodyTooLarge),
            Self::Incomplete => (StatusCode::REQUEST_TIMEOUT, DecodeError::BodyIncomplete),
            Self::Overload => (StatusCode::SERVICE_UNAVAILABLE, DecodeError::Overload),
            Self::Malformed(_) => (StatusCode::BAD_REQUEST, DecodeError::Malformed),
            Self::WrongKind => (StatusCode::BAD_REQUEST, DecodeError::WrongKind),
        }
    }
}

async fn serve(webhook: &Webhook, kind: metrics::Webhook, headers: &HeaderMap, body: Body) -> Response {
    let started = Instant::now();
    let (verdict, response) = match webhook.read(headers, body).await {
        Ok((review, _room)) => {
            let (verdict, answer) = webhook.judge(kind, &review.request).await;
            (verdict, Json(answer).into_response())
        }
        Err(error) => {
            let (status, class) = error.classes();
            tracing::warn!(webhook = ?kind, %error, "request refused unread");
            webhook.metrics.unreadable(kind, class);
            (Verdict::Unreadable, (status, error.to_string()).into_response())
        }
    };
    webhook.metrics.reviewed(kind, verdict, started.elapsed());
    response
}

impl Webhook {
    /// The review, and its share of the budget, which is given back when the answer is made.
    async fn read(&self, headers: &HeaderMap, body: Body) -> Result<(Review, SemaphorePermit<'_>), NoReview> {
        let json = |value: &[u8]| value.split(|b| *b == b';').next() == Some(b"application/json");
        if !headers.get(header::CONTENT_TYPE).is_some_and(|value| json(value.as_bytes())) {
            return Err(NoReview::ContentType);
        }
        let limit = self.limits.body_bytes;
        let length = headers.get(header::CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse::<usize>().ok());
        if length.is_some_and(|length| length > limit) {
            return Err(NoReview::TooLarge(limit));
        }
        let deadline = Instant::now() + self.limits.body_time;
        let room = self.budget.acquire_many(kibibytes(length.unwrap_or(limit)));
        let room = timeout_at(deadline, room).await.map_err(|_| NoReview::Overload)?;
        let room = room.map_err(|_| NoReview::Overload)?;
        let bytes =
            timeout_at(deadline, read_body(body, limit)).await.map_err(|_| NoReview::Incomplete)??;
        let review: Review = serde_json::from_slice(&bytes)?;
        if review.is_ours() { Ok((review, room)) } else { Err(NoReview::WrongKind) }
    }

    async fn judge(&self, kind: metrics::Webhook, request: &Request) -> (Verdict, Answer) {
        let expected =
            request.creates_pod() || (kind == metrics::Webhook::Validate && request.adds_debug_containers());
        if !expected {
            self.metrics.unreadable(kind, DecodeError::Unexpected);
            let message = "this webhook judges the creation of pods and their debug containers only";
            return (Verdict::Unreadable, Answer::reject(&request.uid, message.to_owned()));
        }
        if request.creates_pod() && request.is_mirror_pod() {
            return (Verdict::Mirror, Answer::allow(&request.uid).audit("mirror", "true".to_owned()));
        }
        let answer = match kind {
            metrics::Webhook::Mutate => self.mutate(request).await,
            metrics::Webhook::Validate => self.validate(request),
        };
        answer.unwrap_or_else(|malformed| {
            self.metrics.unreadable(kind, DecodeError::MalformedPod);
            let message = format!("the pod cannot be judged: {malformed}");
            (Verdict::Unreadable, Answer::reject(&request.uid, message))
        })
    }

    async fn mutate(&self, request: &Request) -> Result<(Verdict, Answer), Malformed> {
        let snapshot = self.snapshot_with_identity(&request.object, &request.namespace).await?;
        Ok(match mutate(&request.object, &request.namespace, &snapshot)? {
            Mutation::NotAnAgent => (Verdict::Allowed, Answer::allow(&request.uid)),
            Mutation::Refuse(findings) => self.deny(request, &findings, &snapshot),
            Mutation::Wait(finding) => self.deny(request, &[finding], &snapshot),
            Mutation::Patch { operations, warnings, identity } => {
                self.count(&warnings);
                let answer = Answer::allow(&request.uid)
                    .warn(shown_warnings(&warnings))
                    .audit("identity", identity.uid.clone())
                    .audit("snapshot", snapshot.version.to_string());
                let patched = answer.patch(&operations).map_err(|_| Malformed {
                    path: String::new(),
                    expected: "a pod whose patch can be written as JSON",
                })?;
                let verdict = if operations.0.is_empty() { Verdict::Allowed } else { Verdict::Patched };
                (verdict, patched)
            }
        })
    }

    /// The first snapshot in which the pod's agent is no longer on its way, or the last one before the deadline. One
    /// `kubectl apply` of an identity and its pod sends the pod a few milliseconds behind the identity.
    async fn snapshot_with_identity(&self, pod: &Value, namespace: &str) -> Result<Arc<Snapshot>, Malformed> {
        let mut snapshots = self.snapshots.clone();
        let waits = |snapshot: &Snapshot| {
            mutate(pod, namespace, snapshot).map(|mutation| matches!(mutation, Mutation::Wait(_)))
        };
        let mut snapshot = Arc::clone(&snapshots.borrow_and_update());
        if !waits(&snapshot)? {
            return Ok(snapshot);
        }
        let Ok(_place) = self.waiters.try_acquire() else { return Ok(snapshot) };
        let _counted = self.metrics.waiting();
        let deadline = Instant::now() + self.limits.mutation_wait;
        while let Ok(Ok(())) = timeout_at(deadline, snapshots.changed()).await {
            snapshot = Arc::clone(&snapshots.borrow_and_update());
            if !waits(&snapshot)? {
                break;
            }
        }
        Ok(snapshot)
    }

    fn validate(&self, request: &Request) -> Result<(Verdict, Answer), Malformed> {
        let snapshot = Arc::clone(&self.snapshots.borrow());
        let subject = if request.creates_pod() { Subject::Pod } else { Subject::DebugContainers };
        let admission = admit(&request.object, &request.namespace, subject, &snapshot, &self.settings)?;
        if admission.is_denied() {
            return Ok(self.deny(request, &admission.findings, &snapshot));
        }
        self.count(&admission.findings);
        let mut answer = Answer::allow(&request.uid)
            .warn(shown_warnings(&admission.findings))
            .audit("snapshot", snapshot.version.to_string());
        if let Some(identity) = admission.identity {
            answer = answer.audit("identity", identity.uid.clone());
        }
        Ok((Verdict::Allowed, answer))
    }

    fn deny(&self, request: &Request, findings: &[Finding], snapshot: &Snapshot) -> (Verdict, Answer) {
        self.count(findings);
        let mut rules: Vec<_> = findings.iter().map(|finding| finding.rule.id).collect();
        rules.sort_unstable();
        rules.dedup();
        let rules = rules.join(",");
        tracing::info!(
            namespace = request.namespace,
            name = request.shown_name(),
            user = request.user_info.username,
            rules,
            snapshot = snapshot.version,
            "pod refused"
        );
        let answer = Answer::forbid(&request.uid, shown_findings(findings))
            .audit("rules", rules)
            .audit("snapshot", snapshot.version.to_string());
        (Verdict::Denied, answer)
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

async fn read_body(body: Body, limit: usize) -> Result<Bytes, NoReview> {
    to_bytes(body, limit).await.map_err(|error| {
        let source = std::error::Error::source(&error);
        // The limit is the one error of the body itself; everything else is the connection's.
        if source.is_some_and(|source| source.to_string().contains("length limit")) {
            NoReview::TooLarge(limit)
        } else {
            NoReview::Incomplete
        }
    })
}

/// Rounded up, and never nothing.
fn kibibytes(bytes: usize) -> u32 {
    u32::try_from(bytes / 1024 + 1).unwrap_or(u32::MAX)
}

fn shown_findings(findings: &[Finding]) -> String {
    let mut lines: Vec<_> = findings.iter().take(SHOWN_FINDINGS).map(ToString::to_string).collect();
    if findings.len() > SHOWN_FINDINGS {
        lines.push(format!("and {} more", findings.len() - SHOWN_FINDINGS));
    }
    lines.join("\n")
}

fn shown_warnings(findings: &[Finding]) -> Vec<String> {
    let cut = |text: String| match text.char_indices().find(|(at, c)| at + c.len_utf8() > WARNING_BYTES) {
        Some((at, _)) => text[..at].to_owned(),
        None => text,
    };
    findings.iter().take(SHOWN_WARNINGS).map(|finding| cut(finding.to_string())).collect()
}
