//! `deputy webhook`: watches → index → snapshots; Secret → certificate; reviews → answers.

use super::{FreshnessOptions, ProcessOptions, serving::Endpoint, settings::Widened, view::View};
use crate::{
    admission::{self, Limits},
    index::Index,
    metrics::{AdmissionMetrics, CertificateMetrics, IndexMetrics, Metrics, Role},
    policy::Settings,
    runtime::{
        admin::{self, Check},
        client, clock, log, server, tls,
        watch::Kinds,
    },
};
use anyhow::{Context as _, bail};
use axum_server::Handle;
use clap::Args;
use std::{net::SocketAddr, sync::Arc, time::Duration};
use tokio::sync::watch;

/// Admission of agents' pods.
#[derive(Args, Debug)]
pub(super) struct Options {
    #[command(flatten)]
    process: ProcessOptions,
    #[command(flatten)]
    freshness: FreshnessOptions,
    /// Where reviews are served
    #[arg(long, default_value = "0.0.0.0:10250")]
    address: SocketAddr,
    /// Seconds to go on serving after a request to stop, until endpoints no longer name this pod
    #[arg(long, default_value_t = 5)]
    drain_seconds: u64,
    /// Seconds a new pod may wait for its identity and account to appear
    #[arg(long, default_value_t = 2)]
    mutation_wait_seconds: u64,
    /// The broker's issuer; with it, agents' pods get what leads to the broker
    #[arg(long, value_name = "URL", value_parser = super::issuer)]
    issuer: Option<String>,
    #[command(flatten)]
    widened: Widened,
}

impl Options {
    fn settings(&self) -> anyhow::Result<Settings> {
        anyhow::ensure!(
            self.issuer.as_ref().is_none_or(|issuer| !self.widened.allowed_audiences.contains(issuer)),
            "--allowed-audience names the broker's --issuer, whose token is the agent's alone; leave it out (chart value \
             admission.allowedAudiences)"
        );
        let mut settings = self.widened.settings(self.process.reserved_audiences()?)?;
        settings.issuer.clone_from(&self.issuer);
        Ok(settings)
    }

    fn limits(&self) -> Limits {
        Limits { mutation_wait: Duration::from_secs(self.mutation_wait_seconds), ..Limits::default() }
    }
}

/// Runs until asked to stop.
pub(super) async fn run(options: Options) -> anyhow::Result<()> {
    let process = &options.process;
    log::init(process.log_format, &process.log_level)?;
    let settings = options.settings()?;
    let client = client::connect().await?;
    let mut metrics = Metrics::new(Role::Webhook);
    let watch_metrics = IndexMetrics::register(&mut metrics);
    let certificate_metrics = CertificateMetrics::register(&mut metrics);
    let admission_metrics = AdmissionMetrics::register(&mut metrics);

    let proving = options.freshness.config(process, "deputy-webhook")?;
    let index = Index::new(process.declarable(options.issuer.as_deref())?);
    let (view, kept) = View::new(&client, index, Kinds::Admission, proving, &mut metrics, &watch_metrics);
    let (loaded, is_loaded) = watch::channel(false);
    let (serving, is_serving) = watch::channel(true);
    let mut checks = vec![
        Check { name: "serving", passed: is_serving },
        Check { name: "certificate loaded", passed: is_loaded },
    ];
    checks.extend(view.checks());
    let webhook = admission::Webhook::new(
        view.snapshots,
        view.freshness,
        settings,
        clock::now,
        process.trust_domain.clone(),
        admission_metrics,
        options.limits(),
    );

    let resolver = Arc::new(tls::Resolver::default());
    let secret = format!("{}-webhook-tls", process.fullname);
    let certificate = tls::follow_secret(
        client,
        &process.namespace,
        &secret,
        Arc::clone(&resolver),
        loaded,
        certificate_metrics,
        watch_metrics,
    );
    let served = admin::router(metrics, checks);
    let admin = server::serve(process.admin_address, served, server::Bounds::default(), Handle::new());
    let reviews = Endpoint {
        address: options.address,
        router: admission::router(Arc::new(webhook)),
        resolver,
        is_synced: view.is_synced,
        serving,
        drain: Duration::from_secs(options.drain_seconds),
    };
    tokio::select! {
        ended = kept => Err(ended),
        () = certificate => bail!("the watch of Secret {secret} ended"),
        ended = admin => ended.context("the admin server ended").and_then(|()| bail!("the admin server ended")),
        ended = reviews.serve() => ended,
    }
}
