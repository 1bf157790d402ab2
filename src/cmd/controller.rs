//! `deputy controller`: identities into accounts and statuses, and the webhook's certificates.

use super::ProcessOptions;
use crate::{
    controller::{self, certificates, delegation, exceptions},
    metrics::{ControllerMetrics, IndexMetrics, Metrics, Role},
    runtime::{
        admin::{self, Check},
        client, log, server, shutdown,
    },
};
use anyhow::{Context as _, bail};
use axum_server::Handle;
use clap::Args;
use std::{sync::Arc, time::Duration};
use tokio::sync::watch;

/// Reconciles AgentIdentities.
#[derive(Args, Debug)]
pub(super) struct Options {
    #[command(flatten)]
    process: ProcessOptions,
    /// Name of this pod, as events show it
    #[arg(long, env = "POD_NAME", default_value = "deputy-controller")]
    instance: String,
    /// Seconds a webhook's view of the cluster may be old: its --freshness-bound-seconds
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(2..=60))]
    freshness_bound_seconds: u64,
    /// Seconds the API server may take for a request: its --request-timeout
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=3600))]
    request_timeout_seconds: u64,
}

/// What the quiet period of a claim is longer by than what it must outlast: for the API server's own clock and caches.
const MARGIN: Duration = Duration::from_secs(1);

/// Runs until asked to stop.
pub(super) async fn run(options: Options) -> anyhow::Result<()> {
    let Options { process, instance, freshness_bound_seconds, request_timeout_seconds } = options;
    log::init(process.log_format, &process.log_level)?;
    let config = controller::Config {
        declarable: process.declarable()?,
        trust_domain: process.trust_domain,
        instance,
        claim_quiet: Duration::from_secs(freshness_bound_seconds + request_timeout_seconds) + MARGIN,
    };
    let kept = certificates::Config { namespace: process.namespace, fullname: process.fullname };
    let client = client::connect().await?;
    let mut metrics = Metrics::new(Role::Controller);
    let controller_metrics = ControllerMetrics::register(&mut metrics);
    let watch_metrics = IndexMetrics::register(&mut metrics);

    let (synced, is_synced) = watch::channel(false);
    let (ensured, is_ensured) = watch::channel(false);
    let checks = vec![
        Check { name: "identities listed", passed: is_synced },
        Check { name: "certificates ensured", passed: is_ensured },
    ];
    let declarable = config.declarable.clone();
    let identities = controller::run(
        client.clone(),
        config,
        Arc::clone(&controller_metrics),
        Arc::clone(&watch_metrics),
        synced,
    );
    let interactive =
        exceptions::run(client.clone(), Arc::clone(&controller_metrics), Arc::clone(&watch_metrics));
    let delegation = delegation::run(
        client.clone(),
        declarable,
        Arc::clone(&controller_metrics),
        Arc::clone(&watch_metrics),
    );
    let certificates = certificates::run(client, kept, controller_metrics, watch_metrics, ensured);
    let admin = server::serve(process.admin_address, admin::router(metrics, checks), Handle::new());
    tokio::select! {
        () = identities => bail!("the watches of identities ended"),
        () = interactive => bail!("the watches of exceptions ended"),
        () = delegation => bail!("the watches of delegation ended"),
        () = certificates => bail!("the watches of certificates ended"),
        ended = admin => ended.context("the admin server ended").and_then(|()| bail!("the admin server ended")),
        // Nothing to drain: every write is whole, and the next controller looks at everything anew.
        asked = shutdown::requested() => Ok(asked?),
    }
}
