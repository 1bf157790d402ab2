//! The pods that run as an account, read from the API server itself and not from a view of it.

use super::fate::{GRACE, Pod};
use crate::api::SUSPENDED_GATE;
use k8s_openapi::{api::core::v1 as core, apimachinery::pkg::apis::meta::v1::Time};
use kube::{Client, Resource, api::ListParams, core::Request};
use serde::{Deserialize, de::IgnoredAny};

/// Pods are listed few at a time, since each may be as large as the API takes and a page is held as a whole.
const PAGE: u32 = 5;

/// Some of the pods, and where the rest begins.
pub(super) struct Page {
    pub(super) pods: Vec<Pod>,
    pub(super) next: Option<String>,
}

/// The unfinished pods that run as `account`, from `start`. Without a resource version, so that a pod which was committed
/// before the question is in the answer.
///
/// # Errors
/// When the API server does not answer, or not with pods.
pub(super) async fn page(
    client: &Client,
    namespace: &str,
    account: &str,
    start: Option<&str>,
) -> Result<Page, kube::Error> {
    let fields = format!("spec.serviceAccountName={account},status.phase!=Succeeded,status.phase!=Failed");
    let mut asked = ListParams::default().fields(&fields).limit(PAGE);
    asked.continue_token = start.map(str::to_owned);
    let request = Request::new(core::Pod::url_path(&(), Some(namespace))).list(&asked);
    let List { metadata, items } = client.request(request.map_err(kube::Error::BuildRequest)?).await?;
    let next = metadata.next.filter(|token| !token.is_empty());
    Ok(Page { pods: items.into_iter().map(Pod::from).collect(), next })
}

#[derive(Deserialize)]
struct List {
    metadata: ListMetadata,
    items: Vec<Item>,
}

#[derive(Deserialize)]
struct ListMetadata {
    #[serde(rename = "continue")]
    next: Option<String>,
}

/// Of a pod what its fate depends on.
#[derive(Deserialize)]
struct Item {
    metadata: Metadata,
    #[serde(default)]
    spec: Spec,
    #[serde(default)]
    status: Status,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    name: String,
    uid: String,
    deletion_timestamp: Option<IgnoredAny>,
    deletion_grace_period_seconds: Option<i64>,
    #[serde(default)]
    annotations: Option<Annotations>,
}

#[derive(Default, Deserialize)]
struct Annotations {
    #[serde(rename = "deputy.dev/identity-uid")]
    identity_uid: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Spec {
    termination_grace_period_seconds: Option<i64>,
    #[serde(default)]
    scheduling_gates: Option<Vec<Gate>>,
}

#[derive(Deserialize)]
struct Gate {
    name: String,
}

#[derive(Default, Deserialize)]
struct Status {
    #[serde(default)]
    conditions: Option<Vec<Condition>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Condition {
    #[serde(rename = "type")]
    type_: String,
    status: String,
    last_transition_time: Option<Time>,
}

impl From<Item> for Pod {
    fn from(Item { metadata, spec, status }: Item) -> Self {
        let seconds = |seconds: Option<i64>| seconds.map(|seconds| u32::try_from(seconds).unwrap_or(GRACE));
        let is_bound = |c: &Condition| c.type_ == "PodScheduled" && c.status == "True";
        let bound = status.conditions.into_iter().flatten().find(is_bound);
        Self {
            name: metadata.name,
            uid: metadata.uid,
            identity_uid: metadata.annotations.and_then(|annotations| annotations.identity_uid),
            bound: bound.and_then(|condition| condition.last_transition_time).map(|time| time.0),
            is_gated: spec.scheduling_gates.iter().flatten().any(|gate| gate.name == SUSPENDED_GATE),
            grace: seconds(spec.termination_grace_period_seconds),
            ending: metadata
                .deletion_timestamp
                .map(|_| seconds(metadata.deletion_grace_period_seconds).unwrap_or_default()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::jiff::Timestamp;
    use serde_json::{Value, json};

    fn read(pod: Value) -> Pod {
        serde_json::from_value::<Item>(pod).unwrap().into()
    }

    #[test]
    fn a_pods_fate_is_read_from_what_the_api_server_says() {
        let scheduled =
            json!({"type": "PodScheduled", "status": "True", "lastTransitionTime": "1970-01-01T00:01:40Z"});
        let pod = json!({
            "metadata": {"name": "p", "uid": "1", "annotations": {"deputy.dev/identity-uid": "u", "a": "b"}},
            "spec": {"terminationGracePeriodSeconds": 7, "containers": [{}], "schedulingGates": [{"name": "x"}]},
            "status": {"conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": null}, scheduled]},
        });
        let expected = Pod {
            name: "p".into(),
            uid: "1".into(),
            identity_uid: Some("u".into()),
            bound: Some(Timestamp::from_second(100).unwrap()),
            grace: Some(7),
            ..Pod::default()
        };
        assert_eq!(read(pod.clone()), expected);

        let mut waits = pod.clone();
        waits["spec"]["schedulingGates"] = json!([{"name": "x"}, {"name": SUSPENDED_GATE}]);
        waits["status"]["conditions"][1]["status"] = json!("False");
        assert_eq!(read(waits), Pod { bound: None, is_gated: true, ..expected });

        let mut going = pod;
        going["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        assert_eq!(read(going.clone()).ending, Some(0));
        going["metadata"]["deletionGracePeriodSeconds"] = json!(86_400);
        assert_eq!(read(going).ending, Some(86_400));
    }

    #[test]
    fn what_is_absent_or_null_is_nothing() {
        for pod in [
            json!({"metadata": {"name": "p", "uid": "1"}}),
            json!({"metadata": {"name": "p", "uid": "1", "annotations": null}, "spec": {"schedulingGates": null},
                "status": {"conditions": null}}),
        ] {
            assert_eq!(read(pod), Pod { name: "p".into(), uid: "1".into(), ..Pod::default() });
        }
    }
}
