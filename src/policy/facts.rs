//! A pod as the rules see it: raw JSON read once into borrowed facts, unknown things included as such.

use super::{
    finding::{Place, Target},
    node::{Malformed, Node},
};
use serde_json::Value;

/// What the rules look at in a pod.
#[derive(Debug)]
pub struct PodFacts<'a> {
    /// Value of the agent label; `Some("")` when it is empty.
    pub label: Option<&'a str>,
    /// Value of the annotation that stamps the identity's uid.
    pub identity_uid: Option<&'a str>,
    /// Container named by Deputy's annotation, else by kubectl's.
    pub named_container: Option<(&'static str, &'a str)>,
    /// `spec.serviceAccountName`, when not empty.
    pub account: Option<&'a str>,
    /// `spec.serviceAccount`, the deprecated alias, when not empty.
    pub account_alias: Option<&'a str>,
    /// `spec.automountServiceAccountToken`.
    pub automount: Option<bool>,
    /// `spec.shareProcessNamespace`.
    pub shares_processes: bool,
    /// `hostNetwork`, `hostPID`, `hostIPC`: those that are set.
    pub host_namespaces: Vec<&'static str>,
    /// Whether the pod waits for its agent's suspension to end: by its scheduling gate.
    pub is_gated: bool,
    /// Whether it says so in its metadata.
    pub is_marked_gated: bool,
    /// The node it asks for past the scheduler.
    pub node_name: Option<&'a str>,
    /// Names under `spec.imagePullSecrets`.
    pub pull_secrets: Vec<&'a str>,
    /// The pod's own Windows options.
    pub windows: Windows,
    /// Volumes, in order.
    pub volumes: Vec<Volume<'a>>,
    /// Containers of all three lists.
    pub containers: Vec<Container<'a>>,
}

/// The list a container stands in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum List {
    /// `spec.containers`.
    Main,
    /// `spec.initContainers`.
    Init,
    /// `spec.ephemeralContainers`.
    Ephemeral,
}

impl List {
    /// Every list.
    pub const ALL: [Self; 3] = [Self::Init, Self::Main, Self::Ephemeral];

    /// The field's name.
    pub fn field(self) -> &'static str {
        match self {
            Self::Main => "containers",
            Self::Init => "initContainers",
            Self::Ephemeral => "ephemeralContainers",
        }
    }
}

/// One container.
#[derive(Debug)]
pub struct Container<'a> {
    /// Its list.
    pub list: List,
    /// Its place in the list.
    pub index: usize,
    /// Its name.
    pub name: &'a str,
    /// Its volume mounts.
    pub mounts: Vec<Mount<'a>>,
    /// Places where its environment comes from somewhere else than a literal.
    pub env_sources: Vec<EnvSource<'a>>,
    /// What its security context and ports take from the node, as (path below the container, what it is).
    pub host_access: Vec<(String, String)>,
    /// Its Windows options.
    pub windows: Windows,
    /// The container whose processes it joins (`targetContainerName` of a debug container).
    pub target: Option<&'a str>,
}

impl Container<'_> {
    /// Path of the container, or of something below it.
    pub fn path(&self, below: &str) -> Place {
        let path = format!("spec.{}[{}]{below}", self.list.field(), self.index);
        Place::within(Target::Container(self.list, self.index), path)
    }
}

impl<'a> Container<'a> {
    /// The Secrets it reads into its environment, with the path of each.
    pub fn env_secrets(&self) -> impl Iterator<Item = (Place, &SecretUse<'a>)> {
        self.env_sources.iter().filter_map(|source| match &source.kind {
            EnvKind::Secret(used) => Some((self.path(&source.below), used)),
            EnvKind::File | EnvKind::Unknown(_) => None,
        })
    }
}

/// One volume mount.
#[derive(Debug)]
pub struct Mount<'a> {
    /// Name of the volume.
    pub volume: &'a str,
    /// Where it is mounted.
    pub path: &'a str,
    /// Whether only a part of the volume is mounted (`subPath`, `subPathExpr`).
    pub partial: bool,
}

/// Where a part of the environment comes from.
#[derive(Debug)]
pub struct EnvSource<'a> {
    /// Path below the container.
    pub below: String,
    /// What it is.
    pub kind: EnvKind<'a>,
}

/// Kinds of environment sources.
#[derive(Debug, PartialEq, Eq)]
pub enum EnvKind<'a> {
    /// A file in a volume (`fileKeyRef`).
    File,
    /// A Secret.
    Secret(SecretUse<'a>),
    /// A key this version does not know.
    Unknown(&'a str),
}

/// A Secret, and what of it is used.
#[derive(Debug, PartialEq, Eq)]
pub struct SecretUse<'a> {
    /// Its name.
    pub name: &'a str,
    /// The keys that are named; `None` stands for whatever the Secret holds.
    pub keys: Option<Vec<&'a str>>,
}

/// One volume.
#[derive(Debug)]
pub struct Volume<'a> {
    /// Its place in the list.
    pub index: usize,
    /// Its name.
    pub name: &'a str,
    /// Its sources: one in any valid pod.
    pub sources: Vec<VolumeSource<'a>>,
}

impl<'a> Volume<'a> {
    /// Adds the Secrets it names, with the path of each.
    fn secrets(&self, into: &mut Vec<(Place, &'a str)>) {
        for source in &self.sources {
            match source {
                VolumeSource::Secret(used) => into.push((self.path(".secret"), used.name)),
                VolumeSource::StorageKey(fields) => {
                    let named = fields.iter().filter_map(|(field, name)| Some((self.path(field), (*name)?)));
                    into.extend(named);
                }
                VolumeSource::Csi { secret: Some(name), .. } => {
                    into.push((self.path(".csi.nodePublishSecretRef"), name));
                }
                VolumeSource::Projected(projections) => {
                    for (index, projection) in projections.iter().enumerate() {
                        if let Projection::Secret(used) = projection {
                            into.push((self.path(&format!(".projected.sources[{index}].secret")), used.name));
                        }
                    }
                }
                VolumeSource::Csi { .. }
                | VolumeSource::EmptyDir
                | VolumeSource::Harmless
                | VolumeSource::HostPath
                | VolumeSource::Unknown(_) => {}
            }
        }
    }
}

impl Volume<'_> {
    /// Path of the volume, or of something below it.
    pub fn path(&self, below: &str) -> Place {
        Place::within(Target::Volume(self.index), format!("spec.volumes[{}]{below}", self.index))
    }

    /// Whether nothing but what the pod itself writes can be in it.
    pub fn starts_empty(&self) -> bool {
        self.sources.iter().all(|source| matches!(source, VolumeSource::EmptyDir))
    }

    /// The tokens projected into it, with the place of each among the projected sources.
    pub fn tokens(&self) -> impl Iterator<Item = (usize, &TokenProjection<'_>)> {
        self.sources
            .iter()
            .flat_map(|source| match source {
                VolumeSource::Projected(projections) => projections.as_slice(),
                _ => &[],
            })
            .enumerate()
            .filter_map(|(index, projection)| match projection {
                Projection::Token(token) => Some((index, token)),
                _ => None,
            })
    }

    /// Whether a credential of any kind is in it.
    pub fn carries_credential(&self) -> bool {
        self.sources.iter().any(|source| match source {
            VolumeSource::Csi { .. } | VolumeSource::Secret(_) => true,
            VolumeSource::StorageKey(fields) => !fields.is_empty(),
            VolumeSource::Projected(projections) => {
                projections.iter().any(|p| !matches!(p, Projection::Harmless))
            }
            VolumeSource::EmptyDir
            | VolumeSource::Harmless
            | VolumeSource::HostPath
            | VolumeSource::Unknown(_) => false,
        })
    }
}

/// Where a volume's content comes from.
#[derive(Debug, PartialEq, Eq)]
pub enum VolumeSource<'a> {
    /// An inline CSI volume.
    Csi {
        /// The driver.
        driver: &'a str,
        /// Fields that hand the driver a Secret or name a SecretProviderClass.
        credentials: Vec<&'static str>,
        /// The Secret handed to the driver.
        secret: Option<&'a str>,
    },
    /// Empty at start.
    EmptyDir,
    /// A known source that names no credential.
    Harmless,
    /// A directory of the node.
    HostPath,
    /// Projected sources.
    Projected(Vec<Projection<'a>>),
    /// A Secret.
    Secret(SecretUse<'a>),
    /// Fields of an in-tree storage source that name a Secret or a key file on the node, with the Secret's name.
    StorageKey(Vec<(String, Option<&'a str>)>),
    /// A key this version does not know.
    Unknown(&'a str),
}

/// One projected source.
#[derive(Debug, PartialEq, Eq)]
pub enum Projection<'a> {
    /// A known source that is no credential.
    Harmless,
    /// A pod certificate with its key.
    PodCertificate,
    /// A Secret.
    Secret(SecretUse<'a>),
    /// A ServiceAccount token.
    Token(TokenProjection<'a>),
    /// A key this version does not know.
    Unknown(&'a str),
}

/// A projected ServiceAccount token.
#[derive(Debug, PartialEq, Eq)]
pub struct TokenProjection<'a> {
    /// Its audience; `None` when absent or empty, which means the API server's.
    pub audience: Option<&'a str>,
    /// Its lifetime in seconds; `None` when absent, which means 3600.
    pub expiration_seconds: Option<i64>,
}

/// Windows options that are a credential or reach into the node, by field name.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Windows {
    /// GMSA fields that are set.
    pub gmsa: Vec<&'static str>,
    /// Whether `hostProcess` is set.
    pub host_process: bool,
}

/// Volume sources that name no credential of their own and need no rule.
const HARMLESS_VOLUMES: [&str; 17] = [
    "awsElasticBlockStore",
    "azureDisk",
    "configMap",
    "downwardAPI",
    "ephemeral",
    "fc",
    "flocker",
    "gcePersistentDisk",
    "gitRepo",
    "glusterfs",
    "image",
    "nfs",
    "persistentVolumeClaim",
    "photonPersistentDisk",
    "portworxVolume",
    "quobyte",
    "vsphereVolume",
];

/// In-tree sources, and their fields that name a Secret (`secretRef`, `secretName`) or a key file on the node.
const STORAGE_KEYS: [(&str, &[&str]); 8] = [
    ("azureFile", &["secretName"]),
    ("cephfs", &["secretRef", "secretFile"]),
    ("cinder", &["secretRef"]),
    ("flexVolume", &["secretRef"]),
    ("iscsi", &["secretRef"]),
    ("rbd", &["secretRef", "keyring"]),
    ("scaleIO", &["secretRef"]),
    ("storageos", &["secretRef"]),
];

const HARMLESS_PROJECTIONS: [&str; 3] = ["clusterTrustBundle", "configMap", "downwardAPI"];

/// Capabilities that open the node, or other pods through it. Those a container has by default are not among them.
const NODE_CAPABILITIES: [&str; 9] = [
    "ALL",
    "BPF",
    "CHECKPOINT_RESTORE",
    "DAC_READ_SEARCH",
    "PERFMON",
    "SYS_ADMIN",
    "SYS_MODULE",
    "SYS_PTRACE",
    "SYS_RAWIO",
];

impl<'a> PodFacts<'a> {
    /// Reads `pod`.
    ///
    /// # Errors
    /// When a field the rules look at has another type than Kubernetes gives it.
    pub fn read(pod: &'a Value) -> Result<Self, Malformed> {
        let pod = Node::top(pod)?;
        let (metadata, spec) = (pod.child("metadata")?, pod.child("spec")?);
        let (labels, annotations) = (metadata.child("labels")?, metadata.child("annotations")?);
        let mut containers = vec![];
        for list in List::ALL {
            for (index, node) in spec.list(list.field())?.into_iter().enumerate() {
                containers.push(read_container(list, index, &node)?);
            }
        }
        let mut volumes = vec![];
        for (index, node) in spec.list("volumes")?.into_iter().enumerate() {
            volumes.push(read_volume(index, &node)?);
        }
        let mut host_namespaces = vec![];
        for field in ["hostNetwork", "hostPID", "hostIPC"] {
            if spec.bool(field)? == Some(true) {
                host_namespaces.push(field);
            }
        }
        Ok(Self {
            label: labels.str(crate::api::AGENT_LABEL)?,
            identity_uid: annotations.str(crate::api::IDENTITY_UID_ANNOTATION)?,
            named_container: named_container(&annotations)?,
            account: spec.non_empty("serviceAccountName")?,
            account_alias: spec.non_empty("serviceAccount")?,
            automount: spec.bool("automountServiceAccountToken")?,
            shares_processes: spec.bool("shareProcessNamespace")? == Some(true),
            host_namespaces,
            is_gated: names(&spec, "schedulingGates")?.contains(&crate::api::SUSPENDED_GATE),
            is_marked_gated: annotations.str(crate::api::GATED_ANNOTATION)?.is_some(),
            node_name: spec.non_empty("nodeName")?,
            pull_secrets: names(&spec, "imagePullSecrets")?,
            windows: read_windows(&spec.child("securityContext")?)?,
            volumes,
            containers,
        })
    }

    /// The volume a mount names, if there is one.
    pub fn volume(&self, name: &str) -> Option<&Volume<'a>> {
        self.volumes.iter().find(|volume| volume.name == name)
    }

    /// Every Secret the pod names, wherever it names it, with the path.
    pub fn secrets(&self) -> Vec<(Place, &'a str)> {
        let mut all = vec![];
        for (index, name) in self.pull_secrets.iter().enumerate() {
            all.push((format!("spec.imagePullSecrets[{index}]").into(), *name));
        }
        for volume in &self.volumes {
            volume.secrets(&mut all);
        }
        for container in &self.containers {
            all.extend(container.env_secrets().map(|(path, used)| (path, used.name)));
        }
        all
    }

    /// The name of a container or volume, if it has one and no other of its kind has the same.
    pub fn unique_name(&self, target: Target) -> Option<&'a str> {
        let (name, count) = match target {
            Target::Container(list, index) => {
                let name = self.containers.iter().find(|c| (c.list, c.index) == (list, index))?.name;
                (name, self.containers.iter().filter(|container| container.name == name).count())
            }
            Target::Volume(index) => {
                let name = self.volumes.get(index)?.name;
                (name, self.volumes.iter().filter(|volume| volume.name == name).count())
            }
        };
        (count == 1 && !name.is_empty()).then_some(name)
    }

    /// The containers that can hold the agent: not debug containers.
    pub fn declared_containers(&self) -> impl Iterator<Item = &Container<'a>> {
        self.containers.iter().filter(|container| container.list != List::Ephemeral)
    }
}

fn named_container<'a>(annotations: &Node<'a>) -> Result<Option<(&'static str, &'a str)>, Malformed> {
    for key in [crate::api::CONTAINER_ANNOTATION, crate::api::DEFAULT_CONTAINER_ANNOTATION] {
        if let Some(name) = annotations.str(key)? {
            return Ok(Some((key, name)));
        }
    }
    Ok(None)
}

/// The names of a list's items.
fn names<'a>(spec: &Node<'a>, list: &'static str) -> Result<Vec<&'a str>, Malformed> {
    spec.list(list)?.iter().map(|node| Ok(node.str("name")?.unwrap_or_default())).collect()
}

fn read_container<'a>(list: List, index: usize, node: &Node<'a>) -> Result<Container<'a>, Malformed> {
    let mut mounts = vec![];
    for mount in node.list("volumeMounts")? {
        mounts.push(Mount {
            volume: mount.str("name")?.unwrap_or_default(),
            path: mount.str("mountPath")?.unwrap_or_default(),
            partial: mount.non_empty("subPath")?.is_some() || mount.non_empty("subPathExpr")?.is_some(),
        });
    }
    let context = node.child("securityContext")?;
    Ok(Container {
        list,
        index,
        name: node.str("name")?.unwrap_or_default(),
        mounts,
        env_sources: read_env(node)?,
        host_access: read_host_access(node, &context)?,
        windows: read_windows(&context)?,
        target: node.non_empty("targetContainerName")?,
    })
}

fn read_env<'a>(container: &Node<'a>) -> Result<Vec<EnvSource<'a>>, Malformed> {
    let mut found = vec![];
    for (index, variable) in container.list("env")?.into_iter().enumerate() {
        let source = variable.child("valueFrom")?;
        for (key, _) in source.entries() {
            let kind = match key {
                "configMapKeyRef" | "fieldRef" | "resourceFieldRef" => continue,
                "fileKeyRef" => EnvKind::File,
                "secretKeyRef" => {
                    let reference = source.child(key)?;
                    EnvKind::Secret(SecretUse {
                        name: reference.str("name")?.unwrap_or_default(),
                        keys: Some(vec![reference.str("key")?.unwrap_or_default()]),
                    })
                }
                other => EnvKind::Unknown(other),
            };
            found.push(EnvSource { below: format!(".env[{index}].valueFrom.{key}"), kind });
        }
    }
    for (index, source) in container.list("envFrom")?.into_iter().enumerate() {
        for (key, _) in source.entries() {
            let kind = match key {
                "configMapRef" | "prefix" => continue,
                "secretRef" => {
                    let name = source.child(key)?.str("name")?.unwrap_or_default();
                    EnvKind::Secret(SecretUse { name, keys: None })
                }
                other => EnvKind::Unknown(other),
            };
            found.push(EnvSource { below: format!(".envFrom[{index}].{key}"), kind });
        }
    }
    Ok(found)
}

fn read_host_access(container: &Node<'_>, context: &Node<'_>) -> Result<Vec<(String, String)>, Malformed> {
    let mut found = vec![];
    let mut add = |below: String, what: String| found.push((below, what));
    if context.bool("privileged")? == Some(true) {
        add(".securityContext.privileged".into(), "runs privileged".into());
    }
    if context.str("procMount")? == Some("Unmasked") {
        add(".securityContext.procMount".into(), "unmasks /proc".into());
    }
    for (index, item) in context.child("capabilities")?.list_of_str("add")?.into_iter().enumerate() {
        let name = item.to_ascii_uppercase();
        let name = name.strip_prefix("CAP_").unwrap_or(&name);
        if NODE_CAPABILITIES.contains(&name) {
            add(format!(".securityContext.capabilities.add[{index}]"), format!("adds capability {name}"));
        }
    }
    for (index, port) in container.list("ports")?.into_iter().enumerate() {
        if port.i64("hostPort")?.is_some_and(|port| port != 0) {
            add(format!(".ports[{index}].hostPort"), "opens a port of the node".into());
        }
    }
    Ok(found)
}

fn read_windows(security_context: &Node<'_>) -> Result<Windows, Malformed> {
    let options = security_context.child("windowsOptions")?;
    let mut gmsa = vec![];
    for field in ["gmsaCredentialSpec", "gmsaCredentialSpecName"] {
        if options.non_empty(field)?.is_some() {
            gmsa.push(field);
        }
    }
    Ok(Windows { gmsa, host_process: options.bool("hostProcess")? == Some(true) })
}

fn read_volume<'a>(index: usize, node: &Node<'a>) -> Result<Volume<'a>, Malformed> {
    let mut sources = vec![];
    for (key, _) in node.entries() {
        if key != "name" {
            sources.push(read_volume_source(key, &node.child(key)?)?);
        }
    }
    Ok(Volume { index, name: node.str("name")?.unwrap_or_default(), sources })
}

fn read_volume_source<'a>(key: &'a str, source: &Node<'a>) -> Result<VolumeSource<'a>, Malformed> {
    if let Some((_, fields)) = STORAGE_KEYS.iter().find(|(kind, _)| *kind == key) {
        let mut named = vec![];
        for field in fields.iter().filter(|field| source.has(field)) {
            let secret = match *field {
                "secretName" => source.str(field)?,
                "secretRef" => source.child(field)?.str("name")?,
                _ => None,
            };
            named.push((format!(".{key}.{field}"), secret));
        }
        return Ok(VolumeSource::StorageKey(named));
    }
    Ok(match key {
        "csi" => read_csi(source)?,
        "emptyDir" => VolumeSource::EmptyDir,
        "hostPath" => VolumeSource::HostPath,
        "projected" => {
            let mut projections = vec![];
            for item in source.list("sources")? {
                read_projection(&item, &mut projections)?;
            }
            VolumeSource::Projected(projections)
        }
        "secret" => VolumeSource::Secret(read_secret(source, "secretName")?),
        key if HARMLESS_VOLUMES.contains(&key) => VolumeSource::Harmless,
        key => VolumeSource::Unknown(key),
    })
}

fn read_csi<'a>(source: &Node<'a>) -> Result<VolumeSource<'a>, Malformed> {
    let mut credentials = vec![];
    if source.has("nodePublishSecretRef") {
        credentials.push(".csi.nodePublishSecretRef");
    }
    if source.child("volumeAttributes")?.has("secretProviderClass") {
        credentials.push(".csi.volumeAttributes.secretProviderClass");
    }
    let secret = source.child("nodePublishSecretRef")?.str("name")?;
    Ok(VolumeSource::Csi { driver: source.str("driver")?.unwrap_or_default(), credentials, secret })
}

/// A Secret as files. Without a list of items, or with an empty one, all its keys are.
fn read_secret<'a>(source: &Node<'a>, name: &'static str) -> Result<SecretUse<'a>, Malformed> {
    let items = source.list("items")?;
    let keys = items.iter().map(|item| Ok(item.str("key")?.unwrap_or_default()));
    let keys = keys.collect::<Result<Vec<_>, Malformed>>()?;
    let name = source.str(name)?.unwrap_or_default();
    Ok(SecretUse { name, keys: (!keys.is_empty()).then_some(keys) })
}

fn read_projection<'a>(item: &Node<'a>, into: &mut Vec<Projection<'a>>) -> Result<(), Malformed> {
    for (key, _) in item.entries() {
        let source = item.child(key)?;
        into.push(match key {
            "podCertificate" => Projection::PodCertificate,
            "secret" => Projection::Secret(read_secret(&source, "name")?),
            "serviceAccountToken" => Projection::Token(TokenProjection {
                audience: source.non_empty("audience")?,
                expiration_seconds: source.i64("expirationSeconds")?,
            }),
            key if HARMLESS_PROJECTIONS.contains(&key) => Projection::Harmless,
            key => Projection::Unknown(key),
        });
    }
    Ok(())
}
