//! The decision endpoint, and the keys behind every token, on every replica of the broker as it is shipped.

use super::exchange::{Answer, GRANT, ISSUER, JWT, Provider, Replica, Scene, users_may_lend};
use crate::support::{SYSTEM, apply, eventually, figure, kubectl, replicas};
use aws_lc_rs::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair},
};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use deputy::token::{Algorithm, KeySet, SIGNING_KEYS_ENTRY, SigningKey};
use jsonwebtoken::{DecodingKey, Validation, decode, decode_header, jwk::JwkSet};
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

fn every_replica() -> Vec<Replica> {
    let names =
        replicas("broker").into_iter().map(|pod| pod["metadata"]["name"].as_str().unwrap().to_owned());
    let all: Vec<_> = names.map(|name| Replica::called(&name)).collect();
    assert!(all.len() > 1);
    all
}

/// Alice's agent, its token for her, and the account by which the resource asks.
struct World {
    scene: Scene,
    provider: Provider,
    caller: String,
}

impl World {
    fn new() -> Self {
        let scene = Scene::new();
        let ns = scene.ns.0.clone();
        let provider = users_may_lend(&ns);
        scene.ns.kubectl(&["create", "serviceaccount", "api"]).accepted();
        let caller = scene.ns.kubectl(&["create", "token", "api", "--audience", ISSUER]).accepted();
        let listed = json!({"spec": {"tools": [{"name": "get", "scopes": ["read"]}, {"name": "put", "scopes": ["write"]}],
            "callers": [{"serviceAccount": {"namespace": ns, "name": "api"}, "may": ["Decide"]}]}});
        kubectl(&["patch", "protectedresource", &ns, "--type=merge", "-p", &listed.to_string()]).accepted();
        let tools = json!([{"op": "add", "path": "/spec/resources/0/tools", "value": ["get", "put"]}]);
        let patch = ["patch", "delegationpolicy", "users", "--type=json", "-p", &tools.to_string()];
        scene.ns.kubectl(&patch).accepted();
        Self { scene, provider, caller: caller.trim().to_owned() }
    }

    fn exchange(&self, broker: &Replica) -> Answer {
        broker.exchange(&[
            ("grant_type", GRANT),
            ("subject_token", &self.provider.token("alice", json!({}))),
            ("subject_token_type", "urn:ietf:params:oauth:token-type:access_token"),
            ("actor_token", &self.scene.token),
            ("actor_token_type", JWT),
            ("resource", &self.scene.resource),
            ("scope", "read"),
        ])
    }

    fn token(&self, broker: &Replica) -> String {
        let given = eventually("alice may lend it", || {
            Some(self.exchange(broker)).filter(|answer| answer.status == 200)
        });
        given.body["access_token"].as_str().unwrap().to_owned()
    }

    fn evaluate(&self, broker: &Replica, token: &str, tool: &str) -> Value {
        let question = json!({"subject": {"type": "user", "id": format!("{}:alice", self.scene.ns.0)},
            "action": {"name": "tools/call"}, "resource": {"type": "tool", "id": tool}, "context": {"access_token": token}});
        let bearer = format!("Authorization: Bearer {}", self.caller);
        let arguments = [
            "-H",
            &bearer,
            "-H",
            "Content-Type: application/json",
            "-H",
            "X-Request-ID: r-1",
            "--data-binary",
            "@-",
        ];
        let answer = broker.send("/access/v1/evaluation", &arguments, &question.to_string());
        assert_eq!(answer.status, 200, "{}", answer.body);
        assert!(answer.headers.contains("x-request-id: r-1"), "{}", answer.headers);
        answer.body
    }
}

/// Whichever replica issued it: what it was given for is looked at again, the user's right included.
#[test]
fn every_replica_decides_each_action_again() {
    let (world, all) = (World::new(), every_replica());
    let token = world.token(&all[0]);
    let ns = &world.scene.ns;
    let becomes = |what: &str, reason: Option<&str>| {
        let since = Instant::now();
        for broker in &all {
            eventually(what, || {
                let said = world.evaluate(broker, &token, "get");
                let is_so =
                    said["decision"] == reason.is_none() && said["context"]["reason"].as_str() == reason;
                is_so.then_some(())
            });
        }
        figure(&format!(
            "evaluation: {what}, by every replica {:.2} s after it",
            since.elapsed().as_secs_f64()
        ));
        since.elapsed()
    };
    becomes("permitted", None);
    for broker in &all {
        let said = world.evaluate(broker, &token, "put");
        assert_eq!(
            (&said["decision"], &said["context"]["reason"]),
            (&json!(false), &json!("insufficient_scope"))
        );
        assert_eq!(world.evaluate(broker, &token, "drop")["context"]["reason"], "tool_unlisted");
    }
    let role = format!("{}-alice", ns.0);
    kubectl(&["delete", "clusterrolebinding", &role]).accepted();
    let took = becomes("the user's right withdrawn", Some("user_half"));
    assert!(took < Duration::from_secs(5 + 3), "{took:?}");
    let user = format!("{}:alice", ns.0);
    kubectl(&["create", "clusterrolebinding", &role, "--clusterrole", &role, "--user", &user]).accepted();
    becomes("the right given back", None);
    let suspension = json!({"apiVersion": "deputy.dev/v1alpha1", "kind": "AgentSuspension",
        "metadata": {"name": "s", "namespace": ns.0}, "spec": {"agentName": "a", "reason": "r", "pods": "Retain"}});
    apply(&suspension.to_string()).accepted();
    becomes("the agent suspended", Some("agent_suspended"));
}

/// Puts one more key into the Secret of the signing keys, as the controller does, which will sign in some seconds.
fn next_key_signs_in(seconds: i64) -> String {
    let of = ["-n", SYSTEM, "get", "secret", "deputy-broker-signing", "-o", r"jsonpath={.data.keys\.json}"];
    let set = BASE64_STANDARD.decode(kubectl(&of).accepted().trim()).unwrap();
    let set = KeySet::from_json(&set).unwrap();
    let key = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new()).unwrap();
    let (now, hour) = (Timestamp::now(), SignedDuration::from_hours(1));
    let key =
        SigningKey::new(Algorithm::Es256, key.as_ref(), now - hour + SignedDuration::from_secs(seconds))
            .unwrap();
    let kid = key.kid.clone();
    // The installation may be younger than a key has to be: those before are dated back.
    let older = set.keys().iter().cloned().map(|mut older| {
        older.created -= hour * 2;
        older
    });
    let set = older.fold(KeySet::default(), KeySet::with).with(key);
    let keys = BTreeMap::from([(SIGNING_KEYS_ENTRY, set.to_json().unwrap())]);
    let patch = json!({"stringData": keys}).to_string();
    kubectl(&["-n", SYSTEM, "patch", "secret", "deputy-broker-signing", "--type=merge", "-p", &patch])
        .accepted();
    kid
}

/// A verifier that fetches the keys of any replica every two seconds meets no token that it cannot verify, while replicas
/// change to a key that was published for some seconds.
#[test]
fn signing_keys_change_under_load_and_no_verification_fails() {
    let (world, all) = (World::new(), every_replica());
    world.token(&all[0]);
    let (mut fetched, mut keys) = (None::<Instant>, JwkSet { keys: vec![] });
    let (mut verified, mut by_next, mut first, mut next) = (0, 0, None, None::<String>);
    let began = Instant::now();
    for turn in 0.. {
        if fetched.is_none_or(|at| at.elapsed() > Duration::from_secs(2)) {
            let published = all[turn % all.len()].ask("/jwks", &[]);
            assert!(
                published.headers.contains("cache-control: public, max-age=1800"),
                "{}",
                published.headers
            );
            keys = serde_json::from_value(published.body).unwrap();
            fetched = Some(Instant::now());
        }
        let answer = world.exchange(&all[(turn + 1) % all.len()]);
        let token = answer.body["access_token"].as_str().unwrap_or_else(|| panic!("{}", answer.body));
        let header = decode_header(token).unwrap();
        let kid = header.kid.unwrap();
        let key = keys.find(&kid).unwrap_or_else(|| panic!("{kid} was not published 2 s before it signed"));
        let mut validation = Validation::new(header.alg);
        validation.set_audience(&[&world.scene.resource]);
        decode::<Value>(token, &DecodingKey::from_jwk(key).unwrap(), &validation).unwrap();
        verified += 1;
        let first = first.get_or_insert_with(|| kid.clone());
        by_next += usize::from(next.as_ref() == Some(&kid));
        if verified == 10 {
            next = Some(next_key_signs_in(6));
        }
        if by_next == 20 {
            assert_ne!(*first, kid);
            break;
        }
        assert!(began.elapsed() < Duration::from_secs(60), "{verified} verified, none by the next key");
    }
    figure(&format!("exchange: {verified} tokens verified while the signing key changed, none failed"));
}
