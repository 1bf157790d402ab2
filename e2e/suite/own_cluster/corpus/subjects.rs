//! Users' tokens that are none: rows 1 to 5, 7 to 10, 16, 17, 27 and 28.

use super::{ACCESS_TOKEN, ID_TOKEN, Stage, Watched, invalid, on_behalf, with};
use crate::own_cluster::{
    exchange::{JWT, encoded},
    idp::{Key, unsigned},
};
use crate::support::{apply, eventually};
use aws_lc_rs::hmac;
use base64::{
    Engine as _,
    prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD},
};
use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};

impl Watched<'_> {
    /// A user's token that is refused to a live agent.
    #[track_caller]
    fn subject(&mut self, case: &str, token: &str, reason: &'static str) {
        self.agent(case, &on_behalf(self.scene, token, "read"), invalid(reason));
    }
}

#[test]
fn corpus_01_to_04_what_is_signed_or_marked_otherwise() {
    let stage = Stage::new();
    let (a, mut watched) = (&stage.a, stage.watch());
    let claims = a.claims("alice", json!({})).to_string();
    for alg in ["none", "None", "nOnE", ""] {
        let token = format!("{}.", unsigned(&json!({"alg": alg, "typ": "at+jwt"}), &claims));
        watched.subject("corpus_01_alg_none", &token, "subject_alg");
    }
    // What everybody knows as a secret: the published key as PEM, and as it stands in the set.
    let jwk = a.key.jwk();
    let half = |name: &str| BASE64_URL_SAFE_NO_PAD.decode(jwk[name].as_str().unwrap()).unwrap();
    let prefix = BASE64_STANDARD.decode("MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE").unwrap();
    let public = BASE64_STANDARD.encode([prefix, half("x"), half("y")].concat());
    let pem = format!(
        "-----BEGIN PUBLIC KEY-----\n{}\n{}\n-----END PUBLIC KEY-----\n",
        &public[..64],
        &public[64..]
    );
    for secret in [pem, jwk.to_string()] {
        let signed = unsigned(&json!({"alg": "HS256", "typ": "at+jwt", "kid": a.key.kid}), &claims);
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes()), signed.as_bytes());
        let token = format!("{signed}.{}", BASE64_URL_SAFE_NO_PAD.encode(tag));
        watched.subject("corpus_02_hs256_with_the_public_key", &token, "subject_alg");
    }
    let typ = |typ: &str| a.headed(&json!({"typ": typ}), &claims);
    let (login, access) = (typ("JWT"), typ("at+jwt"));
    let as_id_token = |token| with(&stage.form(token, "read"), "subject_token_type", ID_TOKEN);
    watched.subject("corpus_03_id_token_as_access_token", &login, "subject_typ");
    watched.agent("corpus_03_access_token_as_id_token", &as_id_token(&access), invalid("subject_typ"));
    for marked in ["logout+jwt", "secevent+jwt", "application/logout+jwt", "dpop+jwt", "JOSE"] {
        watched.subject("corpus_04_typ_logout", &typ(marked), "subject_typ");
    }
    let event =
        a.token("alice", json!({"events": {"http://schemas.openid.net/event/backchannel-logout": {}}}));
    watched.subject("corpus_04_an_event_without_typ", &event, "subject_typ");
    watched.end("signed or marked otherwise");
    assert_eq!(stage.exchange(&access, "read").status, 200);
    assert_eq!(
        stage.broker.exchange(&as_id_token(&login)).status,
        200,
        "that was all there was wrong with it"
    );
}

#[test]
fn corpus_05_and_07_keys_and_issuers_that_are_others() {
    let stage = Stage::new();
    let (a, b) = (&stage.a, &stage.b);
    let (attacker, claims) = (Key::new("attacker"), a.claims("alice", json!({})).to_string());
    stage.idp.asked();
    let mut watched = stage.watch();
    let named = |kid: &str| attacker.sign(&json!({"alg": "ES256", "typ": "at+jwt", "kid": kid}), &claims);
    let long = "k".repeat(4096);
    for kid in ["../../x", "a' OR '1'='1", "file:///dev/null", "", "b", &long] {
        watched.subject("corpus_05_kid", &named(kid), "subject_key");
    }
    watched.subject("corpus_05_kid_of_another_key", &named("a"), "subject_signature");
    watched.subject("corpus_05_kid_not_text", &a.headed(&json!({"kid": 7}), &claims), "subject_key");
    for header in [
        json!({"jku": stage.idp.url("/attacker/jwks")}),
        json!({"jwk": attacker.jwk()}),
        json!({"x5u": stage.idp.url("/attacker/chain")}),
    ] {
        let mut whole = json!({"alg": "ES256", "typ": "at+jwt", "kid": "attacker"});
        whole.as_object_mut().unwrap().extend(header.as_object().unwrap().clone());
        watched.subject("corpus_05_key_in_the_header", &attacker.sign(&whole, &claims), "subject_header");
    }
    watched.subject("corpus_07_signed_by_another_issuer", &b.headed(&json!({}), &claims), "subject_key");
    let of_b = b.headed(&json!({"kid": "a"}), &claims);
    watched.subject("corpus_07_signed_by_another_under_this_kid", &of_b, "subject_signature");
    for url in [
        format!("{}/", a.url),
        a.url.replace("/a", "/A"),
        a.url.replace("https", "HTTPS"),
        a.url.replace("/a", "/%61"),
    ] {
        watched.subject(
            "corpus_07_almost_this_issuer",
            &a.token("alice", json!({"iss": url})),
            "subject_issuer",
        );
    }
    for iss in [json!(null), json!([a.url]), json!(7)] {
        watched.subject("corpus_07_no_issuer", &a.token("alice", json!({"iss": iss})), "subject_issuer");
    }
    watched.end("keys and issuers that are others");
    // A key that is not known is worth one look at what this issuer itself publishes, and no more.
    assert_eq!(stage.idp.asked(), ["/a/.well-known/openid-configuration", "/a/jwks"]);
}

#[test]
fn corpus_08_to_10_names_and_audiences() {
    let stage = Stage::new();
    let (a, b, ns) = (&stage.a, &stage.b, stage.ns().to_owned());
    let mut watched = stage.watch();
    let unauthorized = ("actor_unauthorized", "no_delegation");
    let of_b = b.token("alice", json!({}));
    watched.agent("corpus_08_the_same_name_elsewhere", &stage.form(&of_b, "read"), unauthorized);
    let named = b.token(&format!("{ns}-a:alice"), json!({}));
    watched.agent("corpus_08_the_whole_name_elsewhere", &stage.form(&named, "read"), unauthorized);
    for who in [json!(""), json!(null), json!(["alice"]), json!("alice\u{0}"), json!("a".repeat(600))] {
        watched.subject("corpus_09_no_name", &a.token("alice", json!({"sub": who})), "subject_mapping");
    }
    watched.subject(
        "corpus_09_groups_of_another_shape",
        &a.token("alice", json!({"groups": {"a": 1}})),
        "subject_groups",
    );
    let many: Vec<_> = (0..65).map(|n| format!("g{n}")).collect();
    watched.subject(
        "corpus_09_too_many_groups",
        &a.token("alice", json!({"groups": many})),
        "subject_groups",
    );
    let elsewhere = json!({"_claim_names": {"groups": "src1"}});
    watched.subject("corpus_09_groups_elsewhere", &a.token("alice", elsewhere), "subject_groups");
    for aud in [
        json!("https://api.example.com"),
        json!(null),
        json!(["x", "y"]),
        json!([]),
        json!({"deputy": 1}),
        json!("Deputy"),
    ] {
        watched.subject("corpus_10_for_another", &a.token("alice", json!({"aud": aud})), "subject_audience");
    }
    let other =
        a.headed(&json!({"typ": "JWT"}), &a.claims("alice", json!({"aud": "another-client"})).to_string());
    let form = with(&stage.form(&other, "read"), "subject_token_type", ID_TOKEN);
    watched.agent("corpus_10_login_at_another_client", &form, invalid("subject_audience"));
    watched.end("names and audiences");

    // Kubernetes' own names: no issuer can be trusted to give them, and what a token says is only what comes after a prefix.
    for (at, prefix) in [("username", "system:"), ("username", "sys"), ("groups", "system:"), ("groups", "")]
    {
        let mut mappings = json!({"username": {"claim": "sub", "prefix": "u:"}, "groups": {"claim": "groups", "prefix": "g:"}});
        mappings[at]["prefix"] = prefix.into();
        let issuer = json!({"apiVersion": "deputy.dev/v1alpha1", "kind": "TrustedIssuer", "metadata": {"name": format!("{ns}-system")},
            "spec": {"issuer": {"url": stage.idp.url("/system"), "audiences": ["deputy"]},
                "tokens": [{"type": "AccessToken", "headerTypes": ["at+jwt"]}], "claimMappings": mappings}});
        apply(&issuer.to_string()).refused("prefix");
    }
    let masters = json!({"groups": ["system:masters"]});
    let given = stage.exchange(&a.token("alice", masters.clone()), "read");
    let payload = given.body["access_token"].as_str().unwrap().split('.').nth(1).unwrap();
    let claims: Value = serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(payload).unwrap()).unwrap();
    let (name, group) = (format!("{ns}-a:alice"), format!("{ns}-a:system:masters"));
    assert_eq!(
        (&claims["sub"], &claims["groups"]),
        (&json!(name), &json!([group])),
        "corpus_09_system_masters"
    );
    stage.exchange(&a.token("carol", masters), "read").is(400, "invalid_scope", "user_half");
}

/// The token of the agent `b`, whose pod lives.
fn another_agents_token(stage: &Stage) -> String {
    let ns = &stage.scene.ns;
    ns.identity("b", "").accepted();
    let prints = "command: [sh, -c, \"cat /var/run/secrets/deputy.dev/token; echo; sleep 3600\"]";
    apply(&ns.pod("q", "b", "").replace("command: [sleep, \"3600\"]", prints)).accepted();
    ns.runs("q");
    eventually("it has said its token", || {
        Some(ns.kubectl(&["logs", "q"]).accepted().trim().to_owned()).filter(|token| !token.is_empty())
    })
}

#[test]
fn corpus_16_and_17_tokens_that_have_an_actor() {
    let stage = Stage::new();
    let (a, alice) = (&stage.a, stage.a.token("alice", json!({})));
    let given = stage.exchange(&alice, "read").body;
    let delegated = given["access_token"].as_str().unwrap();
    let mut watched = stage.watch();
    let alone = |kind| -> Vec<_> {
        let form = with(&stage.form(delegated, "read"), "subject_token_type", kind).into_iter();
        form.filter(|(name, _)| !name.starts_with("actor")).collect()
    };
    let refused = invalid("subject_token_type_unsupported");
    watched.stranger("corpus_16_launder_alone", &alone(ACCESS_TOKEN), 400, refused);
    watched.stranger("corpus_16_launder_as_own", &alone(JWT), 400, invalid("actor_issuer"));
    watched.subject("corpus_16_launder_with_an_actor", delegated, "nested_unsupported");
    let of_b = another_agents_token(&stage);
    let by_b = stage.form(delegated, "read");
    watched.agent(
        "corpus_16_launder_with_another_actor",
        &with(&by_b, "actor_token", &of_b),
        invalid("nested_unsupported"),
    );
    let as_actor = with(&stage.form(&alice, "read"), "actor_token", delegated);
    watched.stranger("corpus_04_our_own_token_as_actor", &as_actor, 400, invalid("actor_issuer"));
    let five = (0..5)
        .fold(json!({"sub": "x", "iss": "https://x"}), |act, n| json!({"sub": n.to_string(), "act": act}));
    for act in [json!("x"), json!(["x"]), json!({}), json!({"sub": "x"}), json!(0), json!(false), five] {
        watched.subject("corpus_17_act_shape", &a.token("alice", json!({"act": act})), "nested_unsupported");
    }
    let null = a.claims("alice", json!({})).to_string().replacen('{', "{\"act\":null,", 1);
    watched.subject("corpus_17_act_null", &a.headed(&json!({}), &null), "nested_unsupported");
    let may_act = |sub: Value| a.token("alice", json!({"may_act": {"sub": sub}}));
    for sub in [json!("system:serviceaccount:x:agent.b"), json!(["x"]), json!(null)] {
        let token = may_act(sub);
        watched.agent(
            "corpus_17_another_may_act",
            &stage.form(&token, "read"),
            ("actor_unauthorized", "may_act"),
        );
    }
    watched.end("tokens that have an actor");
    let own = may_act(json!(format!("system:serviceaccount:{}:agent.a", stage.ns())));
    assert_eq!(stage.exchange(&own, "read").status, 200);
}

#[test]
fn corpus_27_and_28_times_and_json() {
    let stage = Stage::new();
    let (a, now) = (&stage.a, Timestamp::now().as_second());
    let mut watched = stage.watch();
    for (besides, reason) in [
        (json!({"exp": now}), "subject_expired"),
        (json!({"exp": 0}), "subject_expired"),
        (json!({"iat": now + 90}), "subject_early"),
        (json!({"nbf": now + 90}), "subject_early"),
        (json!({"iat": now - 1000}), "subject_age"),
        (json!({"exp": null}), "subject_claims"),
        (json!({"iat": null}), "subject_claims"),
        (json!({"exp": (now + 600).to_string()}), "subject_claims"),
        (json!({"exp": 1e30}), "subject_claims"),
        (json!({"exp": -1}), "subject_claims"),
        (json!({"nbf": "soon"}), "subject_claims"),
    ] {
        watched.subject(&format!("corpus_27_time {besides}"), &a.token("alice", besides), reason);
    }
    let claims = a.claims("alice", json!({})).to_string();
    let twice = claims.replacen('{', "{\"sub\":\"carol\",", 1);
    watched.subject("corpus_28_a_claim_twice", &a.headed(&json!({}), &twice), "subject_malformed");
    let nested = claims.replacen('{', "{\"x\":{\"y\":1,\"y\":2},", 1);
    watched.subject("corpus_28_twice_inside", &a.headed(&json!({}), &nested), "subject_malformed");
    watched.subject(
        "corpus_28_more_behind",
        &a.headed(&json!({}), &format!("{claims}{{}}")),
        "subject_malformed",
    );
    watched.subject("corpus_28_crit", &a.headed(&json!({"crit": ["x"], "x": 1}), &claims), "subject_header");
    watched.subject("corpus_28_b64", &a.headed(&json!({"b64": false}), &claims), "subject_header");
    let long = a.token("alice", json!({"x": "x".repeat(13 << 10)}));
    watched.stranger(
        "corpus_28_a_token_of_more_than_16_KiB",
        &stage.form(&long, "read"),
        400,
        invalid("token_too_large"),
    );
    let longer = a.token("alice", json!({"x": "x".repeat(5 << 20)}));
    // Over HTTP/2 this curl does not look at an answer that comes before it has sent all.
    let body = encoded(&stage.form(&longer, "read"));
    let answer = stage.broker.send("/token", &["--http1.1", "--data-binary", "@-"], &body);
    watched.sent("corpus_28_5_MB_of_claims", &answer, 413, invalid("body_too_large"));
    watched.end("times and JSON");

    // Thirty seconds are the least that a token is good for: it would end with what it is given for. The right is known by now.
    let soon = a.token("alice", json!({"exp": Timestamp::now().as_second() + 20}));
    stage.exchange(&soon, "read").is(400, "invalid_request", "subject_expiring");
    eventually("it was good until it ended", || {
        let ending = a.token("alice", json!({"exp": Timestamp::now().as_second() + 40}));
        let answer = stage.broker.post(&encoded(&stage.form(&ending, "read")));
        (answer.status == 200 && answer.body["expires_in"].as_u64().unwrap() <= 40).then_some(())
    });
}
