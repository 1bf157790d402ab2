//! `deputy controller`: identities into accounts and statuses, and the webhook's certificates.

use super::ProcessOptions;
use crate::{
    controller::{self, certificates},
    metrics::{ControllerMetrics, IndexMetrics, Metrics, Role},
    runtime::{
        admin::{self, Check},
        client, log, server, shutdown,
    },
};
use anyhow::{Context as _, bail};
use axum_server::Handle;
use clap::Args;
use std::sync::Arc;
use tokio::sync::watch;

/// Reconciles AgentIdentities.
#[derive(Args, Debug)]
pub(super) struct Options {
    #[command(flatten)]
    process: ProcessOptions,
    /// Name of this pod, as events show it
    #[arg(long, env = "POD_NAME", default_value = "deputy-controller")]
    instance: String,
}

/// Runs until asked to stop.
pub(super) async fn run(options: Options) -> anyhow::Result<()> {
    let Options { process, instance } = options;
    log::init(process.log_format, &process.log_level)?;
    let config = controller::Config {
        reserved: process.reserved_audiences()?,
        trust_domain: process.trust_domain,
        instance,
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
    let identities = controller::run(
        client.clone(),
        config,
        Arc::clone(&controller_metrics),
        Arc::clone(&watch_metrics),
        synced,
    );
    let certificates = certificates::run(client, kept, controller_metrics, watch_metrics, ensured);
    let admin = server::serve(process.admin_address, admin::router(metrics, checks), Handle::new());
    tokio::select! {
        () = identities => bail!("the watches of identities ended"),
        () = certificates => bail!("the watches of certificates ended"),
        ended = admin => ended.context("the admin server ended").and_then(|()| bail!("the admin server ended")),
        // Nothing to drain: every write is whole, and the next controller looks at everything anew.
        asked = shutdown::requested() => Ok(asked?),
    }
}
