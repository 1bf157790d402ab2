//! The flags of kubectl that say which cluster, and as whom.

use super::Session;
use anyhow::Context as _;
use clap::Args;
use hyper_util::client::proxy::matcher::Matcher;
use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig, KubeconfigError},
};
use std::{io, path::PathBuf, time::Duration};

/// How long a connection may take to be made.
const CONNECT: Duration = Duration::from_secs(10);

#[derive(Args, Debug)]
pub(super) struct ConnectionOptions {
    /// Namespace of the agents; by default that of the context
    #[arg(short, long, value_parser = super::agent_name)]
    namespace: Option<String>,
    /// Path of the kubeconfig; by default what KUBECONFIG names, or ~/.kube/config
    #[arg(long, value_name = "PATH")]
    kubeconfig: Option<PathBuf>,
    /// Context of the kubeconfig
    #[arg(long)]
    context: Option<String>,
    /// User to impersonate
    #[arg(long = "as", value_name = "USER")]
    impersonate: Option<String>,
    /// Group to impersonate; may be repeated
    #[arg(long = "as-group", value_name = "GROUP", requires = "impersonate")]
    impersonate_groups: Vec<String>,
    /// How long one answer may take, as 30s or 2m; 0 for ever
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = duration)]
    request_timeout: Duration,
}

impl ConnectionOptions {
    /// A session with the cluster that the flags and the kubeconfig name. Nothing is asked of it yet.
    pub(super) async fn session(&self) -> anyhow::Result<Session> {
        let mut config = self.config().await?;
        if let Some(user) = &self.impersonate {
            config.auth_info.impersonate = Some(user.clone());
            config.auth_info.impersonate_groups = Some(self.impersonate_groups.clone());
        }
        config.connect_timeout = Some(CONNECT);
        let namespace = self.namespace.clone().unwrap_or_else(|| config.default_namespace.clone());
        // Without what may stand before an @.
        let server = config.cluster_url.host().unwrap_or_default().to_owned();
        let port = config.cluster_url.port_u16().map_or_else(String::new, |port| format!(":{port}"));
        let client = Client::try_from(config).context(
            "the kubeconfig does not lead to an API server; see whether `kubectl auth whoami` works",
        );
        // Its causes may hold what a credential program printed.
        let client = client.map_err(|error| anyhow::anyhow!("{error}"))?;
        let timeout = (!self.request_timeout.is_zero()).then_some(self.request_timeout);
        Ok(Session { client, namespace, server: server + &port, timeout })
    }

    async fn config(&self) -> anyhow::Result<Config> {
        const ADVICE: &str = "cannot use the kubeconfig; set KUBECONFIG, or give --kubeconfig and --context";
        let read = match &self.kubeconfig {
            Some(path) => Kubeconfig::read_from(path),
            None => Kubeconfig::read(),
        };
        let kubeconfig = match read {
            Ok(kubeconfig) => kubeconfig,
            // As kubectl does in a pod.
            Err(error) if self.kubeconfig.is_none() && self.context.is_none() && is_absent(&error) => {
                return Config::incluster().map_err(|_| error).context(ADVICE);
            }
            Err(error) => return Err(told(error)).context(ADVICE),
        };
        let options = KubeConfigOptions { context: self.context.clone(), ..KubeConfigOptions::default() };
        let has_proxy = names_proxy(&kubeconfig, self.context.as_deref());
        let mut config =
            Config::from_custom_kubeconfig(kubeconfig, &options).await.map_err(told).context(ADVICE)?;
        // kube compares NO_PROXY with the proxy's own address; what it should be compared with is the cluster's.
        if !has_proxy && Matcher::from_env().intercept(&config.cluster_url).is_none() {
            config.proxy_url = None;
        }
        Ok(config)
    }
}

/// The error without what it may quote: the lines around a fault of the YAML can be a credential.
fn told(error: KubeconfigError) -> anyhow::Error {
    match error {
        KubeconfigError::Parse(_) => {
            anyhow::anyhow!("it is not a kubeconfig; see what `kubectl config view` says")
        }
        other => other.into(),
    }
}

fn is_absent(error: &KubeconfigError) -> bool {
    match error {
        KubeconfigError::FindPath => true,
        KubeconfigError::ReadConfig(error, _) => error.kind() == io::ErrorKind::NotFound,
        _ => false,
    }
}

/// Whether the kubeconfig itself names a proxy for the cluster.
fn names_proxy(kubeconfig: &Kubeconfig, context: Option<&str>) -> bool {
    let context = context.or(kubeconfig.current_context.as_deref());
    let context = kubeconfig.contexts.iter().find(|named| Some(named.name.as_str()) == context);
    let Some(context) = context.and_then(|named| named.context.as_ref()) else { return false };
    let cluster = kubeconfig.clusters.iter().find(|named| named.name == context.cluster);
    cluster
        .and_then(|named| named.cluster.as_ref())
        .is_some_and(|cluster| cluster.proxy_url.as_ref().is_some_and(|url| !url.is_empty()))
}

/// As kubectl writes it: `0`, `30`, `30s`, `1m30s`.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is no length of time: write it as 30s, 2m or 1m30s");
    if let Ok(seconds) = text.parse() {
        return Ok(Duration::from_secs(seconds));
    }
    let (mut total, mut rest) = (Duration::ZERO, text);
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
        let (number, after) = rest.split_at(digits);
        let number: u64 = number.parse().map_err(|_| wrong())?;
        let letters = after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len());
        let (unit, after) = after.split_at(letters);
        let milliseconds = match unit {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            _ => return Err(wrong()),
        };
        let part = number.checked_mul(milliseconds).map(Duration::from_millis).ok_or_else(wrong)?;
        total = total.checked_add(part).ok_or_else(wrong)?;
        rest = after;
    }
    if text.is_empty() { Err(wrong()) } else { Ok(total) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_of_time_are_read_as_kubectl_reads_them() {
        for (text, seconds) in [("0", 0), ("30", 30), ("30s", 30), ("1m30s", 90), ("2h", 7200), ("1000ms", 1)]
        {
            assert_eq!(duration(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for text in ["", "s", "-1s", "1d", "1m30", "1.5s", "99999999999999999999h", "99999999999999999h"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_proxy_of_the_kubeconfig_is_of_its_cluster() {
        let yaml = "{apiVersion: v1, kind: Config, current-context: one, \
            contexts: [{name: one, context: {cluster: one}}, {name: two, context: {cluster: two}}], \
            clusters: [{name: one, cluster: {server: 'https://a', proxy-url: 'http://p'}}, {name: two, cluster: {server: 'https://b'}}]}";
        let kubeconfig = Kubeconfig::from_yaml(yaml).unwrap();
        assert!(names_proxy(&kubeconfig, None) && names_proxy(&kubeconfig, Some("one")));
        assert!(!names_proxy(&kubeconfig, Some("two")) && !names_proxy(&kubeconfig, Some("none")));
    }
}
