//! Where certificates rest: two Secrets of our own namespace, and `caBundle` in the webhook configurations.
//!
//! The bundle is written by server-side apply of that one field: Helm owns the rest of the object, and never sees it.

use super::{
    Config, Error,
    issue::{self, Pair},
    plan::{Authorities, Validity},
};
use crate::{
    api::FIELD_MANAGER,
    controller::secrets::{Data, Secrets, Version},
    metrics::ControllerMetrics,
};
use k8s_openapi::{
    ByteString,
    api::admissionregistration::v1::{
        MutatingWebhookConfiguration, ValidatingWebhookConfiguration, WebhookClientConfig,
    },
};
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{Patch, PatchParams},
};
use serde::de::DeserializeOwned;
use serde_json::json;
use std::{fmt, sync::Arc};

const CERTIFICATE: &str = "tls.crt";
const KEY: &str = "tls.key";
const NEXT_CERTIFICATE: &str = "next.crt";
const NEXT_KEY: &str = "next.key";
const PREVIOUS_CERTIFICATE: &str = "previous.crt";
const AUTHORITY: &str = "ca.crt";

/// The CAs, with the keys of those that sign or will.
pub(super) struct Held {
    pub(super) current: Pair,
    pub(super) next: Option<Pair>,
    pub(super) previous: Option<String>,
}

impl Held {
    pub(super) fn new(current: Pair) -> Self {
        Self { current, next: None, previous: None }
    }

    /// The next CA signs; the current one is only trusted any more.
    pub(super) fn promoted(self) -> Self {
        match self.next {
            Some(next) => Self { current: next, next: None, previous: Some(self.current.certificate) },
            None => self,
        }
    }

    /// What the plan needs to know; `None` if the current one cannot sign.
    pub(super) fn times(&self) -> Option<Authorities> {
        let validity = |pem: &str| issue::read(pem).map(|facts| facts.validity);
        issue::is_usable(&self.current).then_some(())?;
        Some(Authorities {
            current: validity(&self.current.certificate)?,
            next: self.next.as_ref().and_then(|next| validity(&next.certificate)),
            previous: self.previous.as_deref().and_then(validity),
        })
    }

    /// What API servers are to trust.
    pub(super) fn bundle(&self) -> String {
        let next = self.next.as_ref().map(|next| next.certificate.as_str());
        [Some(self.current.certificate.as_str()), next, self.previous.as_deref()]
            .into_iter()
            .flatten()
            .collect()
    }

    fn from_data(data: &Data) -> Option<Self> {
        let pair =
            |certificate, key| Some(Pair { certificate: data.text(certificate)?, key: data.text(key)? });
        Some(Self {
            current: pair(CERTIFICATE, KEY)?,
            next: pair(NEXT_CERTIFICATE, NEXT_KEY).filter(issue::is_usable),
            previous: data.text(PREVIOUS_CERTIFICATE).filter(|pem| issue::read(pem).is_some()),
        })
    }

    fn to_data(&self) -> Data {
        let next = self.next.iter();
        Data::from_iter(
            [(CERTIFICATE, self.current.certificate.clone()), (KEY, self.current.key.clone())]
                .into_iter()
                .chain(
                    next.flat_map(|n| [(NEXT_CERTIFICATE, n.certificate.clone()), (NEXT_KEY, n.key.clone())]),
                )
                .chain(self.previous.iter().map(|previous| (PREVIOUS_CERTIFICATE, previous.clone()))),
        )
    }
}

/// The serving certificate, and the CA that signed it.
pub(super) struct Serving {
    pub(super) pair: Pair,
    pub(super) authority: String,
}

impl Serving {
    /// Its validity, if it serves `names` and is signed by the CA that signs now.
    pub(super) fn good_for(&self, names: &[String], authorities: &Held) -> Option<Validity> {
        let facts = issue::read(&self.pair.certificate)?;
        let good = issue::is_usable(&self.pair)
            && facts.names == names
            && self.authority == authorities.current.certificate;
        good.then_some(facts.validity)
    }
}

/// Reads and writes them.
pub(super) struct Store {
    pub(super) client: Client,
    pub(super) config: Config,
    pub(super) secrets: Secrets,
    pub(super) metrics: Arc<ControllerMetrics>,
}

impl Store {
    pub(super) async fn authorities(&self) -> Result<(Option<Held>, Version), Error> {
        let (data, version) = self.read(&self.config.ca_secret()).await?;
        Ok((Held::from_data(&data), version))
    }

    pub(super) async fn put_authorities(&self, held: &Held, version: Version) -> Result<(), Error> {
        self.write(&self.config.ca_secret(), held.to_data(), version).await
    }

    pub(super) async fn serving(&self, secret: &str) -> Result<(Option<Serving>, Version), Error> {
        let (data, version) = self.read(secret).await?;
        let serving = (|| {
            let pair = Pair { certificate: data.text(CERTIFICATE)?, key: data.text(KEY)? };
            Some(Serving { pair, authority: data.text(AUTHORITY)? })
        })();
        Ok((serving, version))
    }

    pub(super) async fn put_serving(
        &self,
        secret: &str,
        serving: &Serving,
        version: Version,
    ) -> Result<(), Error> {
        let Serving { pair, authority } = serving;
        let data = [
            (CERTIFICATE, pair.certificate.clone()),
            (KEY, pair.key.clone()),
            (AUTHORITY, authority.clone()),
        ];
        self.write(secret, Data::from_iter(data), version).await
    }

    async fn read(&self, name: &str) -> Result<(Data, Version), Error> {
        self.secrets.read(name).await.map_err(|e| Error::Read(name.to_owned(), e))
    }

    async fn write(&self, name: &str, data: Data, version: Version) -> Result<(), Error> {
        let written = self.secrets.write(name, "kubernetes.io/tls", data, version).await;
        written.map_err(|e| Error::Write(name.to_owned(), e))
    }

    /// Makes every webhook configuration that exists trust `bundle`.
    pub(super) async fn put_bundle(&self, bundle: &str) -> Result<(), Error> {
        for name in self.config.mutating() {
            self.trust::<MutatingWebhookConfiguration>(
                &name,
                bundle,
                "mutatingwebhookconfigurations",
                |object| {
                    object
                        .webhooks
                        .iter()
                        .flatten()
                        .map(|w| (w.name.clone(), w.client_config.clone()))
                        .collect()
                },
            )
            .await?;
        }
        for name in self.config.validating() {
            self.trust::<ValidatingWebhookConfiguration>(
                &name,
                bundle,
                "validatingwebhookconfigurations",
                |object| {
                    object
                        .webhooks
                        .iter()
                        .flatten()
                        .map(|w| (w.name.clone(), w.client_config.clone()))
                        .collect()
                },
            )
            .await?;
        }
        Ok(())
    }

    /// Only entries that exist are written: an apply would make an entry of the others, and a broken one.
    async fn trust<K>(
        &self,
        name: &str,
        bundle: &str,
        resource: &'static str,
        entries: impl Fn(&K) -> Vec<(String, WebhookClientConfig)>,
    ) -> Result<(), Error>
    where
        K: Resource<DynamicType = ()> + Clone + DeserializeOwned + fmt::Debug,
    {
        let api: Api<K> = Api::all(self.client.clone());
        let Some(object) = api.get_opt(name).await.map_err(|e| Error::Read(name.to_owned(), e))? else {
            return Ok(());
        };
        let entries = entries(&object);
        let bundle = ByteString(bundle.as_bytes().to_vec());
        if entries.iter().all(|(_, client)| client.ca_bundle.as_ref() == Some(&bundle)) {
            return Ok(());
        }
        let webhooks: Vec<_> = entries
            .iter()
            .map(|(entry, _)| json!({"name": entry, "clientConfig": {"caBundle": bundle}}))
            .collect();
        let patch = json!({
            "apiVersion": K::api_version(&()),
            "kind": K::kind(&()),
            "metadata": {"name": name, "uid": object.uid()},
            "webhooks": webhooks,
        });
        self.metrics.wrote("patch", resource);
        let params = PatchParams::apply(FIELD_MANAGER).force();
        api.patch(name, &params, &Patch::Apply(patch)).await.map_err(|e| Error::Write(name.to_owned(), e))?;
        tracing::info!(configuration = name, "certificate authority put into webhook configuration");
        Ok(())
    }
}
