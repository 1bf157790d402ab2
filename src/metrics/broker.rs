//! What the broker counts.

use super::Metrics;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
};
use std::{sync::Arc, time::Duration};

/// Seconds. An exchange is a signature and a record, or a question to the API server besides.
const EXCHANGE_BUCKETS: [f64; 11] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 2.5];

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ExchangeLabels {
    outcome: &'static str,
    reason: &'static str,
    half: &'static str,
}

/// What the broker counts.
#[derive(Debug)]
pub struct BrokerMetrics {
    exchanges: Family<ExchangeLabels, Counter>,
    duration: Histogram,
    dropped: Gauge,
}

impl BrokerMetrics {
    /// Registers them with `metrics`.
    pub fn register(metrics: &mut Metrics) -> Arc<Self> {
        let new = Self {
            exchanges: Family::default(),
            duration: Histogram::new(EXCHANGE_BUCKETS),
            dropped: Gauge::default(),
        };
        let registry = &mut metrics.registry;
        registry.register(
            "deputy_exchanges",
            "Token exchanges by outcome (permit, deny), reason and the half that was missing",
            new.exchanges.clone(),
        );
        registry.register(
            "deputy_exchange_duration_seconds",
            "Time from the request's arrival to its answer",
            new.duration.clone(),
        );
        registry.register(
            "deputy_record_dropped_entries",
            "Denials that found no room on their way to the record since the process began",
            new.dropped.clone(),
        );
        // Present from the start, so that the first increment is seen as one.
        drop(new.exchanges.get_or_create(&ExchangeLabels { outcome: "permit", reason: "", half: "" }));
        Arc::new(new)
    }

    /// A token was handed out after `took`.
    pub fn permitted(&self, took: Duration) {
        self.exchanged(ExchangeLabels { outcome: "permit", reason: "", half: "" }, took);
    }

    /// One was refused after `took`. Both words are of a closed set.
    pub fn denied(&self, reason: &'static str, half: Option<&'static str>, took: Duration) {
        self.exchanged(ExchangeLabels { outcome: "deny", reason, half: half.unwrap_or_default() }, took);
    }

    /// So many entries were dropped until now.
    pub fn dropped(&self, entries: u64) {
        self.dropped.set(i64::try_from(entries).unwrap_or(i64::MAX));
    }

    fn exchanged(&self, labels: ExchangeLabels, took: Duration) {
        self.exchanges.get_or_create(&labels).inc();
        self.duration.observe(took.as_secs_f64());
    }
}
