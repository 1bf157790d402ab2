//! `deputy controller`: identities into accounts and statuses; certificates; and the broker's signing keys.

use super::ProcessOptions;
use crate::{
    controller::{self, certificates, delegation, exceptions, signing_keys},
    metrics::{ControllerMetrics, IndexMetrics, Metrics, Role},
    runtime::{
        admin::{self, Check},
        client, log, secret, server, shutdown,
    },
    token::{Algorithm, Life},
};
use anyhow::{Context as _, bail};
use axum_server::Handle;
use clap::{Args, ValueEnum};
use futures::{
    Stream, StreamExt as _,
    future::{OptionFuture, ready},
};
use k8s_openapi::{ByteString, jiff::SignedDuration};
use std::{collections::BTreeMap, sync::Arc, time::Duration};
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
    #[command(flatten)]
    broker: BrokerOptions,
}

/// What the controller keeps for the broker.
#[derive(Args, Debug)]
struct BrokerOptions {
    /// Keep a certificate and signing keys for the broker
    #[arg(long)]
    broker: bool,
    /// The broker's issuer; with it, each agent gets a ConfigMap with the CA of the broker
    #[arg(long, value_name = "URL", value_parser = super::issuer, requires = "broker")]
    issuer: Option<String>,
    /// The Secret with the certificate that the broker serves, which somebody else keeps; agents trust its ca.crt
    #[arg(long, value_name = "SECRET", requires = "issuer")]
    broker_tls_secret: Option<String>,
    /// What new signing keys sign with
    #[arg(long, default_value = "ES256", requires = "broker")]
    signing_algorithm: SigningAlgorithm,
    /// Seconds from one signing key to the next
    #[arg(long, default_value_t = 30 * 24 * 3600, value_parser = clap::value_parser!(u32).range(10..))]
    signing_key_rotation_seconds: u32,
    /// Seconds that a signing key is published before it signs: at least as long as verifiers keep what they fetched
    #[arg(long, default_value_t = 3600, value_parser = clap::value_parser!(u32).range(1..))]
    signing_key_ahead_seconds: u32,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum SigningAlgorithm {
    #[value(name = "ES256")]
    Es256,
    #[value(name = "RS256")]
    Rs256,
}

impl BrokerOptions {
    fn signing_keys(&self, process: &ProcessOptions) -> anyhow::Result<signing_keys::Config> {
        let (rotation, ahead) = (self.signing_key_rotation_seconds, self.signing_key_ahead_seconds);
        anyhow::ensure!(
            ahead < rotation,
            "--signing-key-ahead-seconds must be less than --signing-key-rotation-seconds, or no key ever signs in time"
        );
        Ok(signing_keys::Config {
            namespace: process.namespace.clone(),
            secret: format!("{}-broker-signing", process.fullname),
            pseudonyms: format!("{}-broker-pseudonyms", process.fullname),
            algorithm: match self.signing_algorithm {
                SigningAlgorithm::Es256 => Algorithm::Es256,
                SigningAlgorithm::Rs256 => Algorithm::Rs256,
            },
            life: Life {
                rotation: SignedDuration::from_secs(rotation.into()),
                ahead: SignedDuration::from_secs(ahead.into()),
                ..Life::default()
            },
        })
    }
}

impl Options {
    /// What is done about identities, and about certificates. `trusted` are the CAs that agents are to trust.
    fn configs(
        &self,
        trusted: watch::Receiver<Option<Arc<str>>>,
    ) -> anyhow::Result<(controller::Config, certificates::Config)> {
        let Self { process, broker, .. } = self;
        let outlast = Duration::from_secs(self.freshness_bound_seconds + self.request_timeout_seconds);
        let config = controller::Config {
            declarable: process.declarable(broker.issuer.as_deref())?,
            authorities: broker.issuer.is_some().then_some(trusted),
            trust_domain: process.trust_domain.clone(),
            instance: self.instance.clone(),
            claim_quiet: outlast + MARGIN,
        };
        let kept = certificates::Config {
            namespace: process.namespace.clone(),
            fullname: process.fullname.clone(),
            broker: broker.broker && broker.broker_tls_secret.is_none(),
        };
        Ok((config, kept))
    }
}

/// What the quiet period of a claim is longer by than what it must outlast: for the API server's own clock and caches.
const MARGIN: Duration = Duration::from_secs(1);

/// The entry of a Secret with a certificate that says who signed it, as cert-manager writes it.
const GIVEN_CA: &str = "ca.crt";

/// Has agents trust the CA of a certificate that somebody else keeps, each time it changes, for ever.
async fn trust_given(
    secrets: impl Stream<Item = BTreeMap<String, ByteString>>,
    name: String,
    authorities: watch::Sender<Option<Arc<str>>>,
) {
    let trust = |data: BTreeMap<String, ByteString>| {
        match data
            .get(GIVEN_CA)
            .and_then(|pem| std::str::from_utf8(&pem.0).ok())
            .filter(|pem| !pem.is_empty())
        {
            Some(pem) => _ = authorities.send_replace(Some(pem.into())),
            None => tracing::error!(
                secret = name,
                "the Secret has no {GIVEN_CA}, by which agents would trust the broker: put the CA's certificate there, in PEM"
            ),
        }
        ready(())
    };
    secrets.for_each(trust).await;
}

/// Runs until asked to stop.
pub(super) async fn run(options: Options) -> anyhow::Result<()> {
    log::init(options.process.log_format, &options.process.log_level)?;
    let signing = options.broker.signing_keys(&options.process)?;
    let (authorities, trusted) = watch::channel(None);
    let (config, kept) = options.configs(trusted)?;
    let Options { process, broker, .. } = options;
    let given = broker.broker_tls_secret;
    let client = client::connect().await?;
    let mut metrics = Metrics::new(Role::Controller);
    let controller_metrics = ControllerMetrics::register(&mut metrics);
    let watch_metrics = IndexMetrics::register(&mut metrics);

    let (synced, is_synced) = watch::channel(false);
    let (ensured, is_ensured) = watch::channel(false);
    let (keyed, is_keyed) = watch::channel(false);
    let mut checks = vec![
        Check { name: "identities listed", passed: is_synced },
        Check { name: "certificates ensured", passed: is_ensured },
    ];
    let declarable = config.declarable.clone();
    if broker.broker {
        checks.push(Check { name: "signing keys ensured", passed: is_keyed });
    }
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
    let signing_keys = OptionFuture::from(broker.broker.then(|| {
        signing_keys::run(
            client.clone(),
            signing,
            Arc::clone(&controller_metrics),
            Arc::clone(&watch_metrics),
            keyed,
        )
    }));
    let given = OptionFuture::from(given.map(|name| {
        let secrets = secret::follow(client.clone(), &kept.namespace, &name, &watch_metrics);
        trust_given(secrets, name, authorities.clone())
    }));
    // Of a certificate that somebody else keeps, Deputy's own CAs say nothing.
    let authorities = if kept.broker { authorities } else { watch::channel(None).0 };
    let told = certificates::Told { authorities, ensured };
    let certificates = certificates::run(client.clone(), kept, controller_metrics, watch_metrics, told);
    let served = admin::router(metrics, checks);
    let admin = server::serve(process.admin_address, served, server::Bounds::default(), Handle::new());
    tokio::select! {
        () = identities => bail!("the watches of identities ended"),
        () = interactive => bail!("the watches of exceptions ended"),
        () = delegation => bail!("the watches of delegation ended"),
        () = certificates => bail!("the watches of certificates ended"),
        Some(()) = given => bail!("the watch of the broker's certificate ended"),
        Some(()) = signing_keys => bail!("the watch of signing keys ended"),
        ended = admin => ended.context("the admin server ended").and_then(|()| bail!("the admin server ended")),
        // Nothing to drain: every write is whole, and the next controller looks at everything anew.
        asked = shutdown::requested() => Ok(asked?),
    }
}
