//! Renders the chart and holds it to what the design promises of it. What the rendered objects do is the
//! end-to-end suite's to show; that they say no more than they should is shown here.

use std::{
    collections::BTreeMap,
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use serde_json::Value;

/// The release that the documentation speaks of.
const RELEASE: &[&str] = &["deputy", "charts/deputy", "--namespace", "deputy-system"];

/// Every rule of every role, and no other: kind and name, then API groups, resources, names and verbs.
const RULES: &[(&str, &[&str])] = &[
    (
        "ClusterRole deputy-agent-admin",
        &[
            "deputy.dev | agentidentities delegationpolicies | | get list watch create update patch delete deletecollection",
        ],
    ),
    ("ClusterRole deputy-agent-user", &["deputy.dev | agentidentities | | use"]),
    (
        "ClusterRole deputy-controller",
        &[
            "deputy.dev | agentidentities | | get list watch",
            "deputy.dev | agentsuspensions agentexceptions delegationpolicies protectedresources trustedissuers \
             | | list watch",
            "deputy.dev | credentialclaims | | list watch create update delete",
            "deputy.dev | agentidentities/status | | patch update",
            "deputy.dev | delegationpolicies/status protectedresources/status trustedissuers/status | | patch",
            "core | serviceaccounts | | get list watch create patch update delete",
            "core | configmaps | | get list watch create patch",
            "core | pods | | list watch patch delete",
            "core | pods/eviction | | create",
            "core | namespaces | | list watch",
            "core events.k8s.io | events | | create patch",
            "admissionregistration.k8s.io | mutatingwebhookconfigurations | deputy-agent-pods \
             | get list watch patch",
            "admissionregistration.k8s.io | validatingwebhookconfigurations \
             | deputy-agent-pods deputy-enforced-namespaces deputy-claimed-secrets deputy-debug-containers deputy-templates \
             | get list watch patch",
        ],
    ),
    (
        "ClusterRole deputy-exception-admin",
        &["deputy.dev | agentexceptions | | get list watch create update patch delete deletecollection"],
    ),
    (
        "ClusterRole deputy-issuer-admin",
        &["deputy.dev | trustedissuers | | get list watch create update patch delete deletecollection"],
    ),
    (
        "ClusterRole deputy-resource-admin",
        &["deputy.dev | protectedresources | | get list watch create update patch delete deletecollection"],
    ),
    (
        "ClusterRole deputy-suspender",
        &[
            "deputy.dev | agentidentities | | get list watch",
            "deputy.dev | agentsuspensions | | get list watch create delete deletecollection",
        ],
    ),
    (
        "ClusterRole deputy-viewer",
        &[
            "deputy.dev | agentidentities agentsuspensions agentexceptions credentialclaims delegationpolicies \
             protectedresources trustedissuers | | get list watch",
        ],
    ),
    (
        "ClusterRole deputy-webhook",
        &[
            "deputy.dev | agentidentities agentsuspensions agentexceptions credentialclaims | | list watch",
            "core | serviceaccounts | | list watch",
        ],
    ),
    (
        "ClusterRole deputy-broker",
        &[
            "deputy.dev | agentidentities agentsuspensions delegationpolicies protectedresources trustedissuers \
             | | list watch",
            "core | serviceaccounts pods | | list watch",
            "authentication.k8s.io | tokenreviews | | create",
            "authorization.k8s.io | subjectaccessreviews | | create",
        ],
    ),
    (
        "Role deputy-system/deputy-auditor",
        &[
            "apps | statefulsets | deputy-broker | get",
            "core | pods | | get list",
            "core | pods/portforward | | get create",
            "core | secrets | deputy-broker-pseudonyms | get",
        ],
    ),
    (
        "Role deputy-system/deputy-broker",
        &[
            "core | secrets | deputy-broker-tls deputy-broker-signing deputy-broker-pseudonyms | get list watch",
            "coordination.k8s.io | leases | | list watch create patch",
        ],
    ),
    (
        "Role deputy-system/deputy-controller",
        &[
            "core | secrets | | create",
            "core | secrets | deputy-ca deputy-webhook-tls deputy-broker-tls deputy-broker-signing \
             deputy-broker-pseudonyms | get list watch patch update",
        ],
    ),
    (
        "Role deputy-system/deputy-webhook",
        &[
            "core | secrets | deputy-webhook-tls | get list watch",
            "coordination.k8s.io | leases | | list watch create patch",
        ],
    ),
];

/// Who holds those roles once the chart is installed. People's roles are theirs to bind.
const BINDINGS: &[(&str, &str)] = &[
    ("ClusterRole deputy-broker", "ServiceAccount deputy-system/deputy-broker"),
    ("ClusterRole deputy-controller", "ServiceAccount deputy-system/deputy-controller"),
    ("ClusterRole deputy-webhook", "ServiceAccount deputy-system/deputy-webhook"),
    ("Role deputy-broker", "ServiceAccount deputy-system/deputy-broker"),
    ("Role deputy-controller", "ServiceAccount deputy-system/deputy-controller"),
    ("Role deputy-webhook", "ServiceAccount deputy-system/deputy-webhook"),
];

const POLICIES: [&str; 19] = [
    "agent-accounts",
    "agent-config-maps",
    "agent-pod-labels",
    "agent-tokens",
    "controller-evictions",
    "controller-fence",
    "credential-claims",
    "enforce-label",
    "exception-end",
    "exception-once",
    "identity-namespaces",
    "interactive-access",
    "interactive-mark",
    "replica-leases",
    "suspended-tokens",
    "suspension-gate",
    "suspension-requester",
    "token-secrets",
    "use-agents",
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn helm_binary() -> PathBuf {
    env::var_os("HELM").unwrap_or_else(|| "helm".into()).into()
}

fn helm(args: &[&str]) -> Output {
    let binary = helm_binary();
    Command::new(&binary).args(args).current_dir(root()).output().unwrap_or_else(|error| {
        panic!("cannot run {} ({error}): set HELM to a helm binary, or put one on the PATH", binary.display())
    })
}

/// What helm says of the chart with these arguments besides the release's: the manifest, or why there is none.
fn template(args: &[&str]) -> Result<String, String> {
    let output = helm(&[&["template"], RELEASE, args].concat());
    if output.status.success() {
        Ok(String::from_utf8(output.stdout).unwrap())
    } else {
        Err(String::from_utf8_lossy(&output.stderr).into_owned())
    }
}

fn documents(text: &str) -> Vec<Value> {
    serde_saphyr::from_multiple(text).unwrap()
}

/// The chart with all it can have.
fn chart() -> Vec<Value> {
    documents(&template(&["--set", "broker.enabled=true"]).unwrap())
}

fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

fn kind(object: &Value) -> &str {
    text(object, "/kind")
}

fn name(object: &Value) -> &str {
    text(object, "/metadata/name")
}

fn list<'a>(object: &'a Value, pointer: &str) -> &'a [Value] {
    object.pointer(pointer).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn of_kind<'a>(objects: &'a [Value], kinds: &'a [&str]) -> impl Iterator<Item = &'a Value> {
    objects.iter().filter(|object| kinds.contains(&kind(object)))
}

/// "ClusterRole name" or "Role namespace/name".
fn identify(object: &Value) -> String {
    match text(object, "/metadata/namespace") {
        "" => format!("{} {}", kind(object), name(object)),
        namespace => format!("{} {namespace}/{}", kind(object), name(object)),
    }
}

fn words(rule: &Value, field: &str) -> String {
    let words = list(rule, &format!("/{field}")).iter().map(|word| match word.as_str().unwrap() {
        "" => "core",
        word => word,
    });
    words.collect::<Vec<_>>().join(" ")
}

fn describe(rule: &Value) -> String {
    let known = ["apiGroups", "resources", "resourceNames", "verbs"];
    let unknown: Vec<_> =
        rule.as_object().unwrap().keys().filter(|key| !known.contains(&key.as_str())).collect();
    assert!(unknown.is_empty(), "a rule with {unknown:?}: {rule}");
    known.map(|field| words(rule, field)).join(" | ").replace("|  |", "| |")
}

#[test]
fn roles_hold_exactly_the_rules_of_the_table() {
    let chart = chart();
    let rendered: BTreeMap<_, Vec<_>> = of_kind(&chart, &["ClusterRole", "Role"])
        .map(|role| (identify(role), list(role, "/rules").iter().map(describe).collect()))
        .collect();
    let table = RULES.iter().map(|(role, rules)| {
        ((*role).to_owned(), rules.iter().map(|&rule| rule.to_owned()).collect::<Vec<_>>())
    });
    assert_eq!(rendered, table.collect());
}

/// Not a word about the table above: a rule added there must pass here too.
#[test]
fn no_rule_is_a_wildcard_and_none_reaches_secrets_of_the_cluster() {
    let chart = chart();
    for role in of_kind(&chart, &["ClusterRole", "Role"]) {
        for rule in list(role, "/rules") {
            let said = describe(rule);
            assert!(!said.contains('*'), "{}: {said}", identify(role));
            // The last one is no power over an object: a verb on it is a user's right at a resource.
            let forbidden = [
                "secrets",
                "serviceaccounts/token",
                "pods/exec",
                "roles",
                "nodes",
                "protectedresources/scopes",
            ];
            let cluster_wide = kind(role) == "ClusterRole";
            for resource in list(rule, "/resources").iter().filter_map(Value::as_str) {
                assert!(!(cluster_wide && forbidden.contains(&resource)), "{}: {said}", identify(role));
            }
            for verb in ["impersonate", "escalate", "bind", "delete"] {
                let people = [
                    "ClusterRole deputy-agent-admin",
                    "ClusterRole deputy-exception-admin",
                    "ClusterRole deputy-issuer-admin",
                    "ClusterRole deputy-resource-admin",
                    "ClusterRole deputy-suspender",
                ];
                let of_people = people.contains(&identify(role).as_str()) && verb == "delete";
                // A suspended agent's account is replaced and its pods are ended: the fence holds the controller to agents'.
                // A claim is its own word on who holds what, which it takes back.
                let of_agents =
                    ["core | serviceaccounts |", "core | pods |", "deputy.dev | credentialclaims |"];
                let of_agents = of_agents.iter().any(|of| said.starts_with(of)) && verb == "delete";
                let given = list(rule, "/verbs").iter().any(|given| given == verb);
                assert!(!given || of_people || of_agents, "{}: {said}", identify(role));
            }
        }
    }
}

#[test]
fn only_the_two_roles_own_accounts_are_bound() {
    let chart = chart();
    let mut rendered: Vec<_> = of_kind(&chart, &["ClusterRoleBinding", "RoleBinding"])
        .flat_map(|binding| {
            let role = format!("{} {}", text(binding, "/roleRef/kind"), text(binding, "/roleRef/name"));
            list(binding, "/subjects").iter().map(move |subject| {
                let kind = text(subject, "/kind");
                (role.clone(), format!("{kind} {}/{}", text(subject, "/namespace"), text(subject, "/name")))
            })
        })
        .collect();
    rendered.sort();
    let table = BINDINGS.iter().map(|&(role, subject)| (role.to_owned(), subject.to_owned()));
    assert_eq!(rendered, table.collect::<Vec<_>>());
}

#[test]
fn roles_for_people_are_aggregated_to_view_at_most() {
    let chart = chart();
    let mut aggregated = vec![];
    for role in of_kind(&chart, &["ClusterRole"]) {
        let labels = role.pointer("/metadata/labels").and_then(Value::as_object).unwrap();
        let keys = labels.keys().filter(|key| key.starts_with("rbac.authorization.k8s.io/"));
        aggregated.extend(keys.map(|key| (name(role).to_owned(), key.clone())));
        assert!(role.get("aggregationRule").is_none(), "{} gathers the rules of others", name(role));
    }
    let viewer = ("deputy-viewer".to_owned(), "rbac.authorization.k8s.io/aggregate-to-view".to_owned());
    assert_eq!(aggregated, [viewer]);
}

#[test]
fn pods_meet_the_restricted_standard() {
    let chart = chart();
    let deployments: Vec<_> = of_kind(&chart, &["Deployment", "StatefulSet"]).collect();
    assert_eq!(deployments.len(), 3);
    let workloads = ["Pod", "Job", "CronJob", "DaemonSet", "ReplicaSet"];
    assert_eq!(of_kind(&chart, &workloads).count(), 0);
    for deployment in deployments {
        let pod = deployment.pointer("/spec/template/spec").unwrap();
        assert_eq!(pod.pointer("/securityContext/runAsNonRoot"), Some(&true.into()));
        assert_eq!(pod.pointer("/securityContext/runAsUser"), Some(&65532.into()));
        assert_eq!(text(pod, "/securityContext/seccompProfile/type"), "RuntimeDefault");
        for absent in ["hostNetwork", "hostPID", "hostIPC", "hostUsers", "volumes", "initContainers"] {
            assert!(pod.get(absent).is_none(), "{} has {absent}", name(deployment));
        }
        let containers = list(pod, "/containers");
        assert_eq!(containers.len(), 1);
        let security = containers[0].get("securityContext").unwrap();
        let expected = serde_json::json!({
            "allowPrivilegeEscalation": false,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": true,
        });
        assert_eq!(security, &expected, "{}", name(deployment));
        assert_eq!(text(&containers[0], "/livenessProbe/httpGet/path"), "/livez");
        assert_eq!(text(&containers[0], "/readinessProbe/httpGet/path"), "/readyz");
        assert!(text(&containers[0], "/resources/limits/memory").ends_with("Mi"));
    }
}

#[test]
fn webhook_configurations_fail_closed_and_leave_the_ca_to_the_controller() {
    let chart = chart();
    let kinds = ["MutatingWebhookConfiguration", "ValidatingWebhookConfiguration"];
    let configurations: Vec<_> = of_kind(&chart, &kinds).collect();
    let mut names: Vec<_> = configurations
        .iter()
        .map(|object| (kind(object), name(object), text(object, "/webhooks/0/name")))
        .collect();
    names.sort_unstable();
    assert_eq!(
        names,
        [
            (kinds[0], "deputy-agent-pods", "agent-pods.mutate.deputy.dev"),
            (kinds[1], "deputy-agent-pods", "agent-pods.validate.deputy.dev"),
            (kinds[1], "deputy-claimed-secrets", "claimed-secrets.validate.deputy.dev"),
            (kinds[1], "deputy-debug-containers", "debug-containers.validate.deputy.dev"),
            (kinds[1], "deputy-enforced-namespaces", "enforced-namespaces.validate.deputy.dev"),
            (kinds[1], "deputy-templates", "templates.warn.deputy.dev"),
        ]
    );
    for configuration in configurations {
        // More than one entry, and taking one out breaks `helm upgrade` while the controller owns the caBundle.
        let webhooks = list(configuration, "/webhooks");
        assert_eq!(webhooks.len(), 1, "{}", name(configuration));
        let webhook = &webhooks[0];
        assert_eq!(webhook.pointer("/clientConfig/caBundle"), None);
        assert!(webhook.pointer("/clientConfig/service").is_some());
        // What only warns keeps nobody waiting, and refuses nothing when it is not there.
        let warns = text(webhook, "/name") == "templates.warn.deputy.dev";
        let (policy, seconds, conditions) = if warns { ("Ignore", 2, 2) } else { ("Fail", 5, 1) };
        assert_eq!(text(webhook, "/failurePolicy"), policy);
        assert_eq!(text(webhook, "/sideEffects"), "None");
        assert_eq!(text(webhook, "/matchPolicy"), "Equivalent");
        assert_eq!(webhook.pointer("/timeoutSeconds"), Some(&seconds.into()));
        assert_eq!(list(webhook, "/matchConditions").len(), conditions, "{}", text(webhook, "/name"));
        assert!(webhook.get("objectSelector").is_none(), "a label would switch the rules off");
    }
}

/// Fields read off a variable in CEL, such as `pod.spec.serviceAccountName`, each with every field above it,
/// as far as nothing in the expression says that they may be absent.
fn unguarded(expression: &str) -> Vec<String> {
    const ALWAYS_THERE: [&str; 1] = ["metadata"];
    let mut found = vec![];
    for (at, _) in expression.match_indices('.') {
        let start = expression[..at].rfind(|c: char| !c.is_alphanumeric() && c != '.').map_or(0, |i| i + 1);
        let rest = &expression[at + 1..];
        let field: String = rest.chars().take_while(|c| c.is_alphanumeric()).collect();
        let called = rest[field.len()..].starts_with('(');
        let root = expression[start..at].split('.').next().unwrap_or_default();
        let reviewed = ["object", "oldObject", "pod", "review"].contains(&root);
        if field.is_empty() || called || !reviewed {
            continue;
        }
        let path = format!("{}.{field}", &expression[start..at]);
        let top = path.matches('.').count() == 1 && ALWAYS_THERE.contains(&field.as_str());
        let named = path.ends_with(".metadata.name");
        if !top && !named && !expression.contains(&format!("has({path})")) {
            found.push(path);
        }
    }
    found
}

/// An unguarded field is an error on an object without it, and an error refuses the request: of every pod
/// without labels, and of the scheduler's bindings.
#[test]
fn every_match_condition_guards_the_fields_it_reads() {
    assert_eq!(unguarded("object.spec.nodeName == ''"), ["object.spec", "object.spec.nodeName"]);
    assert_eq!(unguarded("'x' in object.metadata.labels"), ["object.metadata.labels"]);
    assert!(
        unguarded("has(object.spec) && has(object.spec.nodeName) && object.spec.nodeName == ''").is_empty()
    );

    let chart = chart();
    let mut conditions = 0;
    for object in &chart {
        let webhooks = list(object, "/webhooks").iter().flat_map(|webhook| list(webhook, "/matchConditions"));
        for condition in webhooks.chain(list(object, "/spec/matchConditions")) {
            let expression = text(condition, "/expression");
            assert_eq!(unguarded(expression), Vec::<String>::new(), "{}: {expression}", identify(object));
            conditions += 1;
        }
    }
    assert!(conditions >= 12, "only {conditions} conditions seen");
}

#[test]
fn policies_deny_and_say_what_to_do() {
    let chart = chart();
    let names = |kind| {
        let mut names: Vec<_> = of_kind(&chart, &[kind]).map(|object| name(object).to_owned()).collect();
        names.sort();
        names
    };
    let expected = POLICIES.map(|policy| format!("deputy-{policy}"));
    assert_eq!(names("ValidatingAdmissionPolicy"), expected);
    assert_eq!(names("ValidatingAdmissionPolicyBinding"), expected);
    let agents = serde_json::json!({"matchExpressions": [{"key": "deputy.dev/agent", "operator": "Exists"}]});
    // Every such object of the namespace, or of the cluster; and what none means.
    let parameters = [
        ("deputy-controller-evictions", serde_json::json!({}), "Deny"),
        ("deputy-exception-once", serde_json::json!({}), "Allow"),
        ("deputy-interactive-access", agents, "Allow"),
        ("deputy-suspended-tokens", serde_json::json!({}), "Allow"),
    ];
    for binding in of_kind(&chart, &["ValidatingAdmissionPolicyBinding"]) {
        let mut spec = serde_json::json!({"policyName": name(binding), "validationActions": ["Deny"]});
        if let Some((_, selector, without)) = parameters.iter().find(|(policy, ..)| name(binding) == *policy)
        {
            spec["paramRef"] = serde_json::json!({"selector": selector, "parameterNotFoundAction": without});
        }
        assert_eq!(binding.get("spec"), Some(&spec));
    }
    for policy in of_kind(&chart, &["ValidatingAdmissionPolicy"]) {
        assert_eq!(text(policy, "/spec/failurePolicy"), "Fail");
        let has_parameter = policy.pointer("/spec/paramKind").is_some();
        assert_eq!(has_parameter, parameters.iter().any(|(with, ..)| name(policy) == *with));
        assert!(!list(policy, "/spec/matchConstraints/resourceRules").is_empty());
        for validation in list(policy, "/spec/validations") {
            assert_eq!(text(validation, "/reason"), "Forbidden");
            assert_house_grammar(text(validation, "/message"));
        }
    }
}

/// `[AI008] path: what; what to do (docs/rules.md#ai008)`, or without the rule at both ends.
fn assert_house_grammar(message: &str) {
    let sentence = match message.strip_prefix("[AI") {
        None => message,
        Some(rest) => {
            let (number, rest) = rest.split_once("] ").unwrap();
            let link = format!(" (docs/rules.md#ai{number})");
            rest.strip_suffix(&link).unwrap_or_else(|| panic!("{message}: no{link}"))
        }
    };
    let (path, rest) = sentence.split_once(": ").unwrap_or_else(|| panic!("{message}: no path"));
    assert!(path.starts_with("metadata") || path.starts_with("spec"), "{message}");
    let (what, to_do) = rest.split_once("; ").unwrap_or_else(|| panic!("{message}: not what to do"));
    assert!(!what.is_empty() && !to_do.is_empty());
}

#[test]
fn every_value_has_its_effect() {
    let effects = [
        ("image.repository=registry.example.com/deputy", "registry.example.com/deputy:0.1.0"),
        ("image.tag=1.2.3", "deputy:1.2.3"),
        ("image.pullPolicy=Never", "imagePullPolicy: Never"),
        ("imagePullSecrets[0].name=regcred", "name: regcred"),
        ("trustDomain=example.org", "--trust-domain=example.org"),
        ("freshness.renewalSeconds=1", "--lease-renewal-seconds=1"),
        ("freshness.boundSeconds=20", "--freshness-bound-seconds=20"),
        ("apiServer.requestTimeoutSeconds=30", "--request-timeout-seconds=30"),
        ("cloudRoleAnnotations[0]=example.com/role", "--cloud-role-annotation=example.com/role"),
        ("log.format=text", "--log-format=text"),
        ("log.level=debug", "--log-level=debug"),
        ("controller.logLevel=trace", "--log-level=trace"),
        ("controller.resources.limits.memory=64Mi", "memory: 64Mi"),
        ("controller.priorityClassName=urgent", "priorityClassName: urgent"),
        ("controller.nodeSelector.pool=system", "pool: system"),
        ("controller.tolerations[0].key=control", "key: control"),
        ("controller.affinity.nodeAffinity.x=y", "nodeAffinity:"),
        ("controller.podAnnotations.team=platform", "team: platform"),
        ("webhook.replicas=3", "replicas: 3"),
        ("webhook.port=8443", "--address=0.0.0.0:8443"),
        ("webhook.mutationWaitSeconds=1", "--mutation-wait-seconds=1"),
        ("webhook.logLevel=warn", "--log-level=warn"),
        ("webhook.resources.limits.memory=96Mi", "memory: 96Mi"),
        ("webhook.priorityClassName=urgent", "priorityClassName: urgent"),
        ("webhook.nodeSelector.pool=system", "pool: system"),
        ("webhook.tolerations[0].key=control", "key: control"),
        ("webhook.affinity.nodeAffinity.x=y", "nodeAffinity:"),
        ("webhook.podAnnotations.team=platform", "team: platform"),
        ("admission.allowedAudiences[0]=istio-ca", "--allowed-audience=istio-ca"),
        ("admission.allowedCSIDrivers[0]=csi.spiffe.io", "--allowed-csi-driver=csi.spiffe.io"),
        ("admission.knownKinds.volumes[0]=newVolume", "--known-volume-kind=newVolume"),
        ("admission.knownKinds.projections[0]=newSource", "--known-projection-kind=newSource"),
        ("admission.knownKinds.envSources[0]=newRef", "--known-env-source=newRef"),
        ("admission.knownKinds.envFromSources[0]=newRef", "--known-env-from-source=newRef"),
        (
            "admission.formats[0].id=acme,admission.formats[0].description=d,admission.formats[0].regex=acme_x,\
             admission.formats[0].keywords[0]=acme_",
            "--formats=/etc/deputy/formats.json",
        ),
        ("broker.issuer=https://deputy.example.com", "--issuer=https://deputy.example.com"),
        ("broker.replicas=3", "replicas: 3"),
        ("broker.port=9443", "--address=0.0.0.0:9443"),
        ("broker.signing.algorithm=RS256", "--signing-algorithm=RS256"),
        ("broker.signing.rotationSeconds=86400", "--signing-key-rotation-seconds=86400"),
        ("broker.signing.aheadSeconds=60", "--signing-key-ahead-seconds=60"),
        ("broker.record.persistence.enabled=false", "emptyDir: {}"),
        ("broker.record.persistence.size=1Gi", "storage: 1Gi"),
        ("broker.record.persistence.storageClassName=fast", "storageClassName: fast"),
        ("broker.record.persistence.accessMode=ReadWriteOncePod", "accessModes: [ReadWriteOncePod]"),
        ("broker.logLevel=warn", "--log-level=warn"),
        ("broker.resources.limits.memory=96Mi", "memory: 96Mi"),
        ("broker.priorityClassName=urgent", "priorityClassName: urgent"),
        ("broker.nodeSelector.pool=system", "pool: system"),
        ("broker.tolerations[0].key=control", "key: control"),
        ("broker.affinity.nodeAffinity.x=y", "nodeAffinity:"),
        ("broker.podAnnotations.team=platform", "team: platform"),
        ("networkPolicy.enabled=true", "kind: NetworkPolicy"),
        ("networkPolicy.enabled=true,networkPolicy.apiServerPorts={16443}", "port: 16443"),
        (
            "networkPolicy.enabled=true,networkPolicy.metricsFrom[0].ipBlock.cidr=10.9.0.0/16",
            "cidr: 10.9.0.0/16",
        ),
    ];
    let default = template(&[]).unwrap();
    for of_the_broker in ["deputy-broker-replicas", "--broker", "--issuer", "configmaps", "agent-config-maps"]
    {
        assert!(!default.contains(of_the_broker), "{of_the_broker} is there without the broker");
    }
    // Whoever names the issuer names the same one.
    let with = template(&["--set", "broker.enabled=true"]).unwrap();
    assert_eq!(with.matches("- --issuer=https://deputy-broker.deputy-system.svc\n").count(), 3);
    for (set, effect) in effects {
        // Of what is off by default, every value is tried where it is on.
        let with = if set.starts_with("broker.") { "broker.enabled=true" } else { "broker.enabled=false" };
        let default = template(&["--set", with]).unwrap();
        assert!(!default.contains(effect), "{effect} is there without {set}");
        let rendered = template(&["--set", with, "--set", set]).unwrap();
        assert!(rendered.contains(effect), "--set {set} does not bring {effect}");
        documents(&rendered);
    }
    let digest = format!("sha256:{}", "a".repeat(64));
    let pinned = template(&["--set", &format!("image.digest={digest}")]).unwrap();
    assert!(pinned.contains(&format!("deputy:0.1.0@{digest}")));
    let without_class = template(&["--set", "webhook.priorityClassName="]).unwrap();
    assert!(default.contains("kind: ResourceQuota") && !without_class.contains("kind: ResourceQuota"));
}

#[test]
fn values_that_mean_nothing_are_refused() {
    for set in [
        "replicas=3",
        "webhook.replica=3",
        "admission.allowedAudience[0]=x",
        "webhook.replicas=two",
        "webhook.mutationWaitSeconds=5",
        "webhook.port=80",
        "webhook.port=8080",
        "broker.port=80",
        "broker.issuer=http://deputy.example.com",
        "broker.issuer=https://deputy.example.com/",
        "broker.issuer=https://user@deputy.example.com",
        "broker.signing.algorithm=HS256",
        "image.pullPolicy=Sometimes",
        "image.digest=latest",
        "freshness.boundSeconds=0",
        "log.format=xml",
        "log.level=",
        "trustDomain=Example.org",
        "trustDomain=",
        "admission.knownKinds.volumes[0]=--flag",
        "networkPolicy.apiServerPorts={}",
        "admission.formats[0].id=acme",
        "admission.formats[0].id=Acme,admission.formats[0].description=d,admission.formats[0].regex=x,\
         admission.formats[0].keywords[0]=ac",
    ] {
        assert!(template(&["--set", set]).is_err(), "--set {set} was taken");
    }
}

#[test]
fn own_formats_reach_the_webhook_as_it_reads_them() {
    let directory = tempfile::tempdir().unwrap();
    let values = directory.path().join("values.yaml");
    let format = r#"{id: acme-token, description: "d: {{x}}", regex: '(?:acme|ACME)_[A-Za-z0-9\x22]{12}', keywords: [acme_, ACME_]}"#;
    fs::write(&values, format!("admission:\n  formats:\n  - {format}\n")).unwrap();
    let objects = documents(&template(&["--values", values.to_str().unwrap()]).unwrap());
    let map = of_kind(&objects, &["ConfigMap"]).find(|map| name(map) == "deputy-formats").unwrap();
    let formats = deputy::policy::Formats::builtin_and(text(map, "/data/formats.json")).unwrap();
    assert_eq!(formats.find("ACME_a1b2c3d4e5f6"), Some("acme-token"));
    let webhook = of_kind(&objects, &["Deployment"]).find(|object| name(object) == "deputy-webhook").unwrap();
    let spec = "/spec/template/spec";
    assert_eq!(text(webhook, &format!("{spec}/volumes/0/configMap/name")), "deputy-formats");
    assert_eq!(text(webhook, &format!("{spec}/containers/0/volumeMounts/0/mountPath")), "/etc/deputy");
    assert_eq!(text(webhook, "/spec/template/metadata/annotations/checksum~1formats").len(), 64);
}

/// The names in policies and webhook configurations follow the release: a fence around an account of another
/// name, or an exception for another namespace, would be none.
#[test]
fn another_release_in_another_namespace_is_whole() {
    let args = ["template", "guard", "charts/deputy", "--namespace", "security"];
    let rendered = String::from_utf8(helm(&args).stdout).unwrap();
    assert!(!rendered.contains("deputy-system"), "a namespace is written out in the templates");
    assert!(rendered.contains("'system:serviceaccount:security:guard-deputy-controller'"));
    assert!(rendered.contains("--fullname=guard-deputy"));
    let objects = documents(&rendered);
    let crds = "CustomResourceDefinition";
    for object in objects.iter().filter(|object| kind(object) != crds) {
        assert!(name(object).starts_with("guard-deputy"), "{}", identify(object));
        assert!(["", "security"].contains(&text(object, "/metadata/namespace")), "{}", identify(object));
    }
    for webhook in objects.iter().flat_map(|object| list(object, "/webhooks")) {
        assert_eq!(text(webhook, "/clientConfig/service/namespace"), "security");
        assert_eq!(text(webhook, "/clientConfig/service/name"), "guard-deputy-webhook");
    }
}

#[test]
fn crds_come_with_the_chart_and_stay_when_it_goes() {
    let chart = chart();
    let crds: Vec<_> = of_kind(&chart, &["CustomResourceDefinition"]).collect();
    assert_eq!(
        crds.iter().map(|crd| name(crd)).collect::<Vec<_>>(),
        [
            "agentexceptions.deputy.dev",
            "agentidentities.deputy.dev",
            "agentsuspensions.deputy.dev",
            "credentialclaims.deputy.dev",
            "delegationpolicies.deputy.dev",
            "protectedresources.deputy.dev",
            "trustedissuers.deputy.dev"
        ]
    );
    for crd in crds {
        assert_eq!(crd.pointer("/metadata/annotations/helm.sh~1resource-policy"), Some(&"keep".into()));
    }
    assert!(!template(&["--set", "crds.install=false"]).unwrap().contains("CustomResourceDefinition"));
}

#[test]
fn the_chart_lints() {
    let output = helm(&["lint", "charts/deputy", "--strict", "--quiet"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

#[test]
fn rendered_manifests_are_current() {
    let output =
        Command::new(root().join("charts/render")).arg("-").env("HELM", helm_binary()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let checked_in = fs::read_to_string(root().join("manifests/install.yaml")).unwrap();
    assert!(
        String::from_utf8(output.stdout).unwrap().trim_end() == checked_in.trim_end(),
        "manifests/install.yaml is not what the chart renders: run `make generate`"
    );
}

#[test]
fn samples_are_of_one_namespace_and_one_agent() {
    let folder = root().join("manifests/samples");
    let mut seen = vec![];
    for entry in fs::read_dir(folder).unwrap() {
        for object in documents(&fs::read_to_string(entry.unwrap().path()).unwrap()) {
            let labels = ["/metadata/labels", "/spec/template/metadata/labels"];
            let label = labels.map(|at| text(&object, &format!("{at}/deputy.dev~1agent"))).concat();
            seen.push((identify(&object), label));
        }
    }
    seen.sort();
    let expected = [
        ("AgentIdentity research/researcher", ""),
        ("ClusterRole papers-reader", ""),
        ("ClusterRoleBinding papers-readers", ""),
        ("DelegationPolicy research/researchers-read", ""),
        ("Deployment research/researcher", "researcher"),
        ("Namespace research", ""),
        ("Pod research/researcher-once", "researcher"),
        ("ProtectedResource papers", ""),
        ("TrustedIssuer corp", ""),
    ];
    assert_eq!(seen, expected.map(|(object, label)| (object.to_owned(), label.to_owned())));
}
