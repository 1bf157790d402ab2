//! The input as a world: what the objects of Deputy in it say, and what the controller would make of them.

use super::{
    Unread,
    inputs::{Input, Inputs, Role},
};
use crate::{
    api::{
        self, ENFORCE_LABEL,
        v1alpha1::{
            AgentException, AgentIdentity, AgentSuspension, ClaimHolder, CredentialClaim, CredentialClaimSpec,
        },
    },
    identity::account_name,
    index::{DEFAULT_ACCOUNT, Declarable, Identity, Index, Observed, Snapshot, Standing, Subject},
    policy::{Settings, Template},
};
use k8s_openapi::jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// What the input is judged by.
#[derive(Clone, Debug)]
pub struct Options {
    /// As of the webhook.
    pub settings: Settings,
    /// As of the webhook.
    pub declarable: Declarable,
    /// The namespace of objects that name none.
    pub namespace: String,
    /// Whether every pod is taken for an agent's.
    pub assume_agents: bool,
    /// When.
    pub now: Timestamp,
}

/// The objects of an input, and the world that they make.
#[derive(Debug)]
pub struct World {
    pub(super) options: Options,
    pub(super) objects: Vec<Input>,
    pub(super) snapshot: Arc<Snapshot>,
    /// Documents there is nothing to say of.
    pub(super) skipped: usize,
    pub(super) unread: Vec<(Arc<str>, Unread)>,
    /// Objects of Deputy that are none, by their places.
    pub(super) unreadable: BTreeSet<usize>,
    /// Namespaces that say so, as far as they say so.
    pub(super) enforced: BTreeMap<String, String>,
    /// What an identity wants that one before it has: by its place among the objects.
    pub(super) contested: BTreeMap<usize, Vec<Subject>>,
    /// By namespace, the name of the identity that pods of nobody are taken to be of.
    pub(super) assumed: BTreeMap<String, String>,
}

impl World {
    /// Reads the input.
    pub fn new(inputs: Inputs, options: Options) -> Self {
        let mut index = Index::new(options.declarable.clone());
        let mut world = Self {
            snapshot: index.snapshot(),
            options,
            objects: inputs.objects,
            skipped: inputs.skipped,
            unread: vec![],
            unreadable: BTreeSet::new(),
            enforced: BTreeMap::new(),
            contested: BTreeMap::new(),
            assumed: BTreeMap::new(),
        };
        for at in 0..world.objects.len() {
            world.learn(at, &mut index);
        }
        world.make_claims(&mut index);
        if world.options.assume_agents {
            world.assume(&mut index);
        }
        world.snapshot = index.snapshot();
        world
    }

    /// Takes in what the object says of the world.
    fn learn(&mut self, at: usize, index: &mut Index) {
        let value = &self.objects[at].object.value;
        let namespace = self.namespace(value).to_owned();
        let name = value["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        let version = value["apiVersion"].as_str().unwrap_or_default();
        match (version, value["kind"].as_str().unwrap_or_default()) {
            ("deputy.dev/v1alpha1", "AgentIdentity") => {
                let uid = uid(value, &namespace, &name);
                let observed = self.observe::<AgentIdentity>(at, &namespace);
                index.apply_identity(observed);
                apply_owned_account(index, &namespace, &name, &uid);
            }
            ("deputy.dev/v1alpha1", "AgentSuspension") => {
                let observed = self.observe::<AgentSuspension>(at, &namespace);
                index.apply_suspension(observed);
            }
            ("deputy.dev/v1alpha1", "AgentException") => {
                let observed = self.observe::<AgentException>(at, "");
                let is_read = matches!(observed, Observed::Object(_));
                let invalid = |index: &Index| index.snapshot().exceptions.census(self.options.now).invalid;
                let before = invalid(index);
                index.apply_exception(observed);
                if is_read && invalid(index) > before {
                    self.cannot(
                        at,
                        "spec",
                        "lets nothing pass: effect Allow is for one rule, at one container or volume",
                    );
                }
            }
            ("deputy.dev/v1alpha1", "CredentialClaim") => {
                let observed = self.observe::<CredentialClaim>(at, "");
                index.apply_claim(observed);
            }
            ("v1", "Namespace") => {
                if let Some(label) = value["metadata"]["labels"][ENFORCE_LABEL].as_str() {
                    self.enforced.insert(name, label.to_owned());
                }
            }
            // Of others' accounts, the pull secrets that Kubernetes itself gives to pods are known.
            ("v1", "ServiceAccount") if name == DEFAULT_ACCOUNT => {
                apply_account(index, &name, &namespace, json!({}), value["imagePullSecrets"].clone());
            }
            _ => {}
        }
    }

    /// The object as the API server would keep it.
    fn observe<T: DeserializeOwned>(&mut self, at: usize, namespace: &str) -> Observed<T> {
        let value = &self.objects[at].object.value;
        let kind = value["kind"].as_str().unwrap_or_default();
        let name = value["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        let mut whole = value.clone();
        if let Some(metadata) = whole["metadata"].as_object_mut() {
            if !namespace.is_empty() {
                metadata.insert("namespace".to_owned(), namespace.into());
            }
            metadata.insert("uid".to_owned(), uid(value, namespace, &name).into());
        }
        match serde_json::from_value(whole) {
            Ok(object) => Observed::Object(Box::new(object)),
            Err(error) => {
                // What else it says repeats what stands there.
                let said = Some(error.to_string()).filter(|text| text.starts_with("missing field"));
                let said = said.map_or_else(String::new, |text| format!(": {text}"));
                let why = format!(
                    "is no {kind} of {}/v1alpha1{said}; kubectl apply --dry-run=server says where",
                    api::GROUP
                );
                self.cannot(at, "spec", &why);
                self.unreadable.insert(at);
                Observed::Unreadable { namespace: namespace.to_owned(), name, why }
            }
        }
    }

    /// Has the controller's claims made: who comes first in the input holds what he declares.
    fn make_claims(&mut self, index: &mut Index) {
        let (mut seen, mut contested) = (BTreeSet::new(), BTreeMap::<_, Vec<_>>::new());
        for (at, input) in self.objects.iter().enumerate() {
            let value = &input.object.value;
            let name = value["metadata"]["name"].as_str().unwrap_or_default();
            let namespace = self.namespace(value);
            if Role::of(value) != Role::Identity || !seen.insert((namespace, name)) {
                continue;
            }
            let snapshot = index.snapshot();
            let Standing::Valid(identity) = snapshot.standing(namespace, name) else { continue };
            for subject in identity.subjects() {
                match index.snapshot().claim(&subject) {
                    None => index.apply_claim(Observed::Object(Box::new(claim(&subject, identity)))),
                    Some(claim) if claim.holder.uid == identity.uid => {}
                    Some(_) => contested.entry(at).or_default().push(subject),
                }
            }
        }
        self.contested = contested;
    }

    /// Has an identity that declares nothing in every namespace that has a pod.
    fn assume(&mut self, index: &mut Index) {
        let of_pods = self.objects.iter().map(|input| &input.object.value);
        let of_pods = of_pods.filter(|value| Template::of_manifest(value).is_some());
        let namespaces: BTreeSet<_> = of_pods.map(|value| self.namespace(value).to_owned()).collect();
        for namespace in namespaces {
            let mut name = "assumed".to_owned();
            while index.snapshot().standing(&namespace, &name) != Standing::Unknown {
                name.push_str("-agent");
            }
            let uid = format!("scan/{namespace}/{name}");
            let identity = json!({"metadata": {"name": name, "namespace": namespace, "uid": uid},
                                  "apiVersion": "deputy.dev/v1alpha1", "kind": "AgentIdentity",
                                  "spec": {"owner": "--assume-agents"}});
            if let Ok(identity) = serde_json::from_value(identity) {
                index.apply_identity(Observed::Object(identity));
                apply_owned_account(index, &namespace, &name, &uid);
                self.assumed.insert(namespace, name);
            }
        }
    }

    /// The namespace of an object.
    pub(super) fn namespace<'a>(&'a self, value: &'a Value) -> &'a str {
        let named = value["metadata"]["namespace"].as_str().filter(|namespace| !namespace.is_empty());
        named.unwrap_or(&self.options.namespace)
    }

    /// Puts on record that an object could not be judged.
    pub(super) fn cannot(&mut self, at: usize, path: &str, message: &str) {
        let Input { source, object, .. } = &self.objects[at];
        let kind = object.value["kind"].as_str().unwrap_or_default();
        let name = object.value["metadata"]["name"].as_str().unwrap_or_default();
        let unread = Unread::at(object.lines.of(path), format!("{kind} {name:?} {message}"));
        self.unread.push((Arc::clone(source), unread));
    }
}

/// The uid of an object, which in a file it seldom has.
fn uid(value: &Value, namespace: &str, name: &str) -> String {
    let own = value["metadata"]["uid"].as_str().filter(|uid| !uid.is_empty());
    own.map_or_else(|| format!("scan/{namespace}/{name}"), str::to_owned)
}

/// The account that the controller would make.
fn apply_owned_account(index: &mut Index, namespace: &str, name: &str, uid: &str) {
    let owner = json!({"apiVersion": "deputy.dev/v1alpha1", "kind": "AgentIdentity", "name": name, "uid": uid,
                       "controller": true});
    apply_account(index, &account_name(name), namespace, json!({"ownerReferences": [owner]}), json!([]));
}

fn apply_account(index: &mut Index, name: &str, namespace: &str, mut metadata: Value, pull_secrets: Value) {
    metadata["name"] = name.into();
    metadata["namespace"] = namespace.into();
    metadata["uid"] = format!("scan/{namespace}/{name}").into();
    if let Ok(account) =
        serde_json::from_value(json!({"metadata": metadata, "imagePullSecrets": pull_secrets}))
    {
        index.apply_account(&account);
    }
}

fn claim(subject: &Subject, holder: &Identity) -> CredentialClaim {
    let holder = ClaimHolder {
        namespace: holder.namespace.clone(),
        name: holder.name.clone(),
        uid: holder.uid.clone(),
    };
    let spec = CredentialClaimSpec { subject: subject.to_wire(), holder, released_time: None };
    let mut claim = CredentialClaim::new(&subject.claim_name(), spec);
    claim.metadata.uid = Some(format!("scan/{}", subject.claim_name()));
    claim.metadata.resource_version = Some("0".to_owned());
    claim
}
