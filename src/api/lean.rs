//! Objects of kinds that anybody may create, read without what Deputy has no use for. An account or a pod may carry a
//! hundred thousand labels or empty references, each of which costs tens of times its bytes once it is parsed.

use super::GROUP;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference, Time};
use kube::Resource;
use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, MapAccess, SeqAccess, Visitor},
};
use std::{borrow::Cow, collections::BTreeMap, fmt, marker::PhantomData};

/// Items of a list that are kept.
const ITEMS: usize = 64;

/// An object of kind `K`: of its metadata what names it and whose it is, labels and annotations of Deputy's own, and the
/// names of its image pull secrets.
#[derive(Clone, Debug)]
pub struct Lean<K> {
    /// What is kept of the metadata.
    pub metadata: ObjectMeta,
    /// Names under `imagePullSecrets`, of a ServiceAccount.
    pub image_pull_secrets: Vec<String>,
    kind: PhantomData<K>,
}

impl<K: Resource<DynamicType = ()>> Resource for Lean<K> {
    type DynamicType = ();
    type Scope = K::Scope;

    fn kind((): &()) -> Cow<'_, str> {
        K::kind(&())
    }

    fn group((): &()) -> Cow<'_, str> {
        K::group(&())
    }

    fn version((): &()) -> Cow<'_, str> {
        K::version(&())
    }

    fn plural((): &()) -> Cow<'_, str> {
        K::plural(&())
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wire {
    #[serde(default)]
    metadata: WireMetadata,
    image_pull_secrets: Option<Some64<WireSecret>>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireMetadata {
    name: Option<String>,
    namespace: Option<String>,
    uid: Option<String>,
    resource_version: Option<String>,
    deletion_timestamp: Option<Time>,
    owner_references: Option<Some64<OwnerReference>>,
    labels: Option<Ours>,
    annotations: Option<Ours>,
}

#[derive(Deserialize)]
struct WireSecret {
    #[serde(default)]
    name: String,
}

impl<'de, K> Deserialize<'de> for Lean<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Wire { metadata: wire, image_pull_secrets } = Wire::deserialize(deserializer)?;
        let metadata = ObjectMeta {
            name: wire.name,
            namespace: wire.namespace,
            uid: wire.uid,
            resource_version: wire.resource_version,
            deletion_timestamp: wire.deletion_timestamp,
            owner_references: wire.owner_references.map(|references| references.0),
            labels: wire.labels.map(|labels| labels.0),
            annotations: wire.annotations.map(|annotations| annotations.0),
            ..ObjectMeta::default()
        };
        let secrets = image_pull_secrets.map(|secrets| secrets.0).unwrap_or_default();
        let image_pull_secrets =
            secrets.into_iter().map(|secret| secret.name).filter(|name| !name.is_empty()).collect();
        Ok(Self { metadata, image_pull_secrets, kind: PhantomData })
    }
}

/// A list of which the first [`ITEMS`] are kept.
struct Some64<T>(Vec<T>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Some64<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Items<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Items<T> {
            type Value = Vec<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Vec<T>, A::Error> {
                let mut kept = vec![];
                while kept.len() < ITEMS {
                    let Some(item) = items.next_element()? else { return Ok(kept) };
                    kept.push(item);
                }
                while items.next_element::<IgnoredAny>()?.is_some() {}
                Ok(kept)
            }
        }
        deserializer.deserialize_seq(Items(PhantomData)).map(Self)
    }
}

/// A map of which the keys of Deputy's group are kept.
struct Ours(BTreeMap<String, String>);

impl<'de> Deserialize<'de> for Ours {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = BTreeMap<String, String>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map of strings")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Self::Value, A::Error> {
                let mut kept = BTreeMap::new();
                while let Some(key) = entries.next_key::<Cow<'_, str>>()? {
                    if key.strip_prefix(GROUP).is_some_and(|rest| rest.starts_with('/')) {
                        kept.insert(key.into_owned(), entries.next_value()?);
                    } else {
                        entries.next_value::<IgnoredAny>()?;
                    }
                }
                Ok(kept)
            }
        }
        deserializer.deserialize_map(Entries).map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::ServiceAccount;
    use serde_json::{Value, json};

    fn read(object: &Value) -> Lean<ServiceAccount> {
        serde_json::from_str(&object.to_string()).unwrap()
    }

    #[test]
    fn what_names_an_object_is_kept_and_what_fills_memory_is_not() {
        let labels: serde_json::Map<_, _> = (0..1000).map(|n| (format!("l{n}"), json!(""))).collect();
        let mut object = json!({"apiVersion": "v1", "kind": "ServiceAccount",
            "metadata": {"name": "agent.a", "namespace": "ns", "uid": "u", "resourceVersion": "7", "labels": labels,
                "annotations": {"deputy.dev/gated": "true", "deputy.devious/x": "y"}, "managedFields": [{}, {}],
                "ownerReferences": [{"apiVersion": "v1", "kind": "K", "name": "n", "uid": "o"}]},
            "secrets": vec![json!({}); 1000], "imagePullSecrets": vec![json!({"name": "s"}); 1000]});
        object["metadata"]["labels"]["deputy.dev/agent"] = json!("a");
        let lean = read(&object);
        assert_eq!(lean.metadata.name.as_deref(), Some("agent.a"));
        assert_eq!(lean.metadata.labels.unwrap(), BTreeMap::from([("deputy.dev/agent".into(), "a".into())]));
        assert_eq!(
            lean.metadata.annotations.unwrap(),
            BTreeMap::from([("deputy.dev/gated".into(), "true".into())])
        );
        assert_eq!(lean.metadata.owner_references.unwrap()[0].uid, "o");
        assert_eq!((lean.metadata.managed_fields, lean.image_pull_secrets.len()), (None, ITEMS));
    }

    #[test]
    fn what_is_absent_or_null_is_nothing() {
        for object in [
            json!({"metadata": {}}),
            json!({"metadata": {"labels": null, "ownerReferences": null}, "imagePullSecrets": null}),
        ] {
            let lean = read(&object);
            assert_eq!((lean.metadata, lean.image_pull_secrets), (ObjectMeta::default(), vec![]));
        }
    }
}
