//! What leads an agent to the broker: the token, the CA and the environment that its pod gets, and that nothing else passes
//! for them.

use deputy::{
    index::{Declarable, Index, Observed, ReservedAudiences, Snapshot, Standing},
    policy::{Mutation, Settings, Subject, Template, admit, admit_template, mutate},
};
use k8s_openapi::jiff::Timestamp;
use proptest::prelude::*;
use serde_json::{Value, json};
use std::sync::{Arc, LazyLock};

const ISSUER: &str = "https://deputy-broker.deputy-system.svc";
const NOW: Timestamp = Timestamp::UNIX_EPOCH;

static WITHOUT: LazyLock<Settings> =
    LazyLock::new(|| Settings::builtin(["https://api".to_owned()].into_iter().collect()).unwrap());

static SETTINGS: LazyLock<Settings> =
    LazyLock::new(|| Settings { issuer: Some(ISSUER.to_owned()), ..WITHOUT.clone() });

/// The agents `plain`, which declares nothing, and `full`, which declares all it can; and `greedy`, which declares the
/// broker's own audience.
static WORLD: LazyLock<Arc<Snapshot>> = LazyLock::new(|| {
    let declarable = Declarable { issuer: Some(ISSUER.into()), ..ReservedAudiences::default().into() };
    let mut index = Index::new(declarable);
    let token = |audience: &str| json!([{"name": "papers", "audience": audience, "expirationSeconds": 600}]);
    for (name, spec) in [
        ("plain", json!({"owner": "o@example.com"})),
        (
            "full",
            json!({"owner": "o@example.com", "kubernetesAPIAccess": "Token", "tokens": token("https://papers.example.com")}),
        ),
        ("greedy", json!({"owner": "o@example.com", "tokens": token(ISSUER)})),
    ] {
        let object = json!({"apiVersion": "deputy.dev/v1alpha1", "kind": "AgentIdentity", "spec": spec,
            "metadata": {"name": name, "namespace": "ns", "uid": format!("uid-{name}"), "generation": 1}});
        index.apply_identity(Observed::Object(serde_json::from_value(object).unwrap()));
        let owners = json!([{"apiVersion": "deputy.dev/v1alpha1", "kind": "AgentIdentity", "name": name,
                             "uid": format!("uid-{name}"), "controller": true}]);
        let account = json!({"metadata": {"name": format!("agent.{name}"), "namespace": "ns", "uid": "x",
                                          "ownerReferences": owners}});
        index.apply_account(&serde_json::from_value(account).unwrap());
    }
    index.snapshot()
});

fn bare(agent: &str) -> Value {
    json!({"metadata": {"name": "p", "namespace": "ns", "labels": {"deputy.dev/agent": agent}},
           "spec": {"containers": [{"name": "app", "image": "example.com/agent:1"}]}})
}

fn mutated_by(pod: &Value, settings: &Settings) -> Value {
    match mutate(pod, "ns", &WORLD, settings).unwrap() {
        Mutation::Patch { operations, .. } => {
            let mut result = pod.clone();
            json_patch::patch(&mut result, &operations).unwrap();
            result
        }
        other => panic!("{other:?}"),
    }
}

fn mutated(pod: &Value) -> Value {
    mutated_by(pod, &SETTINGS)
}

fn refused(pod: &Value) -> String {
    match mutate(pod, "ns", &WORLD, &SETTINGS).unwrap() {
        Mutation::Refuse(findings) => findings[0].to_string(),
        other => panic!("{other:?}"),
    }
}

/// The rules that refuse a pod, and where.
fn verdict(pod: &Value) -> Vec<(&'static str, String)> {
    let admission = admit(pod, "ns", Subject::Pod, &WORLD, NOW, &SETTINGS).unwrap();
    admission.findings.iter().map(|finding| (finding.rule.id, finding.path.clone())).collect()
}

fn environment() -> Value {
    json!([
        {"name": "DEPUTY_ISSUER", "value": ISSUER},
        {"name": "DEPUTY_TOKEN_FILE", "value": "/var/run/secrets/deputy.dev/token"},
        {"name": "DEPUTY_CA_FILE", "value": "/var/run/secrets/deputy.dev/ca.crt"},
    ])
}

/// The sources of an agent's volume, without the tokens it declares.
fn of_the_broker(agent: &str) -> [Value; 2] {
    [
        json!({"serviceAccountToken": {"audience": ISSUER, "expirationSeconds": 3600, "path": "token"}}),
        json!({"configMap": {"name": format!("agent.{agent}"), "items": [{"key": "ca.crt", "path": "ca.crt"}]}}),
    ]
}

#[test]
fn every_agent_gets_what_leads_to_the_broker_in_one_volume() {
    let papers = json!({"serviceAccountToken": {"audience": "https://papers.example.com", "expirationSeconds": 600,
                                                "path": "tokens/papers"}});
    for (agent, declared) in [("plain", vec![]), ("full", vec![papers])] {
        let pod = mutated(&bare(agent));
        let sources = [&of_the_broker(agent)[..], &declared].concat();
        let volume = json!({"name": "deputy-tokens", "projected": {"defaultMode": 420, "sources": sources}});
        assert_eq!(pod["spec"]["volumes"][0], volume);
        let app = &pod["spec"]["containers"][0];
        let mount =
            json!({"name": "deputy-tokens", "mountPath": "/var/run/secrets/deputy.dev", "readOnly": true});
        assert_eq!((&app["volumeMounts"][0], &app["env"]), (&mount, &environment()));
        assert_eq!(verdict(&pod), []);
    }
}

#[test]
fn without_a_broker_there_is_nothing_of_it() {
    let pod = mutated_by(&bare("plain"), &WITHOUT);
    assert!(
        pod["spec"].get("volumes").is_none() && pod["spec"]["containers"][0].get("env").is_none(),
        "{pod}"
    );
    let mut mine = bare("plain");
    mine["spec"]["containers"][0]["env"] = json!([{"name": "DEPUTY_ISSUER", "value": "mine"}]);
    let pod = mutated_by(&mine, &WITHOUT);
    assert_eq!(pod["spec"]["containers"][0]["env"], mine["spec"]["containers"][0]["env"]);
    let admission = admit(&pod, "ns", Subject::Pod, &WORLD, NOW, &WITHOUT).unwrap();
    assert!(admission.findings.is_empty(), "{:?}", admission.findings);
}

#[test]
fn the_environment_says_the_truth_whatever_its_author_wrote() {
    let mut pod = bare("plain");
    let theirs = json!([
        {"name": "A", "value": "first"},
        {"name": "DEPUTY_ISSUER", "value": "https://evil.example.com"},
        {"name": "URL", "value": "$(DEPUTY_ISSUER)/token"},
        {"name": "DEPUTY_CA_FILE", "valueFrom": {"configMapKeyRef": {"name": "c", "key": "k"}}},
        {"name": "DEPUTY_ISSUER", "value": "https://evil.example.com"},
    ]);
    pod["spec"]["containers"][0]["env"] = theirs;
    let pod = mutated(&pod);
    let [issuer, token, ca] = [0, 1, 2].map(|index| environment()[index].clone());
    let expected = json!([
        {"name": "A", "value": "first"}, issuer, {"name": "URL", "value": "$(DEPUTY_ISSUER)/token"}, ca, issuer, token
    ]);
    assert_eq!(pod["spec"]["containers"][0]["env"], expected);
    assert_eq!(verdict(&pod), []);
    assert_eq!(mutated(&pod), pod);
}

#[test]
fn a_pod_of_several_containers_says_which_one_is_the_agent() {
    let mut pod = bare("plain");
    pod["spec"]["containers"] = json!([{"name": "proxy"}, {"name": "app"}]);
    assert!(refused(&pod).starts_with("[AI107] spec.containers: several containers"), "{}", refused(&pod));
    pod["metadata"]["annotations"] = json!({"deputy.dev/container": "app"});
    let pod = mutated(&pod);
    assert_eq!(pod["spec"]["containers"][0], json!({"name": "proxy"}));
    assert_eq!(pod["spec"]["containers"][1]["env"], environment());
    assert_eq!(verdict(&pod), []);

    let workload = |annotations: Value| {
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "spec": {"template": {
            "metadata": {"labels": {"deputy.dev/agent": "plain"}, "annotations": annotations},
            "spec": {"containers": [{"name": "proxy"}, {"name": "app"}]}}}})
    };
    for (annotations, found) in [(json!({}), vec!["AI107"]), (json!({"deputy.dev/container": "app"}), vec![])]
    {
        let workload = workload(annotations);
        let template = Template::of(&workload).unwrap();
        let admission = admit_template(template, "ns", &WORLD, NOW, &SETTINGS).unwrap().unwrap();
        assert_eq!(admission.findings.iter().map(|f| f.rule.id).collect::<Vec<_>>(), found);
    }
}

#[test]
fn the_brokers_audience_is_nobodys_to_declare() {
    let message = refused(&bare("greedy"));
    assert!(message.starts_with("[AI001]"), "{message}");
    assert!(message.contains(
        "spec.tokens[papers].audience \"https://deputy-broker.deputy-system.svc\" is the broker's own"
    ));
    assert!(matches!(WORLD.standing("ns", "greedy"), Standing::Invalid(_)));
}

/// One row: what it shows, an edit of an admitted pod of `full`, and exactly what is found.
type Row = (&'static str, fn(&mut Value), &'static [(&'static str, &'static str)]);

const VOLUME: (&str, &str) = ("AI108", "spec.volumes[0].name");
const AUDIENCE: (&str, &str) = ("AI104", "spec.volumes[0].projected.sources[0].serviceAccountToken.audience");

fn rows() -> Vec<Row> {
    fn sources(pod: &mut Value) -> &mut Vec<Value> {
        pod["spec"]["volumes"][0]["projected"]["sources"].as_array_mut().unwrap()
    }
    fn app(pod: &mut Value) -> &mut Value {
        &mut pod["spec"]["containers"][0]
    }
    fn add_volume(pod: &mut Value, volume: Value) {
        pod["spec"]["volumes"].as_array_mut().unwrap().push(volume);
    }
    vec![
        ("as Deputy made it", |_| {}, &[]),
        ("without the broker's token", |pod| drop(sources(pod).remove(0)), &[VOLUME]),
        ("without the CA", |pod| drop(sources(pod).remove(1)), &[VOLUME, AUDIENCE]),
        ("without a declared token", |pod| drop(sources(pod).remove(2)), &[VOLUME, AUDIENCE]),
        (
            "the CA of another ConfigMap",
            |pod| sources(pod)[1]["configMap"]["name"] = json!("agent.other"),
            &[VOLUME, AUDIENCE],
        ),
        (
            "another key for the CA",
            |pod| sources(pod)[1]["configMap"]["items"][0]["key"] = json!("other"),
            &[VOLUME, AUDIENCE],
        ),
        (
            "a CA that need not be there",
            |pod| sources(pod)[1]["configMap"]["optional"] = json!(true),
            &[VOLUME, AUDIENCE],
        ),
        (
            "another audience in the broker's place",
            |pod| sources(pod)[0]["serviceAccountToken"]["audience"] = json!("https://evil.example.com"),
            &[VOLUME, AUDIENCE],
        ),
        (
            "a broker's token of a day",
            |pod| sources(pod)[0]["serviceAccountToken"]["expirationSeconds"] = json!(86400),
            &[
                VOLUME,
                ("AI103", "spec.volumes[0].projected.sources[0].serviceAccountToken.expirationSeconds"),
                AUDIENCE,
            ],
        ),
        (
            "something besides",
            |pod| sources(pod).push(json!({"configMap": {"name": "c"}})),
            &[VOLUME, AUDIENCE],
        ),
        (
            "no volume at all",
            |pod| drop(pod["spec"]["volumes"].as_array_mut().unwrap().remove(0)),
            &[("AI108", "spec.volumes")],
        ),
        (
            "mounted nowhere",
            |pod| drop(app(pod)["volumeMounts"].as_array_mut().unwrap().remove(0)),
            &[("AI108", "spec.containers")],
        ),
        (
            "mounted elsewhere",
            |pod| app(pod)["volumeMounts"][0]["mountPath"] = json!("/elsewhere"),
            &[("AI108", "spec.containers")],
        ),
        (
            "in an init container alone",
            |pod| {
                let mounts = app(pod)["volumeMounts"].take();
                pod["spec"]["initContainers"] = json!([{"name": "init", "volumeMounts": mounts}]);
            },
            &[("AI108", "spec.containers")],
        ),
        (
            "another issuer",
            |pod| app(pod)["env"][0]["value"] = json!("https://evil.example.com"),
            &[("AI108", "spec.containers[0].env[0]")],
        ),
        (
            "another issuer that comes last, and counts",
            |pod| {
                let evil = json!({"name": "DEPUTY_ISSUER", "value": "https://evil.example.com"});
                app(pod)["env"].as_array_mut().unwrap().push(evil);
            },
            &[("AI108", "spec.containers[0].env[3]")],
        ),
        (
            "a CA from a ConfigMap of somebody's",
            |pod| {
                let from = json!({"configMapKeyRef": {"name": "c", "key": "k"}});
                app(pod)["env"][2] = json!({"name": "DEPUTY_CA_FILE", "valueFrom": from});
            },
            &[("AI108", "spec.containers[0].env[2]")],
        ),
        (
            "no token file",
            |pod| drop(app(pod)["env"].as_array_mut().unwrap().remove(1)),
            &[("AI108", "spec.containers[0].env")],
        ),
        (
            "the broker's token in a volume of one's own",
            |pod| {
                let token = json!({"serviceAccountToken": {"audience": ISSUER, "path": "t"}});
                add_volume(pod, json!({"name": "v", "projected": {"sources": [token]}}));
            },
            &[("AI104", "spec.volumes[2].projected.sources[0].serviceAccountToken.audience")],
        ),
        (
            "a volume over a part of it",
            |pod| {
                add_volume(pod, json!({"name": "v", "emptyDir": {}}));
                let over = json!({"name": "v", "mountPath": "/var/run/secrets/deputy.dev/tokens"});
                app(pod)["volumeMounts"].as_array_mut().unwrap().push(over);
            },
            &[("AI108", "spec.containers[0].volumeMounts[2].mountPath")],
        ),
        (
            "the token in a second container",
            |pod| {
                let mount = app(pod)["volumeMounts"][0].clone();
                let side = json!({"name": "side", "volumeMounts": [mount], "env": environment()});
                pod["spec"]["containers"].as_array_mut().unwrap().push(side);
            },
            &[("AI107", "spec.containers[1].volumeMounts[0]")],
        ),
        (
            "a variable of a sidecar without the token",
            |pod| {
                let side = json!({"name": "side", "env": [{"name": "DEPUTY_ISSUER", "value": "x"}]});
                pod["spec"]["containers"].as_array_mut().unwrap().push(side);
            },
            &[],
        ),
    ]
}

#[test]
fn exactly_what_deputy_made_passes_and_nothing_near() {
    for (what, edit, expected) in rows() {
        let mut pod = mutated(&bare("full"));
        edit(&mut pod);
        let found = verdict(&pod);
        let found: Vec<_> = found.iter().map(|(rule, path)| (*rule, path.as_str())).collect();
        assert_eq!(found, expected, "{what}");
    }
}

/// Something of what an author may write where Deputy writes.
fn any_attempt() -> impl Strategy<Value = (&'static str, Value)> {
    let names = ["DEPUTY_ISSUER", "DEPUTY_TOKEN_FILE", "DEPUTY_CA_FILE", "OTHER"];
    let variable = (proptest::sample::select(names.to_vec()), "[a-z]{0,6}").prop_map(|(name, value)| {
        let variable = if value.len() > 4 {
            json!({"name": name, "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}})
        } else {
            json!({"name": name, "value": value})
        };
        ("env", variable)
    });
    let volumes = vec![
        json!({"name": "deputy-tokens", "emptyDir": {}}),
        json!({"name": "deputy-tokens", "configMap": {"name": "c"}}),
        json!({"name": "deputy-tokens", "projected": {"sources": [of_the_broker("other")[1]]}}),
        json!({"name": "mine", "emptyDir": {}}),
    ];
    let volume = proptest::sample::select(volumes).prop_map(|volume| ("volumes", volume));
    prop_oneof![variable, volume]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn what_was_mutated_is_admitted_and_mutating_twice_is_mutating_once(
        attempts in proptest::collection::vec(any_attempt(), 0..8),
        agent in proptest::sample::select(vec!["plain", "full"]),
        sidecar in any::<bool>(),
    ) {
        let mut pod = bare(agent);
        pod["metadata"]["annotations"] = json!({"deputy.dev/container": "app"});
        if sidecar {
            pod["spec"]["containers"].as_array_mut().unwrap().insert(0, json!({"name": "side", "image": "i"}));
        }
        for (list, item) in attempts {
            let app = usize::from(sidecar);
            let at = if list == "env" { &mut pod["spec"]["containers"][app]["env"] } else { &mut pod["spec"][list] };
            if at.is_null() {
                *at = json!([]);
            }
            let items = at.as_array_mut().unwrap();
            // Kubernetes refuses two volumes of one name, and takes two variables.
            if list == "env" || items.iter().all(|present| present["name"] != item["name"]) {
                items.push(item);
            }
        }
        let once = mutated(&pod);
        prop_assert_eq!(verdict(&once), []);
        prop_assert_eq!(&mutated(&once), &once);
    }
}
