//! What would be given, what was, and who may read of it: `kubectl deputy can-i` and `kubectl deputy log`.

use super::{
    exchange::{GRANT, JWT, Provider, Replica, Scene, users_may_lend},
    in_node,
};
use crate::{
    plugin::Plugin,
    support::{SYSTEM, User, eventually, kubectl, replicas},
};
use serde_json::{Value, json};
use std::env;

/// Somebody who may read the record.
struct Auditor {
    user: User,
    binding: String,
}

impl Auditor {
    fn new(scene: &Scene) -> Self {
        let (user, binding) = (scene.ns.editor("kim"), scene.ns.0.clone());
        let account = format!("--serviceaccount={binding}:kim");
        kubectl(&["-n", SYSTEM, "create", "rolebinding", &binding, "--role=deputy-auditor", &account])
            .accepted();
        Self { user, binding }
    }
}

impl Drop for Auditor {
    fn drop(&mut self) {
        kubectl(&["-n", SYSTEM, "delete", "rolebinding", &self.binding, "--ignore-not-found"]);
    }
}

fn exchange(broker: &Replica, scene: &Scene, user: &str, scope: &str) -> Value {
    let form = [
        ("grant_type", GRANT),
        ("subject_token", user),
        ("subject_token_type", "urn:ietf:params:oauth:token-type:access_token"),
        ("actor_token", &scene.token),
        ("actor_token_type", JWT),
        ("resource", &scene.resource),
        ("scope", scope),
    ];
    broker.exchange(&form).body
}

/// Entries of the agent of `ns`, as JSON.
fn entries(plugin: &Plugin, user: &User, arguments: &[&str]) -> Vec<Value> {
    let said = plugin.by(&user.0, &[&["log", "search", "-o", "json"], arguments].concat()).accepted();
    serde_json::from_str::<Value>(&said).unwrap()["entries"].as_array().unwrap().clone()
}

/// The answer beforehand is the answer of the exchange, for each who may and may not.
#[test]
fn what_can_i_says_is_what_an_exchange_gives() {
    let (plugin, scene, broker) = (Plugin::new(), Scene::new(), Replica::first());
    let ns = scene.ns.0.as_str();
    let provider = users_may_lend(ns);
    let admin = env::var("KUBECONFIG").unwrap();
    let asked = |user: &str, scope: &str| {
        let user = format!("{ns}:{user}");
        let question = ["can-i", "a", "-n", ns, "--for", &user, "--resource", ns, "--scope", scope];
        plugin.status(&admin, &question)
    };
    let alice = provider.token("alice", json!({}));
    eventually("alice may lend it", || {
        (exchange(&broker, &scene, &alice, "read")["scope"] == "read").then_some(())
    });
    let (said, ended) = asked("alice", "read");
    assert_eq!(ended, "0", "{}", said.text);
    assert!(
        said.text.contains(&format!("DelegationPolicy {ns}/users")) && said.text.contains("300 s"),
        "{}",
        said.text
    );
    for (user, scope, reason, why) in [
        ("alice", "read,write,search", Value::Null, "is not granted search"),
        ("alice", "write", json!("user_half"), "may not write"),
        ("carol", "read", json!("user_half"), "may not read"),
        ("bob", "read", json!("no_delegation"), "no DelegationPolicy"),
    ] {
        let (said, ended) = asked(user, scope);
        assert_eq!(ended, "1", "{user} {scope}: {}", said.text);
        assert!(said.text.contains(why), "{user} {scope}: {}", said.text);
        let given = exchange(&broker, &scene, &provider.token(user, json!({})), &scope.replace(',', " "));
        assert_eq!(given["reason"], reason, "{user} {scope}: {given}");
        if let Some(reason) = reason.as_str() {
            assert!(said.text.contains(reason), "{user} {scope}: {}", said.text);
        }
    }
    let own = ["can-i", "a", "-n", ns, "--resource", &scene.resource, "--scope", "read"];
    let (said, ended) = plugin.status(&admin, &own);
    assert_eq!(ended, "1", "the owner's consent is to agents for users now: {}", said.text);
    // Who may not ask what others may do hears that, and no answer.
    let kim = scene.ns.editor("kim");
    for binding in ["deputy-viewer", "view"] {
        let account = format!("--serviceaccount={ns}:kim");
        let name = format!("{ns}-{binding}");
        kubectl(&["create", "clusterrolebinding", &name, "--clusterrole", binding, &account]).accepted();
    }
    let user = format!("{ns}:alice");
    let question = ["can-i", "a", "-n", ns, "--for", &user, "--resource", ns, "--scope", "read"];
    let said = eventually("kim may see the objects", || {
        let (said, ended) = plugin.status(&kim.0, &question);
        (ended == "2" && said.text.contains("system:auth-delegator")).then_some(said)
    });
    assert!(said.text.contains("unknown"), "{}", said.text);
    for binding in ["deputy-viewer", "view"] {
        kubectl(&["delete", "clusterrolebinding", &format!("{ns}-{binding}")]).accepted();
    }
}

#[test]
fn what_was_decided_is_on_record_for_those_who_may_read_it() {
    let (plugin, scene, broker) = (Plugin::new(), Scene::new(), Replica::first());
    let ns = scene.ns.0.as_str();
    let provider: Provider = users_may_lend(ns);
    let auditor = Auditor::new(&scene);
    let alice = provider.token("alice", json!({}));
    let given = eventually("alice may lend it", || {
        Some(exchange(&broker, &scene, &alice, "read")).filter(|given| given["scope"] == "read")
    });
    assert_eq!(exchange(&broker, &scene, &provider.token("carol", json!({})), "read")["reason"], "user_half");
    let agent = format!("{ns}/a");
    let of_agent = ["--agent", agent.as_str()];
    let found = eventually("both are on record", || {
        let found = entries(&plugin, &auditor.user, &of_agent);
        let denied = found.iter().any(|entry| entry["entry"]["reason"] == "user_half");
        denied.then_some(found)
    });
    assert!(!json!(found).to_string().contains(&format!("{ns}:alice")), "nobody is named");

    // By name, for whoever has the key; each is himself alone.
    for (who, decision) in [("alice", "permit"), ("carol", "deny")] {
        let user = format!("{ns}:{who}");
        let by_name = ["--user", user.as_str(), "--issuer", &provider.url, "--decision", decision];
        let found = entries(&plugin, &auditor.user, &by_name);
        assert_eq!(found.len(), 1, "{who}: {found:?}");
        assert_eq!(found[0]["entry"]["agent"]["ns"], ns);
    }
    let place = given["audit"].as_str().unwrap();
    let shown = plugin.by(&auditor.user.0, &["log", "show", place]).accepted();
    let shown: Value = serde_json::from_str(&shown).unwrap();
    assert_eq!(shown["entries"][0]["entry"]["decision"], "permit");
    assert_eq!(shown["entries"][0]["entry"]["resource"], scene.resource);

    let eve = scene.ns.editor("eve");
    let (said, ended) = plugin.status(&eve.0, &["log", "search"]);
    assert_eq!(ended, "2", "{}", said.text);
    said.refused("Role deputy-auditor of Deputy's namespace");
    for pod in replicas("broker") {
        let url = format!("http://{}:9444/log", pod["status"]["podIP"].as_str().unwrap());
        let said = in_node(&["curl", "-s", "--max-time", "5", &url], "");
        assert!(!said.ok, "the record is shown on the pod's own address: {}", said.text);
    }
}

/// That a replica was gone, and that it is back, is part of what it has on record.
#[test]
fn a_restart_is_on_record_and_a_replica_that_is_gone_is_named() {
    let (plugin, scene) = (Plugin::new(), Scene::new());
    let auditor = Auditor::new(&scene);
    let opened = || {
        let found = entries(&plugin, &auditor.user, &[]);
        let of_first = found.into_iter().filter(|entry| entry["replica"] == "deputy-broker-0");
        of_first.filter(|entry| entry["entry"]["log"].is_string()).count()
    };
    let before = eventually("every replica can be read", || {
        plugin.by(&auditor.user.0, &["log", "search"]).ok.then(opened)
    });
    kubectl(&["-n", SYSTEM, "delete", "pod", "deputy-broker-0", "--wait=false"]).accepted();
    let (said, ended) = eventually("it is gone", || {
        let (said, ended) = plugin.status(&auditor.user.0, &["log", "search"]);
        (ended != "0").then_some((said, ended))
    });
    assert_eq!(ended, "2", "{}", said.text);
    assert!(said.text.contains("unknown: the record of deputy-broker-0: "), "{}", said.text);
    eventually("it is back, and says so", || {
        (plugin.by(&auditor.user.0, &["log", "search"]).ok && opened() == before + 1).then_some(())
    });
}
