//! `deputy broker`: watches → index → snapshots; Secrets → certificate and keys; exchanges → record → answers.

use super::{FreshnessOptions, ProcessOptions, serving::Endpoint, view::View};
use crate::{
    audit::{LogId, Noise, PSEUDONYM_KEY_ENTRY, PseudonymKey},
    broker::{self, Broker, Issuers, Keys, PresentedTokens, Questions, reading::reading},
    index::Index,
    metrics::{BrokerMetrics, CertificateMetrics, IndexMetrics, IssuerMetrics, Metrics, RecordMetrics, Role},
    runtime::{
        admin::{self, Check},
        audiences, client, clock, log, secret, server, tls,
        watch::Kinds,
    },
    store::{self, Wal},
    token::{KeySet, Life, SIGNING_KEYS_ENTRY},
    verify::{self, Bounds, Verifier},
};
use anyhow::{Context as _, bail};
use aws_lc_rs::rand;
use axum_server::Handle;
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use clap::Args;
use futures::{StreamExt as _, future::ready};
use k8s_openapi::{ByteString, jiff::SignedDuration};
use kube::Client;
use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::sync::watch;

/// Exchanges tokens.
#[derive(Args, Debug)]
pub(super) struct Options {
    #[command(flatten)]
    process: ProcessOptions,
    #[command(flatten)]
    freshness: FreshnessOptions,
    /// Where tokens are exchanged
    #[arg(long, default_value = "0.0.0.0:8443")]
    address: SocketAddr,
    /// The issuer of the tokens, and the audience of those agents send: an https URL without a slash at its end
    #[arg(long, value_parser = super::issuer)]
    issuer: String,
    /// The Secret with the certificate to serve (tls.crt, tls.key); without it, the one the controller keeps
    #[arg(long, value_name = "SECRET")]
    tls_secret: Option<String>,
    /// Where the record is kept
    #[arg(long, default_value = "/var/lib/deputy/record")]
    record_directory: PathBuf,
    /// Where the record is read: an address that only this pod has
    #[arg(long, default_value = "127.0.0.1:9444", value_parser = loopback)]
    record_address: SocketAddr,
    /// Seconds that a signing key is published before it signs: the controller's --signing-key-ahead-seconds
    #[arg(long, default_value_t = 3600, value_parser = clap::value_parser!(u32).range(1..))]
    signing_key_ahead_seconds: u32,
    /// Seconds to go on serving after a request to stop, until endpoints no longer name this pod
    #[arg(long, default_value_t = 5)]
    drain_seconds: u64,
}

impl Options {
    fn certificate(&self) -> String {
        self.tls_secret.clone().unwrap_or_else(|| format!("{}-broker-tls", self.process.fullname))
    }

    fn life(&self) -> Life {
        let ahead = SignedDuration::from_secs(self.signing_key_ahead_seconds.into());
        Life { ahead, ..Life::default() }
    }
}

/// Connections to the record at once: a person makes one at a time.
const READERS: usize = 16;

/// The record is read by whoever reaches its address.
fn loopback(text: &str) -> Result<SocketAddr, String> {
    let address: SocketAddr = text.parse().map_err(|error| format!("{error}"))?;
    if address.ip().is_loopback() {
        Ok(address)
    } else {
        Err("the record is for those who may reach this pod's loopback address; use 127.0.0.1 or [::1]"
            .to_owned())
    }
}

/// How often it is looked whether something is to be recorded that was only counted.
const TICK: Duration = Duration::from_secs(5);

/// 128 random bits as text.
fn random() -> String {
    let mut bytes = [0; 16];
    // The library's source of randomness does not fail once the process has begun.
    let _ = rand::fill(&mut bytes);
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

/// Opens the record.
fn open_record(directory: &Path, metrics: Arc<RecordMetrics>) -> anyhow::Result<Wal> {
    let mut id = [0; 8];
    rand::fill(&mut id).map_err(|_| anyhow::anyhow!("there is no randomness"))?;
    let (reserve, retry) = (store::Options::RESERVE, store::Options::RETRY);
    let options = store::Options { log: LogId(id), reserve, retry, now: clock::now, metrics: Some(metrics) };
    let (record, found) = Wal::open(directory, &options)
        .with_context(|| format!("the record in {} cannot be written", directory.display()))?;
    tracing::info!(log = %found.log, entries = found.entries, torn_bytes = found.torn, "the record is open");
    Ok(record)
}

/// Where what is kept in Secrets is told.
struct Told {
    keys: watch::Sender<Option<Arc<Keys>>>,
    keyed: watch::Sender<bool>,
    pseudonyms: watch::Sender<Option<Arc<PseudonymKey>>>,
    named: watch::Sender<bool>,
}

impl Told {
    /// Takes into use what the Secrets of the release `fullname` hold, each time they change, for ever. What cannot be used
    /// leaves in use what was before.
    async fn follow(
        &self,
        client: &Client,
        process: &ProcessOptions,
        life: Life,
        watches: &Arc<IndexMetrics>,
    ) {
        let secret = |what: &str| {
            let name = format!("{}-broker-{what}", process.fullname);
            secret::follow(client.clone(), &process.namespace, &name, watches)
        };
        let signing = secret("signing").for_each(|data| {
            self.use_keys(&data, life);
            ready(())
        });
        let naming = secret("pseudonyms").for_each(|data| {
            self.use_pseudonyms(&data);
            ready(())
        });
        tokio::select! {
            () = signing => {}
            () = naming => {}
        }
    }

    fn use_keys(&self, data: &BTreeMap<String, ByteString>, life: Life) {
        let text = data.get(SIGNING_KEYS_ENTRY).map_or(&[][..], |bytes| &bytes.0);
        match KeySet::from_json(text).and_then(|set| Keys::new(set, life)) {
            Ok(keys) => {
                tracing::info!(?keys, "signing keys taken into use");
                self.keys.send_replace(Some(Arc::new(keys)));
                self.keyed.send_replace(true);
            }
            Err(error) => tracing::error!(%error, "signing keys not taken into use"),
        }
    }

    /// Without the key nothing is permitted to users.
    fn use_pseudonyms(&self, data: &BTreeMap<String, ByteString>) {
        let bytes = data.get(PSEUDONYM_KEY_ENTRY).map_or(&[][..], |bytes| &bytes.0);
        match PseudonymKey::new("1".to_owned(), bytes) {
            Ok(key) => {
                self.pseudonyms.send_replace(Some(Arc::new(key)));
                self.named.send_replace(true);
            }
            Err(error) => tracing::error!(%error, "the key of pseudonyms is not taken into use"),
        }
    }
}

/// Has what was counted put on record, for ever.
async fn tick(broker: &Broker) {
    let mut ticks = tokio::time::interval(TICK);
    loop {
        ticks.tick().await;
        broker.tick();
    }
}

/// Where tokens are exchanged.
fn endpoint(
    options: &Options,
    broker: &Arc<Broker>,
    resolver: Arc<tls::Resolver>,
    is_synced: watch::Receiver<bool>,
    serving: watch::Sender<bool>,
) -> Endpoint {
    let (router, drain) = (broker::router(Arc::clone(broker)), Duration::from_secs(options.drain_seconds));
    Endpoint { address: options.address, router, resolver, is_synced, serving, drain }
}

/// Shows the record to whoever may reach this pod's loopback address.
async fn show_record(options: &Options, broker: &Arc<Broker>) -> std::io::Result<()> {
    let (of, origin) = (Arc::clone(broker), broker.record.log().to_string());
    let router = reading(&options.record_directory, origin, move || of.record.size());
    let bounds = server::Bounds { connections: READERS, ..server::Bounds::default() };
    server::serve(options.record_address, router, bounds, Handle::new()).await
}

/// Runs until asked to stop.
pub(super) async fn run(options: Options) -> anyhow::Result<()> {
    let process = &options.process;
    log::init(process.log_format, &process.log_level)?;
    let cluster = audiences::issuer(Path::new(audiences::TOKEN_PATH))?;
    let client = client::connect().await?;
    let mut metrics = Metrics::new(Role::Broker);
    let watch_metrics = IndexMetrics::register(&mut metrics);
    let certificate_metrics = CertificateMetrics::register(&mut metrics);
    let issuers = verify::Issuers::new(Bounds::default(), IssuerMetrics::register(&mut metrics));

    let proving = options.freshness.config(process, "deputy-broker")?;
    let index = Index::new(process.declarable(Some(&options.issuer))?);
    let (view, kept) = View::new(&client, index, Kinds::Exchange, proving, &mut metrics, &watch_metrics);
    let record = open_record(&options.record_directory, RecordMetrics::register(&mut metrics))?;
    let decided = BrokerMetrics::register(&mut metrics);
    let (loaded, is_loaded) = watch::channel(false);
    let (keyed, is_keyed) = watch::channel(false);
    let (named, is_named) = watch::channel(false);
    let (serving, is_serving) = watch::channel(true);
    let mut checks = vec![
        Check { name: "serving", passed: is_serving },
        Check { name: "certificate loaded", passed: is_loaded },
        Check { name: "signing keys loaded", passed: is_keyed },
        Check { name: "key of pseudonyms loaded", passed: is_named },
        Check { name: "record writable", passed: record.writable() },
    ];
    checks.extend(view.checks());
    let (found, keys) = watch::channel(None);
    let (naming, pseudonyms) = watch::channel(None);
    let broker = Arc::new(Broker {
        issuers: Issuers { broker: options.issuer.clone(), cluster },
        snapshots: view.snapshots.clone(),
        freshness: view.freshness.clone(),
        questions: Questions::new(&client, &options.issuer, &decided),
        presented: PresentedTokens::new(&decided),
        subjects: Verifier::new(issuers, decided.lookups("subject")),
        pseudonyms,
        keys,
        record,
        noise: Mutex::new(Noise::default()),
        metrics: decided,
        clock: clock::now,
        random,
    });

    let (resolver, served) = (Arc::new(tls::Resolver::default()), options.certificate());
    let certificate = tls::follow_secret(
        client.clone(),
        &process.namespace,
        &served,
        Arc::clone(&resolver),
        loaded,
        certificate_metrics,
        Arc::clone(&watch_metrics),
    );
    let told = Told { keys: found, keyed, pseudonyms: naming, named };
    let followed = told.follow(&client, process, options.life(), &watch_metrics);
    let health = admin::router(metrics, checks);
    let admin = server::serve(process.admin_address, health, server::Bounds::default(), Handle::new());
    let exchanges = endpoint(&options, &broker, resolver, view.is_synced, serving);
    let shown = show_record(&options, &broker);
    tokio::select! {
        ended = kept => Err(ended),
        ended = shown => ended.context("the record is shown no more").and_then(|()| bail!("the record is shown no more")),
        () = certificate => bail!("the watch of the broker's certificate ended"),
        () = followed => bail!("the watches of the broker's Secrets ended"),
        () = tick(&broker) => bail!("what is counted is not recorded any more"),
        ended = admin => ended.context("the admin server ended").and_then(|()| bail!("the admin server ended")),
        ended = exchanges.serve() => ended,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_record_is_not_for_the_network() {
        for (text, taken) in [
            ("127.0.0.1:9444", true),
            ("[::1]:9444", true),
            ("0.0.0.0:9444", false),
            ("[::]:9444", false),
            ("10.0.0.1:9444", false),
            ("localhost:9444", false),
        ] {
            assert_eq!(loopback(text).is_ok(), taken, "{text}");
        }
    }
}
