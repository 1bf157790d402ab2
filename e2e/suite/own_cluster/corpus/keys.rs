//! Row 6: what an issuer publishes that is no set of keys.

use super::{Stage, invalid};
use crate::own_cluster::idp::Key;
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use serde_json::{Value, json};

/// A set with this key in it.
fn set(keys: Value) -> String {
    json!({"keys": keys}).to_string()
}

#[test]
fn corpus_06_jwks_poison() {
    let stage = Stage::new();
    let ns = stage.ns().to_owned();
    let realm = |name: &str| stage.idp.realm(name, &format!("{ns}-{name}"));
    let names = ["big", "moved", "elsewhere", "http", "secret", "twins", "weak", "private", "other"];
    let realms = names.map(realm);
    let publish = |name: &str, status: u16, location: Option<&str>, body: String| {
        stage.idp.publish(&format!("/{name}/jwks"), status, location, body);
    };
    let jwk = |at: usize| realms[at].key.jwk();
    let with = |mut jwk: Value, member: &str, value: Value| {
        jwk[member] = value;
        jwk
    };
    publish("big", 200, None, set(json!([jwk(0), {"kty": "EC", "x": "x".repeat(10 << 20)}])));
    publish("moved", 302, Some(&stage.idp.url("/attacker/jwks")), String::new());
    publish("elsewhere", 302, Some("http://169.254.169.254/latest/meta-data"), String::new());
    let http = json!({"issuer": realms[3].url, "jwks_uri": stage.idp.url("/attacker/jwks").replace("https", "http")});
    stage.idp.publish("/http/.well-known/openid-configuration", 200, None, http.to_string());
    publish(
        "secret",
        200,
        None,
        set(json!([{"kty": "oct", "kid": "secret", "alg": "ES256", "k": "c2VjcmV0"}])),
    );
    publish("twins", 200, None, set(json!([with(Key::new("x").jwk(), "kid", json!("twins")), jwk(5)])));
    let modulus = BASE64_URL_SAFE_NO_PAD.encode([&[0xc1; 127][..], &[1]].concat());
    let weak = json!({"kty": "RSA", "kid": "weak", "n": modulus, "e": "AQAB"});
    publish("weak", 200, None, set(json!([weak])));
    publish("private", 200, None, set(json!([with(jwk(7), "d", json!("AAAA"))])));
    let other = json!({"issuer": stage.a.url, "jwks_uri": stage.idp.url("/other/jwks")});
    stage.idp.publish("/other/.well-known/openid-configuration", 200, None, other.to_string());
    stage.idp.publish("/attacker/jwks", 200, None, set(json!([jwk(1), jwk(3)])));

    let known = stage.a.token("alice", json!({}));
    assert_eq!(stage.exchange(&known, "read").status, 200);
    stage.idp.asked();
    let mut watched = stage.watch();
    for realm in &realms {
        let name = &realm.key.kid;
        let header = if name == "weak" { json!({"alg": "RS256"}) } else { json!({}) };
        let token = realm.headed(&header, &realm.claims("alice", json!({})).to_string());
        watched.agent(&format!("corpus_06_{name}"), &stage.form(&token, "read"), invalid("subject_key"));
    }
    // Keys that were good stay when what comes after them is not.
    publish("a", 200, None, "x".repeat(10 << 20));
    let unknown = stage.a.headed(&json!({"kid": "new"}), &stage.a.claims("alice", json!({})).to_string());
    watched.agent("corpus_06_after_good_keys", &stage.form(&unknown, "read"), invalid("subject_key"));
    watched.end("what is no set of keys");
    let asked = stage.idp.asked();
    assert!(asked.contains(&"/moved/jwks".to_owned()) && asked.contains(&"/a/jwks".to_owned()), "{asked:?}");
    assert!(!asked.iter().any(|path| path.starts_with("/attacker")), "a redirect was followed: {asked:?}");
    let fresh = stage.a.token("alice", json!({"jti": "fresh"}));
    assert_eq!(stage.exchange(&fresh, "read").status, 200, "the old set is kept");
}
