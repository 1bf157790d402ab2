//! What the broker counts.

use super::Metrics;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
};
use std::{sync::Arc, time::Duration};

/// Seconds. A decision is a record, with a signature or a question to the API server besides.
const BUCKETS: [f64; 11] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 2.5];

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    outcome: &'static str,
    reason: &'static str,
    half: &'static str,
}

const PERMIT: Labels = Labels { outcome: "permit", reason: "", half: "" };

/// What the broker counts.
#[derive(Debug)]
pub struct BrokerMetrics {
    /// Tokens asked for.
    pub exchanges: Decisions,
    /// Decisions asked for.
    pub evaluations: Decisions,
    dropped: Gauge,
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
        let new = Self { exchanges, evaluations, dropped: Gauge::default() };
        metrics.registry.register(
            "deputy_record_dropped_entries",
            "Denials that found no room on their way to the record since the process began",
            new.dropped.clone(),
        );
        Arc::new(new)
    }

    /// So many entries were dropped until now.
    pub fn dropped(&self, entries: u64) {
        self.dropped.set(i64::try_from(entries).unwrap_or(i64::MAX));
    }
}
