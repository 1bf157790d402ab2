//! Every metric of Deputy, by name, in one place: the broker's in [`broker`], all others here.
//!
//! Rooms receive the small structs of typed methods below and never see a registry, so that a label's values stay a
//! closed set: they are enums or `&'static str` of the caller's own constants, never text from a request.
//!
//! The format is Prometheus' text format 0.0.4 rather than OpenMetrics: every scraper reads it, and `promtool check
//! metrics` judges it.

mod broker;

pub use broker::{BrokerMetrics, Lookups, RecordMetrics};

use k8s_openapi::jiff::Timestamp;
use prometheus_client::{
    encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder, text},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};
use std::{
    fmt::{self, Write as _},
    sync::Arc,
    time::Duration,
};

/// `Content-Type` of [`Metrics::render`].
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Seconds. An admission decision takes well under a millisecond, or waits for up to a few seconds.
const REVIEW_BUCKETS: [f64; 12] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5];
/// Seconds. A reconcile is a few requests to the API server.
const RECONCILE_BUCKETS: [f64; 10] = [0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0];

/// Gives an enum the words its values have as labels.
macro_rules! label_values {
    ($name:ident { $($value:ident => $word:literal),* }) => {
        impl EncodeLabelValue for $name {
            fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> fmt::Result {
                let word = match self { $(Self::$value => $word),* };
                EncodeLabelValue::encode(&word, encoder)
            }
        }
    };
}

/// What the process was started as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// `deputy broker`
    Broker,
    /// `deputy controller`
    Controller,
    /// `deputy webhook`
    Webhook,
}

label_values!(Role { Broker => "broker", Controller => "controller", Webhook => "webhook" });

/// The registry of one process.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct BuildLabels {
    version: &'static str,
    role: Role,
}

impl Metrics {
    /// A registry that says which build runs as what.
    pub fn new(role: Role) -> Self {
        let mut registry = Registry::default();
        let build = Family::<BuildLabels, Gauge>::default();
        build.get_or_create(&BuildLabels { version: env!("CARGO_PKG_VERSION"), role }).set(1);
        registry.register("deputy_build_info", "Always 1; the labels say which build runs as what", build);
        Self { registry }
    }

    /// The registry's content in Prometheus' text format.
    ///
    /// # Errors
    /// Only when writing to a string fails.
    pub fn render(&self) -> Result<String, fmt::Error> {
        let mut open_metrics = String::new();
        text::encode_registry(&mut open_metrics, &self.registry)?;
        prometheus_text(&open_metrics)
    }
}

/// OpenMetrics names a counter's family without `_total`, Prometheus' format names it as its samples are named.
/// Everything else the encoder writes for the types used here reads the same in both.
fn prometheus_text(open_metrics: &str) -> Result<String, fmt::Error> {
    let mut text = String::with_capacity(open_metrics.len() + 256);
    let mut lines = open_metrics.lines().peekable();
    while let Some(line) = lines.next() {
        let counter = |line: &str| line.strip_prefix("# TYPE ").is_some_and(|l| l.ends_with(" counter"));
        match line.strip_prefix("# HELP ").and_then(|rest| rest.split_once(' ')) {
            Some((name, help)) if lines.peek().is_some_and(|next| counter(next)) => {
                lines.next();
                writeln!(text, "# HELP {name}_total {help}\n# TYPE {name}_total counter")?;
            }
            _ => writeln!(text, "{line}")?,
        }
    }
    Ok(text)
}

// === admission ===

/// What a review was about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Webhook {
    /// `/validate-foreign`
    Foreign,
    /// `/mutate`
    Mutate,
    /// `/warn`
    Template,
    /// `/validate`
    Validate,
}

label_values!(Webhook {
    Foreign => "validate-foreign",
    Mutate => "mutate",
    Template => "warn",
    Validate => "validate"
});

/// How a review ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// Allowed as it is.
    Allowed,
    /// Refused by rules.
    Denied,
    /// A mirror pod, allowed untouched.
    Mirror,
    /// Allowed with a patch.
    Patched,
    /// Refused because the view of the cluster was too old to permit it on.
    Stale,
    /// Not a review that could be judged; [`DecodeError`] says why.
    Unreadable,
}

label_values!(Verdict { Allowed => "allowed", Denied => "denied", Mirror => "mirror", Patched => "patched", Stale => "stale", Unreadable => "unreadable" });

/// Why a request was not a review that could be judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DecodeError {
    /// The body is too large.
    BodyTooLarge,
    /// The body did not arrive in time, or the connection broke.
    BodyIncomplete,
    /// The content type is not JSON.
    ContentType,
    /// Not the JSON of a review.
    Malformed,
    /// Judging it panicked.
    Panic,
    /// The pod has another shape than a pod.
    MalformedPod,
    /// More requests at once than are served.
    Overload,
    /// An operation or a resource nobody registered for.
    Unexpected,
    /// Another kind or version of review.
    WrongKind,
}

label_values!(DecodeError { BodyTooLarge => "body_too_large", BodyIncomplete => "body_incomplete", ContentType => "content_type", Malformed => "malformed", Panic => "panic", MalformedPod => "malformed_pod", Overload => "overload", Unexpected => "unexpected", WrongKind => "wrong_kind" });

/// What a finding did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Effect {
    /// It refused the pod.
    Deny,
    /// It warned.
    Warn,
}

label_values!(Effect { Deny => "deny", Warn => "warn" });

/// What an exception let happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Pass {
    /// The rule did not refuse.
    Allow,
    /// The rule only warned.
    Warn,
}

label_values!(Pass { Allow => "allow", Warn => "warn" });

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PassLabels {
    rule: &'static str,
    effect: Pass,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReviewLabels {
    webhook: Webhook,
    verdict: Verdict,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct WebhookLabels {
    webhook: Webhook,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DecodeLabels {
    webhook: Webhook,
    error: DecodeError,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ViolationLabels {
    rule: &'static str,
    action: Effect,
}

/// What the admission webhook counts.
#[derive(Debug)]
pub struct AdmissionMetrics {
    reviews: Family<ReviewLabels, Counter>,
    violations: Family<ViolationLabels, Counter>,
    exceptions: Family<PassLabels, Counter>,
    duration: Family<WebhookLabels, Histogram>,
    decode_errors: Family<DecodeLabels, Counter>,
    waiting: Gauge,
}

impl AdmissionMetrics {
    /// Registers them with `metrics`.
    pub fn register(metrics: &mut Metrics) -> Arc<Self> {
        let new = Self {
            reviews: Family::default(),
            violations: Family::default(),
            exceptions: Family::default(),
            duration: Family::new_with_constructor(|| Histogram::new(REVIEW_BUCKETS)),
            decode_errors: Family::default(),
            waiting: Gauge::default(),
        };
        let registry = &mut metrics.registry;
        registry.register(
            "deputy_admission_reviews",
            "Admission reviews by webhook and verdict",
            new.reviews.clone(),
        );
        registry.register(
            "deputy_admission_violations",
            "Findings by rule and by what they did",
            new.violations.clone(),
        );
        registry.register(
            "deputy_admission_exception_uses",
            "Pods that a rule would have refused but for an AgentException, by rule and effect",
            new.exceptions.clone(),
        );
        registry.register(
            "deputy_admission_review_duration_seconds",
            "Time from the request's arrival to its answer",
            new.duration.clone(),
        );
        registry.register(
            "deputy_admission_decode_errors",
            "Requests that could not be judged, by what was wrong with them",
            new.decode_errors.clone(),
        );
        registry.register(
            "deputy_admission_waiting_reviews",
            "Reviews that wait for an identity or its account to appear",
            new.waiting.clone(),
        );
        for webhook in [Webhook::Mutate, Webhook::Validate] {
            for verdict in [Verdict::Allowed, Verdict::Denied, Verdict::Unreadable] {
                // Present from the start, so that the first increment is seen as one.
                drop(new.reviews.get_or_create(&ReviewLabels { webhook, verdict }));
            }
        }
        Arc::new(new)
    }

    /// A review was answered after `took`.
    pub fn reviewed(&self, webhook: Webhook, verdict: Verdict, took: Duration) {
        self.reviews.get_or_create(&ReviewLabels { webhook, verdict }).inc();
        self.duration.get_or_create(&WebhookLabels { webhook }).observe(took.as_secs_f64());
    }

    /// A request could not be judged.
    pub fn unreadable(&self, webhook: Webhook, error: DecodeError) {
        self.decode_errors.get_or_create(&DecodeLabels { webhook, error }).inc();
    }

    /// A rule spoke. `rule` is an id of the rule table.
    pub fn violation(&self, rule: &'static str, action: Effect) {
        self.violations.get_or_create(&ViolationLabels { rule, action }).inc();
    }

    /// A pod passed by an exception of `rule`, an id of the rule table.
    pub fn excepted(&self, rule: &'static str, effect: Pass) {
        self.exceptions.get_or_create(&PassLabels { rule, effect }).inc();
    }

    /// Counts a waiting review for as long as the value lives.
    pub fn waiting(&self) -> Waiting {
        self.waiting.inc();
        Waiting(self.waiting.clone())
    }
}

/// A review that waits.
#[derive(Debug)]
pub struct Waiting(Gauge);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.dec();
    }
}

// === the index and its watches ===

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResourceLabels {
    resource: &'static str,
}

/// How fresh a process' picture of the cluster is.
#[derive(Debug)]
pub struct IndexMetrics {
    version: Gauge,
    last_event: Gauge,
    errors: Family<ResourceLabels, Counter>,
}

impl IndexMetrics {
    /// Registers them with `metrics`.
    pub fn register(metrics: &mut Metrics) -> Arc<Self> {
        let new = Self { version: Gauge::default(), last_event: Gauge::default(), errors: Family::default() };
        let registry = &mut metrics.registry;
        registry.register(
            "deputy_index_version",
            "Version of the newest snapshot of the cluster",
            new.version.clone(),
        );
        registry.register(
            "deputy_index_last_event_timestamp_seconds",
            "When the newest event arrived from a watch",
            new.last_event.clone(),
        );
        registry.register(
            "deputy_watch_errors",
            "Failed lists and broken watches by resource",
            new.errors.clone(),
        );
        Arc::new(new)
    }

    /// An event arrived at `now` and made the snapshot `version`.
    pub fn advanced(&self, version: u64, now: Timestamp) {
        self.version.set(i64::try_from(version).unwrap_or(i64::MAX));
        self.last_event.set(now.as_second());
    }

    /// A watch of `resource` failed and will be tried again.
    pub fn watch_failed(&self, resource: &'static str) {
        self.errors.get_or_create(&ResourceLabels { resource }).inc();
    }
}

/// How old the view is.
#[derive(Debug)]
pub struct FreshnessMetrics {
    proved: Gauge,
}

impl FreshnessMetrics {
    /// Registers them with `metrics`.
    pub fn register(metrics: &mut Metrics) -> Arc<Self> {
        let new = Self { proved: Gauge::default() };
        metrics.registry.register(
            "deputy_view_proved_timestamp_seconds",
            "When the view of the cluster was last proved to be current; its age is the time since",
            new.proved.clone(),
        );
        Arc::new(new)
    }

    /// The view was proved at `now`.
    pub fn proved(&self, now: Timestamp) {
        self.proved.set(now.as_second());
    }
}

// === certificates ===

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CertificateLabels {
    certificate: &'static str,
}

/// When certificates end.
#[derive(Debug)]
pub struct CertificateMetrics {
    expiry: Family<CertificateLabels, Gauge>,
    rejected: Family<CertificateLabels, Counter>,
}

impl CertificateMetrics {
    /// Registers them with `metrics`.
    pub fn register(metrics: &mut Metrics) -> Arc<Self> {
        let new = Self { expiry: Family::default(), rejected: Family::default() };
        let registry = &mut metrics.registry;
        registry.register(
            "deputy_certificate_expiry_timestamp_seconds",
            "When the certificate in use ends",
            new.expiry.clone(),
        );
        registry.register(
            "deputy_certificate_rejected",
            "Certificates that were found unusable and not taken into use",
            new.rejected.clone(),
        );
        Arc::new(new)
    }

    /// `certificate` (`ca` or `serving`) is in use and ends at `not_after`.
    pub fn in_use(&self, certificate: &'static str, not_after: Timestamp) {
        self.expiry.get_or_create(&CertificateLabels { certificate }).set(not_after.as_second());
    }

    /// A new `certificate` was unusable.
    pub fn rejected(&self, certificate: &'static str) {
        self.rejected.get_or_create(&CertificateLabels { certificate }).inc();
    }
}

// === issuers of users' tokens ===

/// How it goes to get issuers' keys.
#[derive(Debug)]
pub struct IssuerMetrics {
    fetches: Family<ResultLabels, Counter>,
}

impl IssuerMetrics {
    /// Registers them with `metrics`.
    pub fn register(metrics: &mut Metrics) -> Arc<Self> {
        let new = Self { fetches: Family::default() };
        metrics.registry.register(
            "deputy_issuer_key_fetches",
            "Fetches of a TrustedIssuer's keys by result: fetched, or what was wrong",
            new.fetches.clone(),
        );
        Arc::new(new)
    }

    /// A fetch ended with `result` (`fetched`, or what was wrong in a word).
    pub fn fetched(&self, result: &'static str) {
        self.fetches.get_or_create(&ResultLabels { result }).inc();
    }
}

// === the controller ===

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ConditionLabels {
    condition: &'static str,
    status: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResultLabels {
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct WriteLabels {
    verb: &'static str,
    resource: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StateLabels {
    state: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct EndingLabels {
    cause: &'static str,
    way: &'static str,
}

/// What the controller counts.
#[derive(Debug)]
pub struct ControllerMetrics {
    identities: Family<ConditionLabels, Gauge>,
    reconciles: Family<ResultLabels, Counter>,
    exceptions: Family<StateLabels, Gauge>,
    exception_end: Gauge,
    duration: Histogram,
    writes: Family<WriteLabels, Counter>,
    claims: Family<StateLabels, Gauge>,
    ended_pods: Family<EndingLabels, Counter>,
    /// The certificates the controller keeps.
    pub certificates: Arc<CertificateMetrics>,
}

impl ControllerMetrics {
    /// Registers them with `metrics`.
    pub fn register(metrics: &mut Metrics) -> Arc<Self> {
        let new = Self {
            identities: Family::default(),
            reconciles: Family::default(),
            exceptions: Family::default(),
            exception_end: Gauge::default(),
            duration: Histogram::new(RECONCILE_BUCKETS),
            writes: Family::default(),
            claims: Family::default(),
            ended_pods: Family::default(),
            certificates: CertificateMetrics::register(metrics),
        };
        let registry = &mut metrics.registry;
        registry.register(
            "deputy_identities",
            "AgentIdentities by condition and its status",
            new.identities.clone(),
        );
        registry.register(
            "deputy_exceptions",
            "AgentExceptions by what has become of them",
            new.exceptions.clone(),
        );
        registry.register(
            "deputy_exception_next_end_timestamp_seconds",
            "When the next of the AgentExceptions in force ends; 0 without any",
            new.exception_end.clone(),
        );
        registry.register("deputy_reconciles", "Reconciles by result", new.reconciles.clone());
        registry.register(
            "deputy_reconcile_duration_seconds",
            "Time one reconcile took",
            new.duration.clone(),
        );
        registry.register(
            "deputy_api_writes",
            "Writes to the API server by verb and resource",
            new.writes.clone(),
        );
        registry.register(
            "deputy_credential_claims",
            "CredentialClaims by state: held, or released and not free yet",
            new.claims.clone(),
        );
        registry.register(
            "deputy_pods_ended",
            "Pods ended because their agent is suspended, or its name has another identity",
            new.ended_pods.clone(),
        );
        Arc::new(new)
    }

    /// `count` identities have `condition` with `status` (`True`, `False` or `Unknown`).
    pub fn identities(&self, condition: &'static str, status: &'static str, count: usize) {
        let gauge = self.identities.get_or_create(&ConditionLabels { condition, status });
        gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// This many claims are held, and this many released.
    pub fn claims(&self, held: usize, released: usize) {
        for (state, count) in [("held", held), ("released", released)] {
            let gauge = self.claims.get_or_create(&StateLabels { state });
            gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
        }
    }

    /// `count` exceptions are in `state` (`in_force`, `expired` or `invalid`).
    pub fn exceptions(&self, state: &'static str, count: usize) {
        let gauge = self.exceptions.get_or_create(&StateLabels { state });
        gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// The next of those in force ends at `end`.
    pub fn next_exception_ends(&self, end: Option<Timestamp>) {
        self.exception_end.set(end.map_or(0, Timestamp::as_second));
    }

    /// A reconcile ended with `result` after `took`.
    pub fn reconciled(&self, result: &'static str, took: Duration) {
        self.reconciles.get_or_create(&ResultLabels { result }).inc();
        self.duration.observe(took.as_secs_f64());
    }

    /// A write was sent to the API server.
    pub fn wrote(&self, verb: &'static str, resource: &'static str) {
        self.writes.get_or_create(&WriteLabels { verb, resource }).inc();
    }

    /// A pod was ended by `way` (`evicted` or `deleted`) for `cause` (`suspension` or `succession`).
    pub fn ended_pod(&self, cause: &'static str, way: &'static str) {
        self.ended_pods.get_or_create(&EndingLabels { cause, way }).inc();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_named_like_their_samples() {
        let open_metrics = "# HELP a_b What a counts.\n# TYPE a_b counter\na_b_total{x=\"# TYPE\"} 1\n\
                            # HELP c What c is.\n# TYPE c gauge\nc 2\n";
        assert_eq!(
            prometheus_text(open_metrics).unwrap(),
            "# HELP a_b_total What a counts.\n# TYPE a_b_total counter\na_b_total{x=\"# TYPE\"} 1\n\
             # HELP c What c is.\n# TYPE c gauge\nc 2\n"
        );
    }

    #[test]
    fn a_waiting_review_is_counted_while_it_waits() {
        let metrics = AdmissionMetrics::register(&mut Metrics::new(Role::Webhook));
        let waiting = metrics.waiting();
        assert_eq!(metrics.waiting.get(), 1);
        drop(waiting);
        assert_eq!(metrics.waiting.get(), 0);
    }
}
