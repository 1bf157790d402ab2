//! The part of `admission.k8s.io/v1` AdmissionReview that is used. The object stays raw JSON: typed decoding would
//! drop the fields this version does not know, and it is those that admission must not miss.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use json_patch::Patch;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;

const API_VERSION: &str = "admission.k8s.io/v1";

/// Bytes of the longest name Kubernetes takes. Before it has looked, a pod may ask for any.
const NAME_BYTES: usize = 253;

/// A review as the API server sends it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Review {
    pub(super) api_version: String,
    pub(super) kind: String,
    pub(super) request: Request,
}

impl Review {
    /// The kind of every review, in and out.
    pub(super) const KIND: &str = "AdmissionReview";

    /// Whether it is of the one version we registered for.
    pub(super) fn is_ours(&self) -> bool {
        self.api_version == API_VERSION && self.kind == Self::KIND
    }
}

/// What is asked.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Request {
    pub(super) uid: String,
    pub(super) resource: Resource,
    #[serde(default)]
    pub(super) sub_resource: String,
    #[serde(default)]
    pub(super) namespace: String,
    #[serde(default)]
    pub(super) name: String,
    pub(super) operation: String,
    #[serde(default)]
    pub(super) user_info: UserInfo,
    #[serde(default)]
    pub(super) object: Value,
}

/// A resource type.
#[derive(Deserialize, PartialEq, Eq)]
pub(super) struct Resource {
    #[serde(default)]
    pub(super) group: String,
    pub(super) version: String,
    pub(super) resource: String,
}

/// Who asks.
#[derive(Default, Deserialize)]
pub(super) struct UserInfo {
    #[serde(default)]
    pub(super) username: String,
    #[serde(default)]
    pub(super) groups: Vec<String>,
}

impl Request {
    /// Whether a pod is being created.
    pub(super) fn creates_pod(&self) -> bool {
        self.is_pod() && self.operation == "CREATE" && self.sub_resource.is_empty()
    }

    /// Whether a running pod gets debug containers.
    pub(super) fn adds_debug_containers(&self) -> bool {
        self.is_pod() && self.operation == "UPDATE" && self.sub_resource == "ephemeralcontainers"
    }

    fn is_pod(&self) -> bool {
        let Resource { group, version, resource } = &self.resource;
        group.is_empty() && version == "v1" && resource == "pods"
    }

    /// Whether this is a kubelet showing a static pod that runs already. Refusing it would only hide the pod. All of
    /// it is required, since the annotation alone is anybody's to write: the node speaks for itself, and the pod names
    /// no account, as Kubernetes demands of mirror pods.
    pub(super) fn is_mirror_pod(&self) -> bool {
        let Some(node) = self.user_info.username.strip_prefix("system:node:") else { return false };
        let (metadata, spec) = (&self.object["metadata"], &self.object["spec"]);
        let owners = metadata["ownerReferences"].as_array().map_or(&[][..], Vec::as_slice);
        self.user_info.groups.iter().any(|group| group == "system:nodes")
            && metadata["annotations"]["kubernetes.io/config.mirror"].is_string()
            && owners.iter().any(|o| o["kind"] == "Node" && o["apiVersion"] == "v1" && o["name"] == node)
            && ["serviceAccountName", "serviceAccount"].iter().all(|field| spec[*field].is_null())
    }

    /// The pod's name, or the prefix of the name it will get.
    pub(super) fn shown_name(&self) -> &str {
        if self.name.is_empty() {
            let prefix = self.object["metadata"]["generateName"].as_str().unwrap_or_default();
            &prefix[..prefix.floor_char_boundary(NAME_BYTES)]
        } else {
            &self.name
        }
    }
}

/// The answer.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Answer {
    api_version: &'static str,
    kind: &'static str,
    response: Response,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Response {
    uid: String,
    allowed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<Status>,
    #[serde(flatten)]
    patch: Option<EncodedPatch>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    audit_annotations: BTreeMap<&'static str, String>,
}

#[derive(Serialize)]
struct Status {
    code: u16,
    reason: &'static str,
    message: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct EncodedPatch {
    patch_type: &'static str,
    patch: String,
}

impl Answer {
    fn new(uid: &str, allowed: bool, status: Option<Status>) -> Self {
        let response = Response {
            uid: uid.to_owned(),
            allowed,
            status,
            patch: None,
            warnings: vec![],
            audit_annotations: BTreeMap::new(),
        };
        Self { api_version: API_VERSION, kind: Review::KIND, response }
    }

    /// The request may go on.
    pub(super) fn allow(uid: &str) -> Self {
        Self::new(uid, true, None)
    }

    /// The request is refused by a rule.
    pub(super) fn forbid(uid: &str, message: String) -> Self {
        Self::new(uid, false, Some(Status { code: 403, reason: "Forbidden", message }))
    }

    /// The request is refused because it cannot be judged.
    pub(super) fn reject(uid: &str, message: String) -> Self {
        Self::new(uid, false, Some(Status { code: 400, reason: "BadRequest", message }))
    }

    /// The request is refused because judging it failed on our side.
    pub(super) fn fail(uid: &str, message: String) -> Self {
        Self::new(uid, false, Some(Status { code: 500, reason: "InternalError", message }))
    }

    /// The request is refused because it cannot be judged now.
    pub(super) fn unavailable(uid: &str, message: String) -> Self {
        Self::new(uid, false, Some(Status { code: 503, reason: "ServiceUnavailable", message }))
    }

    /// Adds a patch; an empty one is none.
    ///
    /// # Errors
    /// When it cannot be written as JSON, which it can.
    pub(super) fn patch(mut self, operations: &Patch) -> serde_json::Result<Self> {
        if !operations.0.is_empty() {
            let patch = BASE64_STANDARD.encode(serde_json::to_vec(operations)?);
            self.response.patch = Some(EncodedPatch { patch_type: "JSONPatch", patch });
        }
        Ok(self)
    }

    /// Adds warnings.
    pub(super) fn warn(mut self, warnings: Vec<String>) -> Self {
        self.response.warnings = warnings;
        self
    }

    /// Adds a fact to the API server's audit log; an empty one is none.
    pub(super) fn audit(mut self, key: &'static str, value: String) -> Self {
        if !value.is_empty() {
            self.response.audit_annotations.insert(key, value);
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn mirror(edit: impl FnOnce(&mut Value)) -> bool {
        let mut request = json!({
            "uid": "u", "operation": "CREATE", "namespace": "kube-system", "name": "etcd-n1",
            "resource": {"group": "", "version": "v1", "resource": "pods"},
            "userInfo": {"username": "system:node:n1", "groups": ["system:nodes", "system:authenticated"]},
            "object": {
                "metadata": {
                    "annotations": {"kubernetes.io/config.mirror": "hash"},
                    "ownerReferences": [{"apiVersion": "v1", "kind": "Node", "name": "n1", "controller": true}],
                },
                "spec": {"nodeName": "n1"},
            },
        });
        edit(&mut request);
        serde_json::from_value::<Request>(request).unwrap().is_mirror_pod()
    }

    #[test]
    fn a_mirror_pod_is_one_in_every_respect() {
        assert!(mirror(|_| ()));
        let without: [fn(&mut Value); 7] = [
            |r| r["userInfo"]["username"] = json!("system:serviceaccount:a:b"),
            |r| r["userInfo"]["groups"] = json!(["system:authenticated"]),
            |r| r["object"]["metadata"]["annotations"] = json!({}),
            |r| r["object"]["metadata"]["ownerReferences"][0]["kind"] = json!("ReplicaSet"),
            |r| r["object"]["metadata"]["ownerReferences"][0]["name"] = json!("n2"),
            |r| r["object"]["spec"]["serviceAccountName"] = json!("agent.a"),
            |r| r["object"]["spec"]["serviceAccount"] = json!("agent.a"),
        ];
        for (at, edit) in without.into_iter().enumerate() {
            assert!(!mirror(edit), "{at}");
        }
    }
}
