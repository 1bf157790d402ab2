//! What the broker counts.

use super::Metrics;
use k8s_openapi::jiff::Timestamp;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
};
use std::{sync::Arc, time::Duration};

/// Seconds. A decision is a record, with a signature or a question to the API server besides.
const BUCKETS: [f64; 11] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 2.5];

/// Seconds. From a fast disk's to one that hangs.
const SYNC_BUCKETS: [f64; 10] = [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.02, 0.1, 0.5, 2.0];

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    outcome: &'static str,
    reason: &'static str,
    half: &'static str,
}

const PERMIT: Labels = Labels { outcome: "permit", reason: "", half: "" };

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LookupLabels {
    cache: &'static str,
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReviewLabels {
    kind: &'static str,
    result: &'static str,
}

/// How often something was known already.
#[derive(Clone, Debug, Default)]
pub struct Lookups {
    hits: Counter,
    misses: Counter,
}

impl Lookups {
    /// Something was looked for, and was known, or not.
    pub fn looked(&self, is_known: bool) {
        if is_known { &self.hits } else { &self.misses }.inc();
    }
}

/// What the log on disk measures.
#[derive(Debug)]
pub struct RecordMetrics {
    sync: Histogram,
}

impl RecordMetrics {
    /// Registers it with `metrics`.
    pub fn register(metrics: &mut Metrics) -> Arc<Self> {
        let new = Self { sync: Histogram::new(SYNC_BUCKETS) };
        metrics.registry.register(
            "deputy_record_sync_duration_seconds",
            "Time to write one commit of the record and make it durable",
            new.sync.clone(),
        );
        Arc::new(new)
    }

    /// One commit was made durable.
    pub fn synced(&self, took: Duration) {
        self.sync.observe(took.as_secs_f64());
    }
}

/// What the broker counts.
#[derive(Debug)]
pub struct BrokerMetrics {
    /// Tokens asked for.
    pub exchanges: Decisions,
    /// Decisions asked for.
    pub evaluations: Decisions,
    dropped: Gauge,
    entries: Gauge,
    key_created: Gauge,
    lookups: Family<LookupLabels, Counter>,
    reviews: Family<ReviewLabels, Counter>,
}

/// Decisions of one kind.
#[derive(Debug)]
pub struct Decisions {
    counted: Family<Labels, Counter>,
    duration: Histogram,
}

impl Decisions {
    fn register(metrics: &mut Metrics, [counter, what]: [&str; 2], [histogram, time]: [&str; 2]) -> Self {
        let new = Self { counted: Family::default(), duration: Histogram::new(BUCKETS) };
        metrics.registry.register(counter, what, new.counted.clone());
        metrics.registry.register(histogram, time, new.duration.clone());
        // Present from the start, so that the first increment is seen as one.
        drop(new.counted.get_or_create(&PERMIT));
        new
    }

    /// It was permitted after `took`.
    pub fn permitted(&self, took: Duration) {
        self.decided(&PERMIT, took);
    }

    /// It was refused after `took`. Both words are of a closed set.
    pub fn denied(&self, reason: &'static str, half: Option<&'static str>, took: Duration) {
        self.decided(&Labels { outcome: "deny", reason, half: half.unwrap_or_default() }, took);
    }

    fn decided(&self, labels: &Labels, took: Duration) {
        self.counted.get_or_create(labels).inc();
        self.duration.observe(took.as_secs_f64());
    }
}

impl BrokerMetrics {
    /// Registers them with `metrics`.
    pub fn register(metrics: &mut Metrics) -> Arc<Self> {
        let exchanges = Decisions::register(
            metrics,
            [
                "deputy_exchanges",
                "Token exchanges by outcome (permit, deny), reason and the half that was missing",
            ],
            ["deputy_exchange_duration_seconds", "Time from the request's arrival to its answer"],
        );
        let evaluations = Decisions::register(
            metrics,
            [
                "deputy_evaluations",
                "Evaluations by outcome (permit, deny), reason and the half that was missing",
            ],
            ["deputy_evaluation_duration_seconds", "Time from the request's arrival to its answer"],
        );
        let new = Self {
            exchanges,
            evaluations,
            dropped: Gauge::default(),
            entries: Gauge::default(),
            key_created: Gauge::default(),
            lookups: Family::default(),
            reviews: Family::default(),
        };
        let registry = &mut metrics.registry;
        registry.register(
            "deputy_record_dropped_entries",
            "Denials that found no room on their way to the record since the process began",
            new.dropped.clone(),
        );
        registry.register("deputy_record_entries", "Durable entries of the record", new.entries.clone());
        registry.register(
            "deputy_signing_key_created_timestamp_seconds",
            "When the key was made that signs now",
            new.key_created.clone(),
        );
        registry.register(
            "deputy_broker_lookups",
            "What was looked for in a cache of the broker's, by whether it was there (hit, miss)",
            new.lookups.clone(),
        );
        registry.register(
            "deputy_broker_reviews",
            "Questions to the API server by kind (TokenReview, SubjectAccessReview) and what came of them",
            new.reviews.clone(),
        );
        Arc::new(new)
    }

    /// What is known of one kind of things: `actor`, `caller`, `right`, `subject`, `token`.
    pub fn lookups(&self, cache: &'static str) -> Lookups {
        let counter = |result| self.lookups.get_or_create(&LookupLabels { cache, result }).clone();
        Lookups { hits: counter("hit"), misses: counter("miss") }
    }

    /// The API server was asked: `kind` is TokenReview or SubjectAccessReview, `result` yes, no or failed.
    pub fn reviewed(&self, kind: &'static str, result: &'static str) {
        self.reviews.get_or_create(&ReviewLabels { kind, result }).inc();
    }

    /// The record has so many durable entries.
    pub fn recorded(&self, entries: u64) {
        self.entries.set(i64::try_from(entries).unwrap_or(i64::MAX));
    }

    /// The key that signs now was made then.
    pub fn signs_by(&self, created: Timestamp) {
        self.key_created.set(created.as_second());
    }

    /// So many entries were dropped until now.
    pub fn dropped(&self, entries: u64) {
        self.dropped.set(i64::try_from(entries).unwrap_or(i64::MAX));
    }
}
