//! Rows of the negative corpus, by their names, and what is accepted beside each.

use crate::{
    index::delegation::Issuer,
    oauth::{Actor, Reason, SubjectTokenType},
    verify::{
        peek,
        testing::{
            ISSUER, NOW, OWN, Pair, actor, claims, delegation, encoded, issuer, now, object, subject, verify,
            with,
        },
    },
};
use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};
use std::sync::LazyLock;

/// What becomes of an access token with these claims and a good signature.
fn reason(claims: &Value, issuer: &Issuer) -> Option<Reason> {
    static PAIR: LazyLock<Pair> = LazyLock::new(Pair::es256);
    verify(&PAIR.good(claims), &PAIR.key_set("k"), issuer).err()
}

/// The same with one claim other than it should be.
fn refused(member: &str, value: &Value) -> Option<Reason> {
    reason(&with(member, value), &issuer())
}

/// What becomes of a well-signed token with this header.
fn with_header(pair: &Pair, header: &Value) -> Option<Reason> {
    verify(&pair.token(&header.to_string(), &claims().to_string()), &pair.key_set("k"), &issuer()).err()
}

#[test]
fn a_good_token_says_who_the_user_is() {
    for pair in [Pair::rs256(), Pair::ps256(), Pair::es256(), Pair::es384(), Pair::ed25519()] {
        let subject = verify(&pair.good(&claims()), &pair.key_set("k"), &issuer()).unwrap();
        assert_eq!(subject.username(), "corp:alice", "{}", pair.alg());
        assert_eq!(subject.groups(), ["corp:authors", "corp:readers"]);
        let ceiling: Vec<_> = subject.ceiling().unwrap().iter().map(String::as_str).collect();
        assert_eq!(ceiling, ["read", "search"]);
        let origin = (subject.issuer_url(), subject.issuer_uid(), subject.issuer_generation());
        assert_eq!(origin, (ISSUER, "issuer-uid", 3));
        let times = [Some(subject.issued_at()), Some(subject.expires_at()), subject.auth_time()];
        let seconds = times.map(|time| time.unwrap().as_second() - NOW);
        assert_eq!(seconds, [-60, 600, -120]);
        // echo -ne 'https://idp.example.com\0j1' | sha256sum
        assert_eq!(subject.lineage_id(), encoded(sha256(b"https://idp.example.com\0j1")).split_at(22).0);
        let shown = format!("{subject:?} {:?}", peek(&pair.good(&claims())).unwrap());
        assert!(!shown.contains("alice") && !shown.contains("readers"), "{shown}");
    }
    let pair = Pair::ed25519();
    let named_newly = json!({"alg": "Ed25519", "typ": "at+jwt", "kid": "k"});
    assert_eq!(with_header(&pair, &named_newly), None, "RFC 9864");
    assert_eq!(with_header(&pair, &json!({"alg": "EdDSA", "typ": "at+jwt"})), None, "the only key that fits");
}

fn sha256(bytes: &[u8]) -> Vec<u8> {
    aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes).as_ref().to_vec()
}

#[test]
fn a_lineage_has_one_name_however_it_is_signed() {
    let (pair, issuer) = (Pair::es256(), issuer());
    let unnamed = with("jti", &Value::Null);
    let lineage = |token: &str| verify(token, &pair.key_set("k"), &issuer).unwrap().lineage_id().to_owned();
    let (one, other) = (pair.good(&unnamed), pair.good(&unnamed));
    assert_ne!(one, other, "ECDSA signs differently each time");
    assert_eq!(lineage(&one), lineage(&other));
    assert_ne!(lineage(&one), lineage(&pair.good(&claims())));
    assert_eq!(lineage(&one).len(), 22);
}

#[test]
fn scopes_are_read_from_any_claim_later() {
    let mut claims = with("roles", &json!(["read", "two words", "read"]));
    claims["scp"] = json!(" read  write ");
    claims["mixed"] = json!(["read", 1]);
    claims["object"] = json!({"read": true});
    let pair = Pair::es256();
    let subject = verify(&pair.good(&claims), &pair.key_set("k"), &issuer()).unwrap();
    let scopes = |claim| subject.scopes_in(claim).into_iter().collect::<Vec<_>>();
    assert_eq!(scopes("roles"), ["read", "two words"]);
    assert_eq!(scopes("scp"), ["read", "write"]);
    for none in ["mixed", "object", "exp", "absent", ""] {
        assert!(scopes(none).is_empty(), "{none}");
    }
    let unscoped = verify(&pair.good(&with("scope", &Value::Null)), &pair.key_set("k"), &issuer()).unwrap();
    assert!(unscoped.ceiling().unwrap().is_empty(), "a token without scopes lends none");
}

#[test]
fn corpus_01_alg_none() {
    let pair = Pair::es256();
    let payload = claims().to_string();
    for alg in [json!("none"), json!("None"), json!(""), json!(null), json!(["ES256"])] {
        let header = json!({"alg": alg, "typ": "at+jwt", "kid": "k"}).to_string();
        let unsigned = format!("{}.{}.", encoded(&header), encoded(&payload));
        for token in [unsigned, pair.token(&header, &payload)] {
            assert_eq!(
                verify(&token, &pair.key_set("k"), &issuer()).err(),
                Some(Reason::SubjectAlg),
                "{alg}"
            );
        }
    }
    assert_eq!(with_header(&pair, &json!({"typ": "at+jwt", "kid": "k"})), Some(Reason::SubjectAlg));
    let good = pair.good(&claims());
    let (signed, _) = good.rsplit_once('.').unwrap();
    let stripped = verify(&format!("{signed}."), &pair.key_set("k"), &issuer());
    assert_eq!(stripped.err(), Some(Reason::SubjectSignature));
}

#[test]
fn corpus_02_hs256_with_rsa_key() {
    let rsa = Pair::rs256();
    let header = json!({"alg": "HS256", "typ": "at+jwt", "kid": "k"}).to_string();
    let signed = format!("{}.{}", encoded(header), encoded(claims().to_string()));
    let secret = rsa.jwk("k").to_string();
    let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, secret.as_bytes());
    let token = format!("{signed}.{}", encoded(aws_lc_rs::hmac::sign(&key, signed.as_bytes())));
    assert_eq!(verify(&token, &rsa.key_set("k"), &issuer()).err(), Some(Reason::SubjectAlg));
    // Nor any other algorithm than the key's own.
    for alg in ["ES256", "ES384", "EdDSA", "RS384", "RS512", "PS512", "ES512", "ES256K"] {
        let header = json!({"alg": alg, "typ": "at+jwt", "kid": "k"});
        assert_eq!(with_header(&rsa, &header), Some(Reason::SubjectAlg), "{alg}");
    }
    let pss = json!({"alg": "PS256", "typ": "at+jwt", "kid": "k"});
    assert_eq!(with_header(&rsa, &pss), Some(Reason::SubjectSignature), "signed by RS256");
}

#[test]
fn corpus_03_typ_id_as_access() {
    let (pair, issuer) = (Pair::es256(), issuer());
    let judged = |header: Value, kind| {
        let token = pair.token(&header.to_string(), &claims().to_string());
        peek(&token)?.verify(kind, &pair.key_set("k"), &issuer, OWN, &actor(), now()).map(|_| ())
    };
    let absent = json!({"alg": "ES256", "kid": "k"});
    for (header, access, id) in [
        (pair.header("at+jwt"), true, false),
        (pair.header("AT+JWT"), true, false),
        (pair.header("application/at+jwt"), true, false),
        (pair.header("JWT"), false, true),
        (pair.header("application/jwt"), false, true),
        (absent, false, true),
    ] {
        for (kind, is_good) in [(SubjectTokenType::AccessToken, access), (SubjectTokenType::IdToken, id)] {
            let expected = if is_good { Ok(()) } else { Err(Reason::SubjectTyp) };
            assert_eq!(judged(header.clone(), kind), expected, "{header} {kind:?}");
        }
    }
    let mut one_kind = issuer.clone();
    one_kind.tokens.pop_last();
    let id = pair.token(&pair.header("JWT").to_string(), &claims().to_string());
    let id = peek(&id).unwrap();
    let judged = id.verify(SubjectTokenType::IdToken, &pair.key_set("k"), &one_kind, OWN, &actor(), now());
    assert_eq!(judged.err(), Some(Reason::SubjectTyp), "ID tokens of this issuer do not count");
}

/// Keycloak marks all of them `JWT`, and says by a claim which is which.
#[test]
fn corpus_03_typ_id_as_access_by_claim() {
    for typ in ["ID", "Refresh", "Offline", "Logout", "id"] {
        assert_eq!(refused("typ", &json!(typ)), Some(Reason::SubjectTyp), "{typ}");
    }
    assert_eq!(refused("typ", &json!("Bearer")), None);
}

#[test]
fn corpus_04_typ_logout() {
    let pair = Pair::es256();
    for typ in ["logout+jwt", "secevent+jwt", "application/logout+jwt", "dpop+jwt", "txntoken+jwt", "x", ""] {
        assert_eq!(with_header(&pair, &pair.header(typ)), Some(Reason::SubjectTyp), "{typ}");
    }
    let mut odd = pair.header("");
    odd["typ"] = json!(["at+jwt"]);
    assert_eq!(with_header(&pair, &odd), Some(Reason::SubjectTyp));
    let event = json!({"http://schemas.openid.net/event/backchannel-logout": {}});
    assert_eq!(
        refused("events", &event),
        Some(Reason::SubjectTyp),
        "a logout token marked as something else"
    );
}

#[test]
fn corpus_05_kid_injection() {
    let (pair, attacker) = (Pair::es256(), Pair::es256());
    let header = |member: &str, value: Value| {
        let mut header = pair.header("at+jwt");
        header[member] = value;
        header
    };
    for kid in [
        json!("../../x"),
        json!("k' OR 1=1 --"),
        json!("k\n"),
        json!("k".repeat(4096)),
        json!(7),
        json!(null),
    ] {
        assert_eq!(with_header(&pair, &header("kid", kid.clone())), Some(Reason::SubjectKey), "{kid}");
    }
    for (member, value) in [
        ("jku", json!("https://attacker.example.com/jwks")),
        ("jwk", attacker.jwk("k")),
        ("x5u", json!("https://attacker.example.com/x5u")),
        ("x5c", json!(["AAAA"])),
    ] {
        let header = header(member, value).to_string();
        let token = attacker.token(&header, &claims().to_string());
        assert_eq!(
            verify(&token, &pair.key_set("k"), &issuer()).err(),
            Some(Reason::SubjectHeader),
            "{member}"
        );
    }
}

#[test]
fn corpus_07_issuer_mixup() {
    let (own, others) = (Pair::es256(), Pair::es256());
    let forged = verify(&others.good(&claims()), &own.key_set("k"), &issuer());
    assert_eq!(
        forged.err(),
        Some(Reason::SubjectSignature),
        "iss of one, signed by another under the same kid"
    );
    let world = delegation(object(&json!({})));
    for iss in [
        "https://idp.example.com/",
        "https://IDP.example.com",
        "https://idp.example.com:443",
        "",
        "http://idp.example.com",
    ] {
        let claims = with("iss", &json!(iss));
        assert_eq!(reason(&claims, &issuer()), Some(Reason::SubjectIssuer), "{iss}");
        let token = own.good(&claims);
        assert_eq!(peek(&token).unwrap().trusted(&world, OWN).err(), Some(Reason::SubjectIssuer), "{iss}");
    }
    assert_eq!(refused("iss", &json!([ISSUER])), Some(Reason::SubjectIssuer));
    assert_eq!(refused("iss", &Value::Null), Some(Reason::SubjectIssuer));
    let token = own.good(&claims());
    assert_eq!(peek(&token).unwrap().trusted(&world, OWN).unwrap().url, ISSUER);
}

#[test]
fn corpus_09_system_claims() {
    let mut bare = issuer();
    bare.username.prefix.clear();
    bare.groups.as_mut().unwrap().prefix.clear();
    for (member, value) in [
        ("sub", json!("system:admin")),
        ("groups", json!(["readers", "system:masters"])),
        ("groups", json!("system:masters")),
    ] {
        assert_eq!(reason(&with(member, &value), &bare), Some(Reason::SubjectMapping), "{member}");
    }
    bare.username.prefix = "sys".into();
    assert_eq!(reason(&with("sub", &json!("tem:admin")), &bare), Some(Reason::SubjectMapping));
    assert_eq!(refused("sub", &json!("system:admin")), None, "corp:system:admin is nobody special");
}

#[test]
fn names_are_text_of_bounded_length() {
    for sub in [
        json!(""),
        json!(null),
        json!(7),
        json!(["alice"]),
        json!("a\nb"),
        json!("a\u{0}"),
        json!("a".repeat(252)),
    ] {
        assert_eq!(refused("sub", &sub), Some(Reason::SubjectMapping), "{sub}");
    }
    assert_eq!(refused("sub", &json!("a".repeat(251))), None);
    let mut by_mail = issuer();
    by_mail.username.claim = "email".into();
    let mut claims = with("email", &json!("alice@example.com"));
    assert_eq!(reason(&claims, &by_mail), None);
    for (verified, expected) in [
        (json!(true), None),
        (json!(false), Some(Reason::SubjectMapping)),
        (json!("true"), Some(Reason::SubjectMapping)),
    ] {
        claims["email_verified"] = verified;
        assert_eq!(reason(&claims, &by_mail), expected);
        assert_eq!(reason(&claims, &issuer()), None, "of no matter when the name is another claim");
    }
}

#[test]
fn groups_are_all_of_them_or_the_token_is_refused() {
    let many = |count: usize| json!((0..count).map(|n| format!("g{n}")).collect::<Vec<_>>());
    for (member, value, expected) in [
        ("groups", json!(null), None),
        ("groups", json!([]), None),
        ("groups", json!("readers"), None),
        ("groups", many(64), None),
        ("groups", many(65), Some(Reason::SubjectGroups)),
        ("groups", json!(["readers", 1]), Some(Reason::SubjectGroups)),
        ("groups", json!({"readers": true}), Some(Reason::SubjectGroups)),
        ("groups", json!([""]), Some(Reason::SubjectMapping)),
        ("groups", json!(["a\tb"]), Some(Reason::SubjectMapping)),
        ("_claim_names", json!({"groups": "src1"}), Some(Reason::SubjectGroups)),
        ("_claim_names", json!("groups"), Some(Reason::SubjectGroups)),
        ("_claim_names", json!({"address": "src1"}), None),
        ("hasgroups", json!(true), Some(Reason::SubjectGroups)),
        ("hasgroups", json!("true"), Some(Reason::SubjectGroups)),
        ("hasgroups", json!(false), None),
    ] {
        assert_eq!(refused(member, &value), expected, "{member} {value}");
        let mut ungrouped = issuer();
        ungrouped.groups = None;
        assert_eq!(reason(&with(member, &value), &ungrouped), None, "no groups are asked for");
    }
}

#[test]
fn corpus_10_foreign_aud() {
    for aud in [
        json!("other"),
        json!(null),
        json!([]),
        json!(["other", "client"]),
        json!(["deputy", 1]),
        json!({"deputy": 1}),
        json!("deputy "),
    ] {
        assert_eq!(refused("aud", &aud), Some(Reason::SubjectAudience), "{aud}");
    }
    assert_eq!(refused("aud", &json!("deputy")), None);
    for tenant in [json!(null), json!("t2"), json!(["t1"]), json!("T1")] {
        assert_eq!(refused("tenant", &tenant), Some(Reason::SubjectClaims), "{tenant}");
    }
}

#[test]
fn corpus_16_launder() {
    let pair = Pair::es256();
    let own = with("iss", &json!(OWN));
    let world = delegation(object(&json!({})));
    let token = pair.good(&own);
    assert_eq!(peek(&token).unwrap().trusted(&world, OWN).err(), Some(Reason::NestedUnsupported));
    // Even if somebody declared our own URL an issuer.
    let mut mirror = issuer();
    mirror.url = OWN.into();
    assert_eq!(reason(&own, &mirror), Some(Reason::NestedUnsupported));
}

#[test]
fn corpus_17_act_shape() {
    for act in [
        json!("agent"),
        json!(["agent"]),
        json!({}),
        json!({"sub": "x"}),
        json!({"sub": "x", "act": {"sub": "y"}}),
        json!(0),
    ] {
        assert_eq!(refused("act", &act), Some(Reason::NestedUnsupported), "{act}");
    }
    let pair = Pair::es256();
    let null = claims().to_string().replacen('{', r#"{"act":null,"#, 1);
    let token = pair.token(&pair.header("at+jwt").to_string(), &null);
    assert_eq!(verify(&token, &pair.key_set("k"), &issuer()).err(), Some(Reason::NestedUnsupported));
    assert_eq!(refused("cnf", &json!({"jkt": "x"})), Some(Reason::DpopUnsupported));
}

#[test]
fn may_act_names_this_actor_or_the_token_is_of_no_use_to_it() {
    let Actor { iss, sub, .. } = actor();
    for good in [json!({"sub": sub}), json!({"sub": sub, "iss": iss})] {
        assert_eq!(refused("may_act", &good), None, "{good}");
    }
    for bad in [
        json!({"sub": "system:serviceaccount:research:agent.other"}),
        json!({"sub": sub, "iss": "https://other.example.com"}),
        json!({"sub": sub, "iss": null}),
        json!({"iss": iss}),
        json!({"sub": [sub]}),
        json!({}),
        json!(sub),
        json!([{"sub": sub}]),
    ] {
        assert_eq!(refused("may_act", &bad), Some(Reason::MayAct), "{bad}");
    }
}

#[test]
fn corpus_27_time() {
    for (member, value, expected) in [
        ("exp", json!(NOW), Some(Reason::SubjectExpired)),
        ("exp", json!(NOW as f64 + 0.9), Some(Reason::SubjectExpired)),
        ("exp", json!(NOW + 1), None),
        ("exp", json!(NOW as f64 + 1.5), None),
        ("exp", json!(null), Some(Reason::SubjectClaims)),
        ("exp", json!((NOW + 600).to_string()), Some(Reason::SubjectClaims)),
        ("exp", json!(1e30), Some(Reason::SubjectClaims)),
        ("exp", json!(u64::MAX), Some(Reason::SubjectClaims)),
        ("exp", json!(i64::MAX), Some(Reason::SubjectClaims)),
        ("exp", json!(-1), Some(Reason::SubjectClaims)),
        ("exp", json!(-0.5), Some(Reason::SubjectClaims)),
        ("exp", json!(true), Some(Reason::SubjectClaims)),
        ("iat", json!(NOW + 30), None),
        ("iat", json!(NOW + 31), Some(Reason::SubjectEarly)),
        ("iat", json!(null), Some(Reason::SubjectClaims)),
        ("iat", json!(NOW - 3600), None),
        ("iat", json!(NOW - 3601), Some(Reason::SubjectAge)),
        ("iat", json!(NOW as f64 - 3600.5), Some(Reason::SubjectAge)),
        ("nbf", json!(NOW + 30), None),
        ("nbf", json!(NOW + 31), Some(Reason::SubjectEarly)),
        ("nbf", json!("soon"), Some(Reason::SubjectClaims)),
        ("nbf", json!(null), None),
    ] {
        assert_eq!(refused(member, &value), expected, "{member} {value}");
    }
    let endless = claims().to_string().replacen(&format!("{}", NOW + 600), "1e999", 1);
    let pair = Pair::es256();
    let token = pair.token(&pair.header("at+jwt").to_string(), &endless);
    assert_eq!(verify(&token, &pair.key_set("k"), &issuer()).err(), Some(Reason::SubjectMalformed));
}

#[test]
fn what_was_verified_is_judged_again_by_time_and_actor() {
    let issuer = issuer();
    let pair = Pair::es256();
    let at = |seconds: i64| Timestamp::from_second(NOW + seconds).unwrap();
    let known = subject(&pair, &issuer);
    assert_eq!(known.still_stands(&issuer, &actor(), at(599)), Ok(()));
    assert_eq!(known.still_stands(&issuer, &actor(), at(600)), Err(Reason::SubjectExpired));
    let only = pair.good(&with("may_act", &json!({"sub": actor().sub})));
    let only = verify(&only, &pair.key_set("k"), &issuer).unwrap();
    let other = Actor::agent(&actor().iss, "system:serviceaccount:research:agent.other");
    assert_eq!(only.still_stands(&issuer, &other, now()), Err(Reason::MayAct));
    let long = with("exp", &json!(NOW + 86400));
    let long = verify(&pair.good(&long), &pair.key_set("k"), &issuer).unwrap();
    assert_eq!(long.still_stands(&issuer, &actor(), at(3541)), Err(Reason::SubjectAge));
}

#[test]
fn corpus_28_json_dup() {
    let pair = Pair::es256();
    let (header, payload) = (pair.header("at+jwt").to_string(), claims().to_string());
    let judged = |header: &str, payload: &str| {
        verify(&pair.token(header, payload), &pair.key_set("k"), &issuer()).err()
    };
    assert_eq!(judged(&header, &payload), None);
    for twice in [r#"{"sub":"bob","#, r#"{"\u0073ub":"bob","#, r#"{"x":{"a":1,"a":2},"#] {
        let payload = payload.replacen('{', twice, 1);
        assert_eq!(judged(&header, &payload), Some(Reason::SubjectMalformed), "{twice}");
    }
    let header_twice = header.replacen('{', r#"{"kid":"x","#, 1);
    assert_eq!(judged(&header_twice, &payload), Some(Reason::SubjectMalformed));
    for member in [r#"{"crit":["x"],"#, r#"{"crit":[],"#, r#"{"b64":false,"#] {
        let header = header.replacen('{', member, 1);
        assert_eq!(judged(&header, &payload), Some(Reason::SubjectHeader), "{member}");
    }
    let large = with("x", &json!("x".repeat(5_000_000)));
    assert_eq!(reason(&large, &issuer()), Some(Reason::TokenTooLarge));
    for no_jwt in ["", "a", "a.b", "..", "a.b.c.d.e", "e30.e30.", "eyJ.eyJ.x", "\u{e9}.\u{e9}.\u{e9}"] {
        assert!(peek(no_jwt).is_err(), "{no_jwt}");
    }
    let good = pair.good(&claims());
    for changed in [format!("{good}="), format!(" {good}"), format!("{good}\n"), good.replace('.', ". ")] {
        assert!(verify(&changed, &pair.key_set("k"), &issuer()).is_err(), "{changed:?}");
    }
}
