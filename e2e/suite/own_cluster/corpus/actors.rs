//! Agents' tokens that are none, or not any more: rows 18 to 23. What the API server never signs is signed with its key.

use super::{Stage, Watched, invalid, questions, with};
use crate::own_cluster::{
    exchange::{ISSUER, Replica, Scene},
    idp::Key,
};
use crate::support::{apply, eventually, figure};
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// A token of an account, which says something else.
fn forged(token: &str, edit: impl FnOnce(&mut Value)) -> String {
    let parts = token.split('.').map(|part| BASE64_URL_SAFE_NO_PAD.decode(part).unwrap());
    let [header, mut claims] = parts
        .take(2)
        .map(|part| serde_json::from_slice::<Value>(&part).unwrap())
        .collect::<Vec<_>>()
        .try_into()
        .unwrap();
    edit(&mut claims);
    Key::of_cluster("").sign(&header, &claims.to_string())
}

#[test]
fn corpus_18_to_23_agents_tokens() {
    let stage = Stage::new();
    let (ns, alice) = (&stage.scene.ns, stage.a.token("alice", json!({})));
    let good = &stage.scene.token;
    let form = stage.form(&alice, "read");
    let mut watched = stage.watch();
    let asked = questions("tokenreviews").len();
    let mut refused = |case: &str, actor: &str, reason| {
        watched.stranger(case, &with(&form, "actor_token", actor), 400, invalid(reason));
    };
    let act = json!({"sub": "x"});
    refused("corpus_18_actor_with_act", &forged(good, |claims| claims["act"] = act), "actor_nested");
    let cluster = "https://kubernetes.default.svc.cluster.local";
    for aud in [json!([cluster]), json!([ISSUER, cluster]), json!([]), json!(format!("{ISSUER}/"))] {
        let token = forged(good, |claims| claims["aud"] = aud.clone());
        refused(&format!("corpus_20_wrong_actor_aud {aud}"), &token, "actor_audience");
    }
    refused("corpus_20_ended", &forged(good, |claims| claims["exp"] = json!(1)), "actor_expired");
    refused("corpus_23_a_users_token", &alice, "actor_issuer");
    assert_eq!(
        questions("tokenreviews").len(),
        asked,
        "what is no agent's by its own word is shown to nobody"
    );

    let unbound = forged(good, |claims| _ = claims["kubernetes.io"].as_object_mut().unwrap().remove("pod"));
    refused("corpus_19_unbound_actor", &unbound, "actor_unbound");
    let mut signed = good.rsplit_once('.').unwrap().0.to_owned();
    signed.push_str(&format!(".{}", BASE64_URL_SAFE_NO_PAD.encode([7; 64])));
    refused("corpus_23_another_signature", &signed, "actor_token_invalid");
    let nobody = forged(good, |claims| claims["kubernetes.io"]["serviceaccount"]["uid"] = json!("x"));
    refused("corpus_23_an_account_that_never_was", &nobody, "actor_token_invalid");
    let default = ns.kubectl(&["create", "token", "default", "--audience", ISSUER]).accepted();
    refused("corpus_23_no_agent", default.trim(), "actor_not_an_agent");
    watched.end("agents' tokens");

    corpus_22_a_pod_that_has_ended(&stage);
    let since = Instant::now();
    ns.kubectl(&["delete", "pod", "p", "--force", "--grace-period=0", "--wait=false"]).accepted();
    dies(since, "corpus_22_dead_pod", || stage.broker.exchange(&form).body["reason"] == "actor_pod_gone");
}

/// The first refusal comes as soon as the broker hears of it.
fn dies(since: Instant, case: &str, mut refused: impl FnMut() -> bool) {
    eventually(case, || refused().then_some(()));
    let took = since.elapsed();
    figure(&format!("{case}: refused {:.2} s after it, the command included", took.as_secs_f64()));
    assert!(took < Duration::from_secs(5), "{case}: {took:?}");
}

/// A pod that has done its work, whose token is good for an hour.
fn corpus_22_a_pod_that_has_ended(stage: &Stage) {
    let ns = &stage.scene.ns;
    let prints = "command: [cat, /var/run/secrets/deputy.dev/token]";
    let pod = ns.pod("done", "a", ", restartPolicy: Never").replace("command: [sleep, \"3600\"]", prints);
    apply(&pod).accepted();
    ns.kubectl(&["wait", "--for=jsonpath={.status.phase}=Succeeded", "pod/done", "--timeout=60s"]).accepted();
    let token = ns.kubectl(&["logs", "done"]).accepted();
    let own = with(&stage.scene.form("read"), "subject_token", token.trim());
    stage.broker.exchange(&own).is(400, "invalid_request", "actor_pod_gone");
}

/// The token of an account that was deleted, and made again by the controller. The API server vouches for it a while longer.
#[test]
fn corpus_21_stale_account() {
    let (scene, broker) = (Scene::new(), Replica::first());
    let form = scene.form("read");
    assert_eq!(broker.exchange(&form).status, 200);
    let mut watched = Watched::new(&scene, &broker);
    let since = Instant::now();
    let controller = "--as=system:serviceaccount:deputy-system:deputy-controller";
    scene.ns.kubectl(&["delete", "serviceaccount", "agent.a", controller]).accepted();
    dies(since, "corpus_21_stale_account", || {
        broker.exchange(&form).body["reason"] == "actor_account_replaced"
    });
    watched.stranger("corpus_21_stale_account", &form, 400, invalid("actor_account_replaced"));
}

/// An account that an agent left behind when its identity was deleted.
#[test]
fn corpus_23_an_agent_that_is_not_declared() {
    let (scene, broker) = (Scene::new(), Replica::first());
    scene.ns.kubectl(&["delete", "agentidentity", "a", "--cascade=orphan"]).accepted();
    eventually("corpus_23_agent_unknown", || {
        let answer = broker.exchange(&scene.form("read"));
        (answer.status == 400 && answer.body["reason"] == "agent_unknown").then(|| {
            answer.is(400, "unauthorized_client", "agent_unknown");
        })
    });
}
