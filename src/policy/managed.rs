//! The volumes Deputy puts into an agent's pod. Every default of the API is written out, so that what comes back from
//! the API server equals what was sent.

use super::mount_path;
use crate::index::Identity;
use serde_json::{Value, json};

/// Name of the volume with the agent's declared tokens. Reserved in agents' pods.
pub(super) const TOKENS_VOLUME: &str = "deputy-tokens";

/// Name of the volume with the token for the Kubernetes API. Reserved in agents' pods.
pub(super) const API_ACCESS_VOLUME: &str = "deputy-kube-api-access";

/// What the name of the volume starts with that Kubernetes' ServiceAccount plugin injects.
pub(super) const INJECTED_PREFIX: &str = "kube-api-access-";

/// Lifetime of the token for the Kubernetes API. Not 3607: the API server extends exactly that to a year.
const API_TOKEN_SECONDS: i64 = 3600;

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

/// The managed volumes of a pod of `identity`.
pub(super) fn volumes(identity: &Identity) -> [ManagedVolume; 2] {
    [
        ManagedVolume {
            name: TOKENS_VOLUME,
            mount_path: mount_path::DEPUTY,
            volume: (!identity.tokens.is_empty()).then(|| tokens(identity)),
        },
        ManagedVolume {
            name: API_ACCESS_VOLUME,
            mount_path: mount_path::SERVICE_ACCOUNT,
            volume: identity.kubernetes_api_access.then(api_access),
        },
    ]
}

/// Whether a volume of this name may be mounted at the managed `path`.
pub(super) fn belongs_at(volume: &str, path: &str) -> bool {
    (volume == TOKENS_VOLUME && mount_path::same(path, mount_path::DEPUTY))
        || (volume == API_ACCESS_VOLUME && mount_path::same(path, mount_path::SERVICE_ACCOUNT))
}

fn tokens(identity: &Identity) -> Value {
    let sources: Vec<_> = identity
        .tokens
        .iter()
        .map(|token| {
            json!({"serviceAccountToken": {
                "audience": token.audience,
                "expirationSeconds": token.expiration_seconds,
                "path": format!("tokens/{}", token.name),
            }})
        })
        .collect();
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
