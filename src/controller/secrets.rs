//! The Secrets of our own namespace that the controller keeps: certificates and signing keys. Each is written with its
//! resourceVersion, so that two controllers cannot overwrite each other unseen.

use super::writing;
use crate::{api::MANAGED_BY_LABEL, metrics::ControllerMetrics};
use k8s_openapi::{ByteString, api::core::v1::Secret, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use kube::{Api, Client};
use std::{collections::BTreeMap, sync::Arc};

/// Content of a Secret, as text.
pub(super) struct Data(BTreeMap<String, ByteString>);

impl Data {
    /// An entry; `None` if it is absent or no text.
    pub(super) fn text(&self, key: &str) -> Option<String> {
        String::from_utf8(self.0.get(key)?.0.clone()).ok()
    }
}

impl FromIterator<(&'static str, String)> for Data {
    fn from_iter<I: IntoIterator<Item = (&'static str, String)>>(entries: I) -> Self {
        Self(entries.into_iter().map(|(key, text)| (key.to_owned(), ByteString(text.into_bytes()))).collect())
    }
}

/// The resourceVersion of a Secret that exists.
pub(super) type Version = Option<String>;

/// Reads and writes them.
pub(super) struct Secrets {
    api: Api<Secret>,
    metrics: Arc<ControllerMetrics>,
}

impl Secrets {
    /// The Secrets of this namespace.
    pub(super) fn new(client: Client, namespace: &str, metrics: Arc<ControllerMetrics>) -> Self {
        Self { api: Api::namespaced(client, namespace), metrics }
    }

    /// What the Secret holds; nothing if there is none.
    pub(super) async fn read(&self, name: &str) -> kube::Result<(Data, Version)> {
        let secret = self.api.get_opt(name).await?;
        let (data, version) = secret.map_or((None, None), |s| (s.data, s.metadata.resource_version));
        Ok((Data(data.unwrap_or_default()), version))
    }

    /// Makes the Secret, or replaces the one of this version.
    pub(super) async fn write(
        &self,
        name: &str,
        type_: &str,
        data: Data,
        version: Version,
    ) -> kube::Result<()> {
        let params = writing();
        let exists = version.is_some();
        let secret = Secret {
            metadata: ObjectMeta {
                name: Some(name.to_owned()),
                labels: Some([(MANAGED_BY_LABEL.to_owned(), "deputy".to_owned())].into()),
                resource_version: version,
                ..ObjectMeta::default()
            },
            data: Some(data.0),
            type_: Some(type_.to_owned()),
            ..Secret::default()
        };
        self.metrics.wrote(if exists { "update" } else { "create" }, "secrets");
        let written = if exists {
            self.api.replace(name, &params, &secret).await
        } else {
            self.api.create(&params, &secret).await
        };
        written.map(drop)
    }
}
