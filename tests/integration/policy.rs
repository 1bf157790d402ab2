//! The rules against the whole surface of a pod: every path of the API that names a credential, a table of what each
//! rule refuses and what it must not, and properties that hold for any pod.

use deputy::{
    index::{Index, Observed, ReservedAudiences, Snapshot},
    policy::{Engine, Mutation, Settings, Subject, admit, mutate, rules},
};
use k8s_openapi::jiff::Timestamp;
use proptest::prelude::*;
use serde_json::{Value, json};
use std::{collections::BTreeSet, sync::Arc, sync::LazyLock};

/// Every leaf of a PodSpec of Kubernetes 1.37, as path and type.
const LEAVES: &str = include_str!("../data/podspec-v1.37-leaves.tsv");

/// When everything here is decided.
const NOW: Timestamp = Timestamp::UNIX_EPOCH;

static SETTINGS: LazyLock<Settings> = LazyLock::new(|| {
    let mut settings =
        Settings::builtin(["https://kubernetes.default.svc".to_owned()].into_iter().collect()).unwrap();
    settings.allowed_audiences = BTreeSet::from(["istio-ca".to_owned()]);
    settings.allowed_csi_drivers = BTreeSet::from(["csi.spiffe.io".to_owned()]);
    settings.known.volumes.insert("knownVolume".to_owned());
    settings.known.projections.insert("knownProjection".to_owned());
    settings.known.env_sources.insert("knownRef".to_owned());
    settings.known.env_from_sources.insert("knownFrom".to_owned());
    settings
});

static WORLD: LazyLock<Arc<Snapshot>> = LazyLock::new(|| {
    let mut index = Index::new(ReservedAudiences::default());
    for (name, spec) in [
        (
            "a",
            json!({"owner": "o@example.com", "serviceAccount": {"imagePullSecrets": [{"name": "regcred"}]},
                   "tokens": [{"name": "t", "audience": "https://papers.example.com"}]}),
        ),
        ("plain", json!({"owner": "o@example.com"})),
        ("api", json!({"owner": "o@example.com", "kubernetesAPIAccess": "Token"})),
        ("stopped", json!({"owner": "o@example.com"})),
        ("gone", json!({"owner": "o@example.com"})),
        ("taken", json!({"owner": "o@example.com"})),
        ("bad", json!({"owner": " "})),
        ("bare", json!({"owner": "o@example.com"})),
    ] {
        let mut object = json!({"apiVersion": "deputy.dev/v1alpha1", "kind": "AgentIdentity", "spec": spec,
            "metadata": {"name": name, "namespace": "ns", "uid": format!("uid-{name}"), "generation": 1}});
        if name == "gone" {
            object["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        }
        index.apply_identity(Observed::Object(serde_json::from_value(object).unwrap()));
        let owners = match name {
            "bare" => continue,
            "taken" => json!([]),
            _ => json!([{"apiVersion": "deputy.dev/v1alpha1", "kind": "AgentIdentity", "name": name,
                         "uid": format!("uid-{name}"), "controller": true}]),
        };
        let account = json!({"metadata": {"name": format!("agent.{name}"), "namespace": "ns", "uid": "x",
                                          "ownerReferences": owners}});
        index.apply_account(&serde_json::from_value(account).unwrap());
    }
    let suspension = json!({"apiVersion": "deputy.dev/v1alpha1", "kind": "AgentSuspension",
        "metadata": {"name": "s", "namespace": "ns"}, "spec": {"agentName": "stopped", "reason": "INC-1"}});
    index.apply_suspension(Observed::Object(serde_json::from_value(suspension).unwrap()));
    index.snapshot()
});

/// A clean pod of `agent` before admission.
fn bare(agent: &str) -> Value {
    json!({"metadata": {"name": "p", "namespace": "ns", "labels": {"deputy.dev/agent": agent}},
           "spec": {"containers": [{"name": "app", "image": "example.com/agent:1"}]}})
}

fn mutated(pod: &Value) -> Value {
    match mutate(pod, "ns", &WORLD, &SETTINGS).unwrap() {
        Mutation::Patch { operations, .. } => {
            let mut result = pod.clone();
            json_patch::patch(&mut result, &operations).unwrap();
            result
        }
        other => panic!("{other:?}"),
    }
}

/// A clean pod of agent `a` as it is judged: after mutation.
fn clean() -> Value {
    mutated(&bare("a"))
}

fn verdict(pod: &Value, subject: Subject) -> Vec<(&'static str, String)> {
    let admission = admit(pod, "ns", subject, &WORLD, NOW, &SETTINGS).unwrap();
    assert_eq!(admission.is_denied(), !admission.findings.is_empty());
    admission.findings.iter().map(|f| (f.rule.id, f.path.clone())).collect()
}

/// Sets the value at a path such as `spec.volumes[*].secret.secretName`; `[*]` appends an item at its first use.
fn set(pod: &mut Value, path: &str, leaf: Value) {
    let mut at = pod;
    for segment in path.split('.') {
        let (key, is_list) = segment.strip_suffix("[*]").map_or((segment, false), |key| (key, true));
        let (key, is_map) = key.strip_suffix("{*}").map_or((key, false), |key| (key, true));
        at = &mut at[key];
        if is_list {
            if !at.is_array() {
                *at = json!([]);
            }
            at.as_array_mut().unwrap().push(json!({}));
            at = at.as_array_mut().unwrap().last_mut().unwrap();
        }
        if is_map {
            at = &mut at["key"];
        }
    }
    *at = leaf;
}

/// The paths of the API that name a Secret.
fn secret_paths() -> Vec<&'static str> {
    let named = [
        "secretKeyRef.name",
        "secretRef.name",
        "SecretRef.name",
        "secretName",
        "imagePullSecrets[*].name",
        "secret.name",
    ];
    let mut paths: Vec<_> = LEAVES
        .lines()
        .filter_map(|line| line.split('\t').next())
        .filter(|path| named.iter().any(|suffix| path.ends_with(suffix)))
        .collect();
    paths.sort_unstable();
    paths
}

/// Paths that carry an identity or a key without naming a Secret.
const OTHER_CREDENTIAL_PATHS: [(&str, &str); 17] = [
    ("spec.volumes[*].cephfs.secretFile", "AI204"),
    ("spec.volumes[*].rbd.keyring", "AI204"),
    ("spec.volumes[*].projected.sources[*].podCertificate.signerName", "AI304"),
    ("spec.volumes[*].projected.sources[*].serviceAccountToken.path", "AI102"),
    ("spec.volumes[*].csi.driver", "AI205"),
    ("spec.volumes[*].csi.volumeAttributes.secretProviderClass", "AI205"),
    ("spec.volumes[*].hostPath.path", "AI401"),
    ("spec.securityContext.windowsOptions.gmsaCredentialSpec", "AI204"),
    ("spec.securityContext.windowsOptions.gmsaCredentialSpecName", "AI204"),
    ("spec.containers[*].securityContext.windowsOptions.gmsaCredentialSpec", "AI204"),
    ("spec.containers[*].securityContext.windowsOptions.gmsaCredentialSpecName", "AI204"),
    ("spec.initContainers[*].securityContext.windowsOptions.gmsaCredentialSpec", "AI204"),
    ("spec.initContainers[*].securityContext.windowsOptions.gmsaCredentialSpecName", "AI204"),
    ("spec.ephemeralContainers[*].securityContext.windowsOptions.gmsaCredentialSpec", "AI204"),
    ("spec.ephemeralContainers[*].securityContext.windowsOptions.gmsaCredentialSpecName", "AI204"),
    ("spec.containers[*].env[*].valueFrom.fileKeyRef.key", "AI107"),
    ("spec.initContainers[*].env[*].valueFrom.fileKeyRef.key", "AI107"),
];

#[test]
fn every_path_that_names_a_secret_is_refused() {
    let paths = secret_paths();
    assert_eq!(paths.len(), 18, "{paths:#?}");
    for path in paths {
        let mut pod = clean();
        set(&mut pod, path, json!("some-secret"));
        let found = verdict(&pod, Subject::Pod);
        let family = ["AI201", "AI202", "AI203", "AI204", "AI205"];
        assert!(found.iter().any(|(rule, _)| family.contains(rule)), "{path}: {found:?}");
        if path.starts_with("spec.ephemeralContainers") {
            let found = verdict(&pod, Subject::DebugContainers);
            assert!(found.iter().any(|(rule, _)| *rule == "AI502"), "{path}: {found:?}");
        }
    }
}

#[test]
fn every_other_path_that_carries_a_credential_is_refused() {
    for (path, rule) in OTHER_CREDENTIAL_PATHS {
        let mut pod = clean();
        set(&mut pod, path, json!("x"));
        let found = verdict(&pod, Subject::Pod);
        assert!(found.iter().any(|(found, _)| *found == rule), "{path}: {found:?}");
    }
}

/// What stands below `prefix` in the API, one level deep.
fn kinds_below(prefix: &str) -> BTreeSet<&'static str> {
    LEAVES
        .lines()
        .filter_map(|line| line.split('\t').next())
        .filter_map(|path| path.strip_prefix(prefix))
        .filter_map(|rest| rest.split(['.', '[', '{']).next())
        .collect()
}

#[test]
fn every_kind_of_source_kubernetes_has_is_known() {
    let container = |below: &str| format!("spec.containers[*].{below}");
    for (prefix, parents) in [
        ("spec.volumes[*].".to_owned(), "spec.volumes[*]"),
        ("spec.volumes[*].projected.sources[*].".to_owned(), "spec.volumes[*].projected.sources[*]"),
        (container("env[*].valueFrom."), "spec.containers[*].env[*].valueFrom"),
        (container("envFrom[*]."), "spec.containers[*].envFrom[*]"),
    ] {
        let kinds = kinds_below(&prefix);
        assert!(kinds.len() >= 3, "{prefix}: {kinds:?}");
        for kind in kinds {
            let mut pod = clean();
            let leaf = if matches!(kind, "name" | "prefix") { json!("x") } else { json!({}) };
            set(&mut pod, &format!("{parents}.{kind}"), leaf);
            let found = verdict(&pod, Subject::Pod);
            assert!(found.iter().all(|(rule, _)| *rule != "AI212"), "{parents}.{kind}: {found:?}");
        }
        let mut pod = clean();
        set(&mut pod, &format!("{parents}.brandNew"), json!({}));
        let found = verdict(&pod, Subject::Pod);
        assert!(found.iter().any(|(rule, path)| *rule == "AI212" && path.ends_with("brandNew")), "{found:?}");
    }
    for path in [
        "spec.volumes[*].knownVolume",
        "spec.volumes[*].projected.sources[*].knownProjection",
        "spec.containers[*].env[*].valueFrom.knownRef",
        "spec.containers[*].envFrom[*].knownFrom",
    ] {
        let mut pod = clean();
        set(&mut pod, path, json!({}));
        assert_eq!(verdict(&pod, Subject::Pod), [], "{path}");
    }
}

/// Merges `patch` into the pod: objects by key, everything else replaced.
fn merged(mut pod: Value, patch: Value) -> Value {
    json_patch::merge(&mut pod, &patch);
    pod
}

fn letters(n: usize) -> String {
    "aB3dE6gH9jK2mN5pQ8sT".chars().cycle().take(n).collect()
}

fn token_volume(audience: Option<&str>, seconds: Option<i64>) -> Value {
    let mut token = json!({"path": "token"});
    if let Some(audience) = audience {
        token["audience"] = json!(audience);
    }
    if let Some(seconds) = seconds {
        token["expirationSeconds"] = json!(seconds);
    }
    json!({"name": "v", "projected": {"sources": [{"serviceAccountToken": token}]}})
}

fn with_volume(volume: Value) -> Value {
    let mut pod = clean();
    pod["spec"]["volumes"].as_array_mut().unwrap().push(volume);
    pod
}

fn with_container(container: Value) -> Value {
    let mut pod = clean();
    pod["spec"]["containers"].as_array_mut().unwrap().push(container);
    pod
}

fn with_app(patch: Value) -> Value {
    let mut pod = clean();
    json_patch::merge(&mut pod["spec"]["containers"][0], &patch);
    pod
}

fn with_mount(volume: &str, path: &str) -> Value {
    let mut pod = with_volume(json!({"name": "data", "emptyDir": {}}));
    pod["spec"]["volumes"].as_array_mut().unwrap().push(json!({"name": "pvc",
        "persistentVolumeClaim": {"claimName": "c"}}));
    pod["spec"]["containers"][0]["volumeMounts"]
        .as_array_mut()
        .unwrap()
        .push(json!({"name": volume, "mountPath": path}));
    pod
}

/// One row: what it shows, the pod, and exactly the rules it must raise.
type Row = (&'static str, Value, &'static [&'static str]);

fn identity_rows() -> Vec<Row> {
    let of = |agent: &str| {
        merged(
            clean(),
            json!({"metadata": {"labels": {"deputy.dev/agent": agent},
                                            "annotations": {"deputy.dev/identity-uid": format!("uid-{agent}")}},
                               "spec": {"serviceAccountName": format!("agent.{agent}")}}),
        )
    };
    let account = |name: &str| merged(clean(), json!({"spec": {"serviceAccountName": name}}));
    let unlabelled = |name: Value| {
        merged(clean(), json!({"metadata": {"labels": null}, "spec": {"serviceAccountName": name}}))
    };
    let stamp =
        |uid: Value| merged(clean(), json!({"metadata": {"annotations": {"deputy.dev/identity-uid": uid}}}));
    vec![
        ("a clean pod", clean(), &[]),
        ("no such identity", of("nobody"), &["AI001"]),
        ("an invalid identity", of("bad"), &["AI001"]),
        ("an identity being deleted", of("gone"), &["AI001"]),
        ("an account that is not there", of("bare"), &["AI001"]),
        ("an account that is somebody else's", of("taken"), &["AI001"]),
        (
            "an empty label",
            merged(clean(), json!({"metadata": {"labels": {"deputy.dev/agent": ""}}})),
            &["AI001"],
        ),
        ("no agent at all, in a namespace of agents", unlabelled(json!("web")), &["AI001"]),
        ("the default account", account("default"), &["AI002"]),
        ("no account", unlabelled(Value::Null), &["AI002"]),
        ("the default account without label", unlabelled(json!("default")), &["AI002"]),
        (
            "two account fields that differ",
            merged(clean(), json!({"spec": {"serviceAccount": "default"}})),
            &["AI002"],
        ),
        ("the alias agrees", merged(clean(), json!({"spec": {"serviceAccount": "agent.a"}})), &[]),
        ("another agent's account", account("agent.plain"), &["AI003"]),
        ("a plain account under the label", account("web"), &["AI003"]),
        ("an agent's account without its label", unlabelled(json!("agent.a")), &["AI004"]),
        ("a stamp of a predecessor", stamp(json!("uid-old")), &["AI006"]),
        ("no stamp", stamp(Value::Null), &["AI006"]),
    ]
}

fn token_rows() -> Vec<Row> {
    let automount = |value: Value| merged(clean(), json!({"spec": {"automountServiceAccountToken": value}}));
    let api = |seconds: i64| {
        let mut pod = mutated(&bare("api"));
        pod["spec"]["volumes"][0]["projected"]["sources"][0]["serviceAccountToken"]["expirationSeconds"] =
            json!(seconds);
        pod
    };
    let forged_access = || {
        let mut pod = mutated(&bare("plain"));
        pod["spec"]["volumes"] = json!([{"name": "deputy-kube-api-access", "configMap": {"name": "forged"}}]);
        let path = "/var/run/secrets/kubernetes.io/serviceaccount";
        pod["spec"]["containers"][0]["volumeMounts"] =
            json!([{"name": "deputy-kube-api-access", "mountPath": path}]);
        mutated(&pod)
    };
    let declared = Some("https://papers.example.com");
    vec![
        ("API access forged for an agent that has none", forged_access(), &["AI108"]),
        ("automount on", automount(json!(true)), &["AI101"]),
        ("automount unsaid", automount(Value::Null), &["AI101"]),
        ("an empty audience", with_volume(token_volume(Some(""), Some(600))), &["AI102"]),
        ("no audience", with_volume(token_volume(None, Some(600))), &["AI102"]),
        (
            "the API server's audience by name",
            with_volume(token_volume(Some("https://kubernetes.default.svc"), Some(600))),
            &["AI102"],
        ),
        ("API access as declared", api(3600), &[]),
        // Not as the identity declares it, besides.
        ("API access for a year", api(3607), &["AI108", "AI103"]),
        (
            "somebody's own tokens under the name of ours",
            with_volume(json!({"name": "deputy-tokens", "configMap": {"name": "forged"}})),
            &["AI108"],
        ),
        ("a token of a day", with_volume(token_volume(declared, Some(86400))), &["AI103"]),
        ("a token of a second", with_volume(token_volume(declared, Some(1))), &["AI103"]),
        ("a declared audience in a volume of one's own", with_volume(token_volume(declared, Some(600))), &[]),
        (
            "a declared audience, lifetime left to the API server",
            with_volume(token_volume(declared, None)),
            &[],
        ),
        (
            "an audience nobody declared",
            with_volume(token_volume(Some("https://x.example.com"), None)),
            &["AI104"],
        ),
        ("a mesh's audience", with_volume(token_volume(Some("istio-ca"), Some(3600))), &[]),
        (
            "a volume that passes for the injected one",
            with_volume(json!({"name": "kube-api-access-abcde", "emptyDir": {}})),
            &["AI108"],
        ),
        (
            "a claim where tokens lie",
            with_mount("pvc", "/run/secrets/kubernetes.io/serviceaccount/"),
            &["AI108"],
        ),
        (
            "an empty directory where tokens lie",
            with_mount("data", "/var/run/secrets/deputy.dev/x"),
            &["AI108"],
        ),
        ("a claim above", with_mount("pvc", "/var/run"), &["AI108"]),
        ("an empty directory above", with_mount("data", "/var/run"), &[]),
        ("an empty directory elsewhere", with_mount("data", "/var/run/secrets/other"), &[]),
    ]
}

fn exposure_rows() -> Vec<Row> {
    let second = |mount: Value| with_container(json!({"name": "side", "volumeMounts": [mount]}));
    let shared = |pod: Value| merged(pod, json!({"spec": {"shareProcessNamespace": true}}));
    let init = {
        let mut pod = clean();
        pod["spec"]["initContainers"] =
            json!([{"name": "init", "volumeMounts": [{"name": "deputy-tokens", "mountPath": "/t"}]}]);
        pod
    };
    let sub_path = {
        let mut pod = clean();
        pod["spec"]["containers"][0]["volumeMounts"][0]["subPath"] = json!("tokens/t");
        pod
    };
    let mesh = {
        let mut pod = with_container(
            json!({"name": "istio-proxy", "volumeMounts": [{"name": "v", "mountPath": "/var/run/secrets/tokens"}]}),
        );
        pod["spec"]["volumes"].as_array_mut().unwrap().push(token_volume(Some("istio-ca"), Some(3600)));
        pod
    };
    let mesh_in_both = {
        let mut pod = mesh.clone();
        let mount = json!({"name": "v", "mountPath": "/m"});
        pod["spec"]["containers"][0]["volumeMounts"].as_array_mut().unwrap().push(mount);
        pod
    };
    let sidecar = with_container(json!({"name": "side"}));
    let mut tokenless = mutated(&bare("plain"));
    tokenless["spec"]["containers"].as_array_mut().unwrap().push(json!({"name": "side"}));
    vec![
        ("the token in a sidecar", second(json!({"name": "deputy-tokens", "mountPath": "/t"})), &["AI107"]),
        ("the token in an init container", init, &["AI107"]),
        ("a mesh's proxy with its own token", mesh, &[]),
        ("a mesh's token in two containers", mesh_in_both, &["AI107"]),
        ("the token by subPath", sub_path, &["AI107"]),
        ("a sidecar without the token", sidecar.clone(), &[]),
        ("a sidecar in a shared process namespace", shared(sidecar), &["AI107"]),
        ("a shared process namespace of one", shared(clean()), &[]),
        ("a shared process namespace without credentials", shared(tokenless), &[]),
    ]
}

fn secret_rows() -> Vec<Row> {
    vec![
        (
            "a ConfigMap in the environment",
            with_app(json!({"envFrom": [{"configMapRef": {"name": "c"}, "prefix": "X_"}],
                            "env": [{"name": "N", "valueFrom": {"configMapKeyRef": {"name": "c", "key": "k"}}},
                                    {"name": "P", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]})),
            &[],
        ),
        (
            "a Secret in the environment",
            with_app(
                json!({"env": [{"name": "N", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}]}),
            ),
            &["AI201"],
        ),
        (
            "a whole Secret in the environment",
            with_app(json!({"envFrom": [{"secretRef": {"name": "s"}}]})),
            &["AI201"],
        ),
        (
            "a Secret as a volume",
            with_volume(json!({"name": "s", "secret": {"secretName": "s"}})),
            &["AI202"],
        ),
        (
            "a projected Secret",
            with_volume(json!({"name": "s", "projected": {"sources": [{"secret": {"name": "s"}}]}})),
            &["AI202"],
        ),
        (
            "a projected trust bundle and ConfigMap",
            with_volume(json!({"name": "s", "projected": {"sources": [
                {"clusterTrustBundle": {"name": "b", "path": "b"}}, {"configMap": {"name": "c"}}]}})),
            &[],
        ),
        (
            "a pull secret of somebody else",
            merged(clean(), json!({"spec": {"imagePullSecrets": [{"name": "regcred"}, {"name": "other"}]}})),
            &["AI203"],
        ),
        (
            "an Azure file share",
            with_volume(json!({"name": "z", "azureFile": {"secretName": "s"}})),
            &["AI204"],
        ),
        ("an iSCSI disk without a Secret", with_volume(json!({"name": "z", "iscsi": {"iqn": "i"}})), &[]),
        ("an allowed driver", with_volume(json!({"name": "z", "csi": {"driver": "csi.spiffe.io"}})), &[]),
        ("another driver", with_volume(json!({"name": "z", "csi": {"driver": "d.example.com"}})), &["AI205"]),
        (
            "an allowed driver with a Secret",
            with_volume(
                json!({"name": "z", "csi": {"driver": "csi.spiffe.io", "nodePublishSecretRef": {"name": "s"}}}),
            ),
            &["AI205"],
        ),
        ("a claim", with_volume(json!({"name": "z", "persistentVolumeClaim": {"claimName": "c"}})), &[]),
        (
            "a pod certificate",
            with_volume(json!({"name": "z", "projected": {"sources": [
                {"podCertificate": {"signerName": "s", "keyType": "ED25519"}}]}})),
            &["AI304"],
        ),
    ]
}

fn literal_rows() -> Vec<Row> {
    let key = format!("sk-ant-api03-{}", letters(90));
    let in_app = |patch: Value| with_app(patch);
    let in_metadata = |patch: Value| merged(clean(), json!({"metadata": patch}));
    vec![
        ("a key in the environment", in_app(json!({"env": [{"name": "K", "value": key}]})), &["AI206"]),
        ("a key in an argument", in_app(json!({"args": ["--verbose", format!("--key={key}")]})), &["AI206"]),
        (
            "a key in a shell line",
            in_app(json!({"command": ["sh", "-c", format!("export K={key}; run")]})),
            &["AI206"],
        ),
        (
            "a key in a probe's header",
            in_app(json!({"livenessProbe": {"httpGet": {"port": 1, "httpHeaders": [
                {"name": "Authorization", "value": format!("Bearer {key}")}]}}})),
            &["AI206"],
        ),
        (
            "a key in a hook",
            in_app(json!({"lifecycle": {"preStop": {"exec": {"command": ["curl", key]}}}})),
            &["AI206"],
        ),
        (
            "a password in a repository's URL",
            with_volume(json!({"name": "g", "gitRepo": {
                "repository": format!("https://bot:{}@git.example.com/r", letters(20))}})),
            &["AI206"],
        ),
        ("a key in a field nobody knows", in_app(json!({"newThing": {"x": [key]}})), &["AI206"]),
        ("a key in an annotation", in_metadata(json!({"annotations": {"note": key}})), &["AI207"]),
        (
            "a key in the copy kubectl keeps",
            in_metadata(json!({"annotations": {
                "kubectl.kubernetes.io/last-applied-configuration": format!("{{\"env\":\"{key}\"}}")}})),
            &["AI207"],
        ),
        (
            "placeholders",
            in_app(json!({"args": ["--key=$(API_KEY)", "sk-..."], "env": [
                {"name": "URL", "value": "postgres://app:$(PASSWORD)@db/app"}]})),
            &[],
        ),
    ]
}

fn host_rows() -> Vec<Row> {
    let spec = |patch: Value| merged(clean(), json!({"spec": patch}));
    let context = |patch: Value| with_app(json!({"securityContext": patch}));
    vec![
        ("the node's network", spec(json!({"hostNetwork": true})), &["AI401"]),
        ("the node's processes", spec(json!({"hostPID": true})), &["AI401"]),
        ("the node's IPC", spec(json!({"hostIPC": true})), &["AI401"]),
        ("none of them", spec(json!({"hostNetwork": false, "hostPID": false, "hostUsers": false})), &[]),
        (
            "a directory of the node",
            with_volume(json!({"name": "h", "hostPath": {"path": "/tmp"}})),
            &["AI401"],
        ),
        (
            "a port of the node",
            with_app(json!({"ports": [{"containerPort": 1, "hostPort": 80}]})),
            &["AI401"],
        ),
        ("a port", with_app(json!({"ports": [{"containerPort": 80}]})), &[]),
        ("privileged", context(json!({"privileged": true})), &["AI401"]),
        ("procfs unmasked", context(json!({"procMount": "Unmasked"})), &["AI401"]),
        ("a Windows host process", context(json!({"windowsOptions": {"hostProcess": true}})), &["AI401"]),
        (
            "capabilities",
            context(json!({"capabilities": {"add": ["SYS_PTRACE", "cap_bpf", "ALL"]}})),
            &["AI401", "AI401", "AI401"],
        ),
        (
            "a harmless capability",
            context(json!({"capabilities": {"add": ["NET_BIND_SERVICE"], "drop": ["ALL"]}})),
            &[],
        ),
    ]
}

#[test]
fn a_suspended_agents_pod_waits() {
    let gates = json!([{"name": "deputy.dev/suspended"}]);
    let pod = mutated(&bare("stopped"));
    assert_eq!(pod["spec"]["schedulingGates"], gates);
    assert_eq!(pod["metadata"]["annotations"]["deputy.dev/gated"], "true");
    assert_eq!(verdict(&pod, Subject::Pod), []);
    let mut ungated = pod;
    ungated["spec"].as_object_mut().unwrap().remove("schedulingGates");
    assert_eq!(verdict(&ungated, Subject::Pod), [("AI009", "spec.schedulingGates".to_owned())]);

    let mut placed = bare("stopped");
    placed["spec"]["nodeName"] = json!("n1");
    let Ok(Mutation::Refuse(findings)) = mutate(&placed, "ns", &WORLD, &SETTINGS) else {
        panic!("not refused")
    };
    assert_eq!((findings[0].rule.id, findings[0].path.as_str()), ("AI009", "spec.nodeName"));
    assert!(findings[0].message.contains("INC-1"), "{}", findings[0]);

    // Whoever made a pod wait, the mark says so; and one that does not wait carries none.
    let mut waits = bare("plain");
    waits["spec"]["schedulingGates"] = gates;
    assert_eq!(mutated(&waits)["metadata"]["annotations"]["deputy.dev/gated"], "true");
    let mut marked = bare("plain");
    marked["metadata"]["annotations"] = json!({"deputy.dev/gated": "true"});
    assert!(mutated(&marked)["metadata"]["annotations"].get("deputy.dev/gated").is_none());
}

#[test]
fn each_rule_refuses_what_it_says_and_nothing_near() {
    let rows =
        [identity_rows(), token_rows(), exposure_rows(), secret_rows(), literal_rows(), host_rows()].concat();
    for (what, pod, expected) in &rows {
        let found: Vec<_> = verdict(pod, Subject::Pod).into_iter().map(|(rule, _)| rule).collect();
        assert_eq!(found, *expected, "{what}");
    }
    let mut unseen: BTreeSet<_> =
        rules().iter().filter(|rule| rule.engine == Engine::Webhook).map(|rule| rule.id).collect();
    for rule in rows.iter().flat_map(|(_, _, expected)| *expected) {
        unseen.remove(rule);
    }
    // Their rows stand in tests of their own: above, below, and in credentials.rs.
    assert_eq!(unseen, BTreeSet::from(["AI212", "AI301", "AI502"]));
    println!("{} rows, {} rules", rows.len(), rules().len());
}

#[test]
fn a_key_in_any_field_of_the_api_is_refused() {
    let key = format!("ghp_{}", letters(36));
    let is_text = |line: &&str| line.ends_with("\tString");
    let fields: Vec<_> = LEAVES.lines().filter(is_text).filter_map(|line| line.split('\t').next()).collect();
    assert!(fields.len() > 500, "{}", fields.len());
    for field in fields {
        let mut pod = clean();
        set(&mut pod, field, json!(key));
        let found = verdict(&pod, Subject::Pod);
        let at = field.replace("[*]", "").replace("{*}", "");
        assert!(found.iter().any(|(rule, _)| *rule == "AI206"), "{at}: {found:?}");
    }
    for field in ["metadata.annotations{*}", "metadata.labels{*}"] {
        let mut pod = clean();
        set(&mut pod, field, json!(key));
        assert!(verdict(&pod, Subject::Pod).iter().any(|(rule, _)| *rule == "AI207"), "{field}");
    }
}

#[test]
fn what_only_looks_like_a_key_is_warned_of() {
    let random: String = "aB3dE6gH9jK2mN5pQ8sTu4vW7".chars().rev().collect();
    let of = |pod: &Value| {
        let admission = admit(pod, "ns", Subject::Pod, &WORLD, NOW, &SETTINGS).unwrap();
        assert!(!admission.is_denied(), "{:?}", admission.findings);
        let line = |f: &deputy::policy::Finding| format!("{} {}: {}", f.rule.id, f.path, f.message);
        admission.findings.iter().map(line).collect::<Vec<_>>()
    };
    let what = "looks like a key (25 characters), and is called one";
    let env = |name: &str, value: &str| with_app(json!({"env": [{"name": name, "value": value}]}));
    assert_eq!(of(&env("API_TOKEN", &random)), [format!("AI206 spec.containers[0].env[0].value: {what}")]);
    let flag = with_app(json!({"args": [format!("--api-key={random}")]}));
    let what_of_flag = "looks like a key (35 characters), and is called one";
    assert_eq!(of(&flag), [format!("AI206 spec.containers[0].args[0]: {what_of_flag}")]);
    let annotated = merged(clean(), json!({"metadata": {"annotations": {"example.com/password": random}}}));
    assert_eq!(of(&annotated), [format!("AI207 metadata.annotations[\"example.com/password\"]: {what}")]);
    for near in [
        env("API_TOKEN", "$(FROM_ELSEWHERE_2026_11)"),
        env("API_TOKEN_FILE", &random),
        env("BUILD", &random),
        env("PASSWORD", "correct horse battery staple 42"),
        env("MODEL_TOKEN", "claude-opus-4-20250514"),
        merged(
            clean(),
            json!({"metadata": {"annotations": {"checksum/secret": "9f86d081884c7d659a2feaa0c55ad015"}}}),
        ),
    ] {
        assert_eq!(of(&near), Vec::<String>::new());
    }
}

#[test]
fn debug_containers_reach_no_credential() {
    let debug = |container: Value| {
        let mut pod = clean();
        pod["spec"]["ephemeralContainers"] =
            json!([merged(json!({"name": "debug", "image": "i"}), container)]);
        pod
    };
    let shared = merged(debug(json!({})), json!({"spec": {"shareProcessNamespace": true}}));
    for (what, pod, expected) in [
        ("a debug container", debug(json!({"env": [{"name": "A", "value": "b"}]})), &[][..]),
        ("one in a shared process namespace", shared, &["AI502"]),
        ("one that joins the agent's processes", debug(json!({"targetContainerName": "app"})), &["AI502"]),
        (
            "one with the agent's token",
            debug(json!({"volumeMounts": [{"name": "deputy-tokens", "mountPath": "/t"}]})),
            &["AI502"],
        ),
        (
            "one with a volume that is not there",
            debug(json!({"volumeMounts": [{"name": "x", "mountPath": "/x"}]})),
            &["AI502"],
        ),
        ("one with a Secret", debug(json!({"envFrom": [{"secretRef": {"name": "s"}}]})), &["AI502"]),
        (
            "one with a file another container wrote",
            debug(json!({"env": [{"name": "A", "valueFrom": {"fileKeyRef": {"key": "k"}}}]})),
            &["AI502"],
        ),
        ("a privileged one", debug(json!({"securityContext": {"privileged": true}})), &["AI401"]),
        ("one with a key", debug(json!({"args": [format!("ghp_{}", letters(36))]})), &["AI206"]),
        ("one with an unknown source", debug(json!({"envFrom": [{"brandNew": {}}]})), &["AI212"]),
    ] {
        let found: Vec<_> =
            verdict(&pod, Subject::DebugContainers).into_iter().map(|(rule, _)| rule).collect();
        assert_eq!(found, expected, "{what}");
    }
}

#[test]
fn findings_say_where_and_what_to_do_and_never_show_a_value() {
    let key = format!("ghp_{}", letters(36));
    let pod =
        with_app(json!({"args": [format!("--token={key}")], "envFrom": [{"secretRef": {"name": "s"}}]}));
    let admission = admit(&pod, "ns", Subject::Pod, &WORLD, NOW, &SETTINGS).unwrap();
    let texts: Vec<_> = admission.findings.iter().map(ToString::to_string).collect();
    assert_eq!(
        texts,
        [
            "[AI201] spec.containers[0].envFrom[0].secretRef: reads Secret \"s\" into the environment, which \
             AgentIdentity \"a\" does not declare; use a token the AgentIdentity declares, or declare the Secret in its \
             spec.credentials: keys, delivery and an end (docs/rules.md#ai201)",
            "[AI206] spec.containers[0].args[0]: matches \"github-personal-access-token\" (48 characters); remove it and rotate the \
             key: it has left its owner (docs/rules.md#ai206)",
        ]
    );
}

/// A credential put somewhere into a clean pod.
fn any_credential() -> impl Strategy<Value = (&'static str, Value)> {
    let by_reference = proptest::sample::select(secret_paths()).prop_map(|path| (path, json!("some-secret")));
    let other =
        proptest::sample::select(OTHER_CREDENTIAL_PATHS.to_vec()).prop_map(|(path, _)| (path, json!("x")));
    let literal = proptest::sample::select(vec![
        "spec.containers[*].env[*].value",
        "spec.initContainers[*].command",
        "spec.ephemeralContainers[*].args",
        "metadata.annotations.note",
        "spec.volumes[*].flexVolume.options{*}",
    ])
    .prop_map(|path| (path, json!(format!("--key ghp_{} --more", letters(36)))));
    prop_oneof![by_reference, other, literal]
}

/// Harmless additions.
fn any_noise() -> impl Strategy<Value = (&'static str, Value)> {
    proptest::sample::select(vec![
        ("spec.volumes[*].emptyDir", json!({})),
        ("spec.volumes[*].configMap.name", json!("c")),
        ("spec.containers[*].name", json!("sidecar")),
        ("spec.initContainers[*].name", json!("init")),
        ("spec.containers[*].env[*].value", json!("plain")),
        ("spec.newField.deep", json!("x")),
        ("metadata.annotations.note", json!("hello")),
        ("spec.tolerations[*].key", json!("k")),
    ])
}

fn sorted(mut findings: Vec<(&'static str, String)>) -> Vec<(&'static str, String)> {
    findings.sort();
    findings
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn a_pod_with_any_credential_anywhere_is_refused(
        credentials in proptest::collection::vec(any_credential(), 1..5),
        noise in proptest::collection::vec(any_noise(), 0..6),
    ) {
        let mut pod = clean();
        for (path, value) in noise.iter().take(3) { set(&mut pod, path, value.clone()); }
        for (path, value) in &credentials { set(&mut pod, path, value.clone()); }
        for (path, value) in noise.iter().skip(3) {
            if !path.starts_with("metadata") { set(&mut pod, path, value.clone()); }
        }
        prop_assert!(!verdict(&pod, Subject::Pod).is_empty(), "{pod}");
    }

    #[test]
    fn noise_alone_is_admitted_and_mutating_twice_is_mutating_once(
        noise in proptest::collection::vec(any_noise(), 0..8),
        agent in proptest::sample::select(vec!["a", "plain", "api"]),
    ) {
        let mut pod = bare(agent);
        pod["metadata"]["annotations"] = json!({"deputy.dev/container": "app"});
        for (path, value) in noise { set(&mut pod, path, value); }
        let once = mutated(&pod);
        prop_assert_eq!(verdict(&once, Subject::Pod), []);
        prop_assert_eq!(&mutated(&once), &once);
    }

    #[test]
    fn unknown_fields_elsewhere_change_no_verdict(
        credentials in proptest::collection::vec(any_credential(), 0..4),
        field in "[a-z]{3,8}X",
    ) {
        let mut pod = clean();
        for (path, value) in &credentials { set(&mut pod, path, value.clone()); }
        let before = sorted(verdict(&pod, Subject::Pod));
        pod[&field] = json!({"x": 1});
        pod["spec"][&field] = json!([1, {"y": null}]);
        pod["spec"]["containers"][0][&field] = json!(true);
        prop_assert_eq!(sorted(verdict(&pod, Subject::Pod)), before);
    }

    #[test]
    fn any_json_is_judged_or_refused_as_malformed(pod in any_json()) {
        for subject in [Subject::Pod, Subject::DebugContainers] {
            if let Ok(admission) = admit(&pod, "ns", subject, &WORLD, NOW, &SETTINGS)
                && subject == Subject::Pod
            {
                prop_assert!(admission.is_denied(), "only a pod of a known agent is admitted");
            }
        }
        let _ = mutate(&pod, "ns", &WORLD, &SETTINGS);
    }
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        "\\PC{0,12}".prop_map(Value::from),
    ];
    let key = proptest::sample::select(vec![
        "metadata",
        "labels",
        "annotations",
        "deputy.dev/agent",
        "spec",
        "containers",
        "volumes",
        "projected",
        "sources",
        "secret",
        "env",
        "valueFrom",
        "name",
        "serviceAccountName",
        "securityContext",
        "capabilities",
    ]);
    leaf.prop_recursive(6, 64, 6, move |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::vec((key.clone(), inner), 0..6)
                .prop_map(|entries| Value::from_iter(entries.into_iter().map(|(k, v)| (k.to_owned(), v)))),
        ]
    })
}
