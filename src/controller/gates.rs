//! Letting go the pods that waited for their agent's suspension to end.

use crate::{
    api::{FIELD_MANAGER, GATED_ANNOTATION, SUSPENDED_GATE},
    metrics::ControllerMetrics,
};
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, Client,
    api::{Patch, PatchParams},
};
use serde_json::json;

/// Lifts the gate of each pod of `names`. One that is gone, or whose gate is, is done.
///
/// # Errors
/// The first refusal of another kind; the rest are looked at again with it.
pub(super) async fn lift(
    client: &Client,
    namespace: &str,
    names: &[String],
    metrics: &ControllerMetrics,
) -> Result<(), kube::Error> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    // A strategic merge: gates are a list by name, and others' stay.
    let patch = Patch::Strategic(json!({
        "metadata": {"annotations": {GATED_ANNOTATION: null}},
        "spec": {"schedulingGates": [{"$patch": "delete", "name": SUSPENDED_GATE}]},
    }));
    let parameters = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
    for name in names {
        metrics.wrote("patch", "pods");
        match pods.patch(name, &parameters, &patch).await {
            Ok(_) => tracing::info!(namespace, name, "the pod waits no more"),
            Err(kube::Error::Api(status)) if status.is_not_found() => (),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
