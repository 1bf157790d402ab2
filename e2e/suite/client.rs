//! What many things at once are done with: the API server's clients within this process, in place of kubectl.

use crate::support::IMAGE;
use kube::{Api, Config, api::PostParams};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::{fmt::Debug, time::Duration};
use tokio::time::{sleep, timeout};

/// Longer than anything here takes on a slow machine.
pub const PATIENCE: Duration = Duration::from_secs(90);

/// How the administrator reaches the cluster.
pub async fn connect() -> Config {
    // An error means that one is installed already.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    Config::infer().await.unwrap()
}

/// A typed object.
pub fn read<T: DeserializeOwned>(object: Value) -> T {
    serde_json::from_value(object).unwrap()
}

/// Waits until `question` has an answer.
pub async fn eventually<T, F: Future<Output = Option<T>>>(what: &str, question: impl Fn() -> F) -> T {
    let answered = timeout(PATIENCE, async {
        loop {
            if let Some(answer) = question().await {
                return answer;
            }
            sleep(Duration::from_millis(100)).await;
        }
    });
    answered.await.unwrap_or_else(|_| panic!("waited {PATIENCE:?} in vain until {what}"))
}

/// Makes an object.
pub async fn created<K>(api: &Api<K>, object: Value) -> K
where
    K: Clone + Debug + serde::Serialize + DeserializeOwned,
{
    api.create(&PostParams::default(), &read(object)).await.unwrap()
}

/// A pod of an agent, with further fields of spec.
pub fn pod(name: &str, agent: &str, spec: &Value) -> Value {
    let mut pod = json!({
        "metadata": {"name": name, "labels": {"deputy.dev/agent": agent}},
        "spec": {"terminationGracePeriodSeconds": 0, "containers": [
            {"name": "app", "image": IMAGE, "imagePullPolicy": "Never", "command": ["sleep", "3600"]}]},
    });
    pod["spec"].as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
    pod
}
