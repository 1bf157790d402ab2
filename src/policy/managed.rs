//! What Deputy puts into an agent's pod: volumes, and the environment that says where to find the broker. Every default of
//! the API is written out, so that what comes back from the API server equals what was sent.

use super::{
    Finding,
    facts::{List, PodFacts},
    mount_path,
    rule::AI107,
};
use crate::{api::CA_KEY, identity::account_name, index::Identity};
use serde_json::{Value, json};

/// Name of the volume with the agent's tokens: those it declares and the broker's, and the CA of the broker. Reserved in
/// agents' pods.
pub(super) const TOKENS_VOLUME: &str = "deputy-tokens";

/// Name of the volume with the token for the Kubernetes API. Reserved in agents' pods.
pub(super) const API_ACCESS_VOLUME: &str = "deputy-kube-api-access";

/// What the name of the volume starts with that Kubernetes' ServiceAccount plugin injects.
pub(super) const INJECTED_PREFIX: &str = "kube-api-access-";

/// Lifetime of the token for the Kubernetes API. Not 3607: the API server extends exactly that to a year.
const API_TOKEN_SECONDS: i64 = 3600;

/// Lifetime of the token for the broker.
const BROKER_TOKEN_SECONDS: i64 = 3600;

/// File of the token for the broker, below [`mount_path::DEPUTY`].
const BROKER_TOKEN: &str = "token";

/// A volume and where its one consumer finds it.
pub(super) struct ManagedVolume {
    pub(super) name: &'static str,
    pub(super) mount_path: &'static str,
    volume: Option<Value>,
}

impl ManagedVolume {
    /// The volume as it should stand in the pod; `None` if the identity has none of it.
    pub(super) fn desired(&self) -> Option<&Value> {
        self.volume.as_ref()
    }

    /// The mount as it should stand in the one container.
    pub(super) fn mount(&self) -> Value {
        json!({"name": self.name, "mountPath": self.mount_path, "readOnly": true})
    }
}

/// The managed volumes of a pod of `identity`, where the broker, if there is one, is `issuer`.
pub(super) fn volumes(identity: &Identity, issuer: Option<&str>) -> [ManagedVolume; 2] {
    let has_tokens = issuer.is_some() || !identity.tokens.is_empty();
    [
        ManagedVolume {
            name: TOKENS_VOLUME,
            mount_path: mount_path::DEPUTY,
            volume: has_tokens.then(|| tokens(identity, issuer)),
        },
        ManagedVolume {
            name: API_ACCESS_VOLUME,
            mount_path: mount_path::SERVICE_ACCOUNT,
            volume: identity.kubernetes_api_access.then(api_access),
        },
    ]
}

/// The environment of the one consumer that says where the broker is, by name.
pub(super) fn environment(issuer: &str) -> [(&'static str, String); 3] {
    [
        ("DEPUTY_ISSUER", issuer.to_owned()),
        ("DEPUTY_TOKEN_FILE", format!("{}/{BROKER_TOKEN}", mount_path::DEPUTY)),
        ("DEPUTY_CA_FILE", format!("{}/{CA_KEY}", mount_path::DEPUTY)),
    ]
}

/// A variable as it should stand in the environment.
pub(super) fn variable(name: &str, value: &str) -> Value {
    json!({"name": name, "value": value})
}

/// The one container that receives the managed `volumes`, as its index in `spec.containers`; `None` if there is nothing
/// to receive.
pub(super) fn consumer(facts: &PodFacts<'_>, volumes: &[ManagedVolume]) -> Result<Option<usize>, Finding> {
    if volumes.iter().all(|volume| volume.desired().is_none()) {
        return Ok(None);
    }
    let mut candidates = facts.containers.iter().filter(|c| c.list == List::Main);
    if let Some((annotation, name)) = facts.named_container {
        return candidates.find(|c| c.name == name).map(|c| Some(c.index)).ok_or_else(|| {
            Finding::deny(
                &AI107,
                format!("metadata.annotations[{annotation:?}]"),
                format!("names container {name:?}, which is not among spec.containers"),
            )
        });
    }
    match (candidates.next(), candidates.next()) {
        (Some(only), None) => Ok(Some(only.index)),
        _ => Err(Finding::deny(
            &AI107,
            "spec.containers",
            "several containers, and none is named as the one that receives the agent's tokens",
        )),
    }
}

/// Whether a volume of this name may be mounted at the managed `path`.
pub(super) fn belongs_at(volume: &str, path: &str) -> bool {
    (volume == TOKENS_VOLUME && mount_path::same(path, mount_path::DEPUTY))
        || (volume == API_ACCESS_VOLUME && mount_path::same(path, mount_path::SERVICE_ACCOUNT))
}

/// All of it in one volume: a second one, mounted below the first, could not be. A projected volume is read-only, so that the
/// container runtime cannot make the directory to mount it at, and the container would never start.
fn tokens(identity: &Identity, issuer: Option<&str>) -> Value {
    let token = |audience: &str, seconds: i64, path: String| json!({"serviceAccountToken": {"audience": audience, "expirationSeconds": seconds, "path": path}});
    let declared = identity.tokens.iter().map(|declared| {
        let path = format!("tokens/{}", declared.name);
        token(&declared.audience, declared.expiration_seconds.into(), path)
    });
    // Not optional: a pod that starts before its ConfigMap is there waits for it, and is never without.
    let authority = || {
        let items = [json!({"key": CA_KEY, "path": CA_KEY})];
        json!({"configMap": {"name": account_name(&identity.name), "items": items}})
    };
    let of_broker = issuer
        .iter()
        .flat_map(|issuer| [token(issuer, BROKER_TOKEN_SECONDS, BROKER_TOKEN.to_owned()), authority()]);
    let sources: Vec<_> = of_broker.chain(declared).collect();
    json!({"name": TOKENS_VOLUME, "projected": {"defaultMode": 420, "sources": sources}})
}

fn api_access() -> Value {
    let namespace =
        json!({"path": "namespace", "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}});
    json!({"name": API_ACCESS_VOLUME, "projected": {"defaultMode": 420, "sources": [
        {"serviceAccountToken": {"expirationSeconds": API_TOKEN_SECONDS, "path": "token"}},
        {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
        {"downwardAPI": {"items": [namespace]}},
    ]}})
}
