//! The part of `admission.k8s.io/v1` AdmissionReview that is used. The object stays raw JSON: typed decoding would
//! drop the fields this version does not know, and it is those that admission must not miss.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use json_patch::Patch;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;

const API_VERSION: &str = "admission.k8s.io/v1";
const KIND: &str = "AdmissionReview";

/// A review as the API server sends it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Review {
    pub(super) api_version: String,
    pub(super) kind: String,
    pub(super) request: Request,
}

impl Review {
    /// Whether it is of the one version we registered for.
    pub(super) fn is_ours(&self) -> bool {
        self.api_version == API_VERSION && self.kind == KIND
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
    /// it is required: the annotation alone is anybody's to write.
    pub(super) fn is_mirror_pod(&self) -> bool {
        let metadata = &self.object["metadata"];
        let owners = metadata["ownerReferences"].as_array().map_or(&[][..], Vec::as_slice);
        self.user_info.username.starts_with("system:node:")
            && self.user_info.groups.iter().any(|group| group == "system:nodes")
            && metadata["annotations"]["kubernetes.io/config.mirror"].is_string()
            && owners.iter().any(|owner| owner["kind"] == "Node" && owner["apiVersion"] == "v1")
    }

    /// The pod's name, or the prefix of the name it will get.
    pub(super) fn shown_name(&self) -> &str {
        if self.name.is_empty() {
            self.object["metadata"]["generateName"].as_str().unwrap_or_default()
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
        Self { api_version: API_VERSION, kind: KIND, response }
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

    /// Adds a fact to the API server's audit log.
    pub(super) fn audit(mut self, key: &'static str, value: String) -> Self {
        self.response.audit_annotations.insert(key, value);
        self
    }
}
