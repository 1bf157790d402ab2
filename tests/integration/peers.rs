//! What clients that we did not write were seen to send, and what they need in the answers. Two of them are tried themselves on
//! a cluster, in `e2e/suite/own_cluster/parties.rs`. Introspection and revocation are not there yet.

use crate::endpoint::{ACCESS_TOKEN, ACCOUNT, FORM, JWT, OWN, RESOURCE, Stage, World, actor, alice};
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use axum::{
    extract::Request,
    http::header::{AUTHORIZATION, CONTENT_TYPE},
};
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use serde_json::{Value, json};

/// The agent may act for itself.
fn on_own_behalf(world: &mut World) {
    world.resource["spec"]["allowedAgents"][0]["modes"] = json!(["OnOwnBehalf"]);
    world.policy["spec"]["mode"] = "OnOwnBehalf".into();
    world.policy["spec"].as_object_mut().unwrap().remove("subjects");
}

type Form = Vec<(&'static str, String)>;

fn with(form: &Form, more: &[(&'static str, &str)]) -> Form {
    let more = more.iter().map(|(name, value)| (*name, (*value).to_owned()));
    form.iter()
        .filter(|(name, _)| more.clone().all(|(other, _)| other != *name))
        .cloned()
        .chain(more.clone())
        .collect()
}

/// zitadel/oidc without an actor; the MCP Go SDK's `code`.
#[tokio::test]
async fn peer_01_empty_parameters_are_absent() {
    let stage = Stage::of(on_own_behalf);
    let form = Stage::form(&actor(), "read");
    let empty = [
        ("subject_token_type", JWT),
        ("actor_token", ""),
        ("actor_token_type", ""),
        ("code", ""),
        ("audience", ""),
    ];
    let (status, said) = stage.post(&with(&form, &empty)).await;
    assert_eq!((status, &said["scope"]), (200, &json!("read")), "{said}");
    let (status, said) = stage.post(&with(&with(&form, &empty), &[("scope", "")])).await;
    assert_eq!((status, &said["reason"]), (400, &json!("scope_required")));
}

/// Authlib, openid-client and oauth4webapi name a charset.
#[tokio::test]
async fn peer_02_the_media_type_may_have_a_charset() {
    let stage = Stage::new();
    let form = Stage::form(&stage.alice(), "read");
    let body: Vec<_> = form.iter().map(|(name, value)| format!("{name}={value}")).collect();
    for (media_type, expected) in [
        (FORM, 200),
        ("application/x-www-form-urlencoded;charset=UTF-8", 200),
        ("Application/X-WWW-Form-Urlencoded; charset=utf-8", 200),
        ("application/json", 400),
        ("text/plain;application/x-www-form-urlencoded", 400),
    ] {
        let request = Request::post("/token").header(CONTENT_TYPE, media_type);
        assert_eq!(stage.send(request, &body.join("&")).await.0, expected, "{media_type}");
    }
}

/// zitadel and go-oidc ask for OpenID Connect's document; the MCP Go SDK wants S256 in it, go-oidc the algorithms.
#[tokio::test]
async fn peer_03_to_05_the_documents_have_what_clients_look_for() {
    let stage = Stage::new();
    let document = |path| stage.send(Request::get(path), "");
    let (status, found) = document("/.well-known/openid-configuration").await;
    assert_eq!((status, &found["issuer"]), (200, &json!(OWN)));
    assert_eq!(document("/.well-known/oauth-authorization-server").await.1, found, "peer_03");
    assert_eq!(found["code_challenge_methods_supported"], json!(["S256"]), "peer_04");
    assert_eq!(found["id_token_signing_alg_values_supported"], json!(["ES256"]), "peer_05");
    let (_, keys) = document("/jwks").await;
    assert_eq!(
        (&keys["keys"][0]["alg"], &keys["keys"][0]["crv"]),
        (&json!("ES256"), &json!("P-256")),
        "peer_05"
    );
}

/// Some always send one, some never; Authlib sends the text None when it has none.
#[tokio::test]
async fn peer_06_a_client_id_is_checked_and_not_required() {
    let stage = Stage::new();
    let form = Stage::form(&stage.alice(), "read");
    for (client, expected) in
        [("", 200), (ACCOUNT, 200), ("None", 401), ("system:serviceaccount:ns:agent.b", 401)]
    {
        let (status, said) = stage.post(&with(&form, &[("client_id", client)])).await;
        assert_eq!(status, expected, "{client}: {said}");
    }
}

/// x/oauth2 with nothing to say sends a Basic of nothing. One that says something is refused, however it is escaped.
#[tokio::test]
async fn peer_07_an_empty_basic_is_none() {
    let stage = Stage::new();
    let form = Stage::form(&stage.alice(), "read");
    let body: Vec<_> = form.iter().map(|(name, value)| format!("{name}={value}")).collect();
    for (basic, expected) in [("Og==", 200), ("YTo=", 401), ("YWdlbnQlMkVyZXNlYXJjaGVyOg==", 401)] {
        let request = Request::post("/token")
            .header(CONTENT_TYPE, FORM)
            .header(AUTHORIZATION, format!("Basic {basic}"));
        assert_eq!(stage.send(request, &body.join("&")).await.0, expected, "{basic}");
    }
}

/// x/oauth2, left to find out how to authenticate, sends what is refused a second time: that is two denials.
#[tokio::test]
async fn peer_08_a_denial_that_is_asked_for_twice_is_recorded_twice() {
    let stage = Stage::of(|world| world.policy["spec"]["subjects"][0]["users"] = json!(["corp:bob"]));
    for _ in 0..2 {
        assert_eq!(stage.exchange("read").await.0, 400);
    }
    let recorded = stage.recorded(2).await;
    assert_eq!((recorded.len(), &recorded[0]), (2, &recorded[1]));
    assert_eq!(recorded[0].2, "no_delegation");
}

/// Client assertions are not taken, in whatever shape they come: an agent's file is read many times, and they are for one use.
#[tokio::test]
async fn peer_09_a_client_assertion_is_refused() {
    let stage = Stage::new();
    let form = Stage::form(&stage.alice(), "read");
    let bearer = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
    let (status, said) =
        stage.post(&with(&form, &[("client_assertion_type", bearer), ("client_assertion", "a.b.c")])).await;
    assert_eq!((status, &said["error"]), (401, &json!("invalid_client")));
}

/// zitadel always says which type of token it wants; Google's clients say audience where others say resource.
#[tokio::test]
async fn peer_10_requested_types_and_audiences() {
    let stage = Stage::new();
    let form = Stage::form(&stage.alice(), "read");
    let id_jag = "urn:ietf:params:oauth:token-type:id-jag";
    for (name, value, expected) in [
        ("requested_token_type", ACCESS_TOKEN, Value::Null),
        ("requested_token_type", JWT, json!("requested_token_type_unsupported")),
        ("requested_token_type", id_jag, json!("requested_token_type_unsupported")),
        ("audience", RESOURCE, Value::Null),
        ("audience", "papers", json!("audience_mismatch")),
    ] {
        let (_, said) = stage.post(&with(&form, &[(name, value)])).await;
        assert_eq!(said["reason"], expected, "{name}={value}");
    }
    let twice = with(&form, &[("audience", RESOURCE), ("audience", RESOURCE)]);
    assert_eq!(stage.post(&twice).await.1["reason"], "resource_repeated");
    let alone = with(&form, &[("resource", ""), ("audience", RESOURCE)]);
    assert_eq!(stage.post(&alone).await.1["reason"], "resource_required");
}

/// All of them take Bearer, a scope that is narrower than what was asked for, and an error with its description.
#[tokio::test]
async fn peer_11_and_12_answers_that_all_understand() {
    let stage = Stage::of(|world| world.identity["spec"]["grants"][0]["scopes"] = json!(["read"]));
    let (status, said) = stage.exchange("read write").await;
    assert_eq!(
        (status, &said["token_type"], &said["scope"]),
        (200, &json!("Bearer"), &json!("read")),
        "peer_11"
    );
    assert_eq!(
        (&said["issued_token_type"], said["expires_in"].is_u64()),
        (&json!(ACCESS_TOKEN), true),
        "peer_11"
    );
    let (status, said) = stage.exchange("write").await;
    assert_eq!(
        (status, &said["error"], said["error_description"].is_string()),
        (400, &json!("invalid_scope"), true),
        "peer_12"
    );
}

/// A token of alice's with this header, and the key that signed it.
fn signed(mut header: Value) -> (String, Value) {
    let pair = Ed25519KeyPair::generate().unwrap();
    header["kid"] = "ed".into();
    let part = |value: &Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
    let signed = format!("{}.{}", part(&header), part(&alice()));
    let signature = BASE64_URL_SAFE_NO_PAD.encode(pair.sign(signed.as_bytes()));
    let x = BASE64_URL_SAFE_NO_PAD.encode(pair.public_key());
    (
        format!("{signed}.{signature}"),
        json!({"kty": "OKP", "crv": "Ed25519", "kid": "ed", "alg": header["alg"], "x": x}),
    )
}

async fn exchanged(header: Value, types: Value) -> (u16, Value) {
    let (token, key) = signed(header);
    let stage = Stage::of(|world| {
        world.issuer["spec"]["issuer"]["jwks"] = json!({"keys": [key]}).to_string().into();
        world.issuer["spec"]["tokens"][0]["headerTypes"] = types;
    });
    stage.post(&Stage::form(&token, "read")).await
}

/// npm's oidc-provider signs under the new name, others under the old. What is issued has a name that all know.
#[tokio::test]
async fn peer_13_ed25519_has_two_names() {
    for alg in ["Ed25519", "EdDSA"] {
        let (status, said) = exchanged(json!({"alg": alg, "typ": "at+jwt"}), json!(["at+jwt"])).await;
        assert_eq!(status, 200, "{alg}: {said}");
        let header = said["access_token"].as_str().unwrap().split('.').next().unwrap();
        let header: Value = serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(header).unwrap()).unwrap();
        assert_eq!((&header["alg"], &header["typ"]), (&json!("ES256"), &json!("at+jwt")));
    }
}

/// Dex marks no token, and has the same claims in all: which are taken is said for each issuer.
#[tokio::test]
async fn peer_14_tokens_without_typ_are_taken_where_it_is_said() {
    for (header, types, expected) in [
        (json!({"alg": "EdDSA"}), json!(["Absent"]), 200),
        (json!({"alg": "EdDSA"}), json!(["at+jwt"]), 400),
        (json!({"alg": "EdDSA", "typ": "JWT"}), json!(["Absent"]), 400),
        (json!({"alg": "EdDSA", "typ": "JWT"}), json!(["JWT"]), 200),
    ] {
        let (status, said) = exchanged(header.clone(), types.clone()).await;
        assert_eq!(status, expected, "{header} {types}: {said}");
    }
}
