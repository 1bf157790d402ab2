//! What is no request: rows 11 to 15, 24 and 25.

use super::{JWT, Refusal, Replica, Scene, Watched, encoded, invalid, questions, with};
use crate::support::{SYSTEM, kubectl};

const TARGET: &str = "invalid_target";

fn also<'a>(form: &[(&'a str, &'a str)], name: &'a str, value: &'a str) -> Vec<(&'a str, &'a str)> {
    [form, &[(name, value)]].concat()
}

#[test]
fn corpus_11_to_15_what_is_no_request() {
    let (scene, broker) = (Scene::new(), Replica::first());
    let form = scene.form("read");
    assert_eq!(broker.exchange(&form).status, 200);
    let asked = questions("tokenreviews").len();
    let mut watched = Watched::new(&scene, &broker);
    targets(&mut watched, &form);
    scopes(&mut watched, &form);
    let mut refused = |case: &str, form: &[(&str, &str)], refusal: Refusal| {
        watched.stranger(case, form, 400, refusal);
    };
    for (name, value) in [("scope", "read"), ("grant_type", "x"), ("subject_token", "x"), ("x", "y")] {
        let twice = also(&also(&form, name, value), name, value);
        refused("corpus_14_twice", &twice, invalid("duplicate_parameter"));
    }
    let unsupported = ("unsupported_grant_type", "grant_type_unsupported");
    refused("corpus_14_another_grant", &with(&form, "grant_type", "client_credentials"), unsupported);
    refused("corpus_15_token_alone", &also(&form, "actor_token", "x"), invalid("actor_token_type_required"));
    refused("corpus_15_type_alone", &also(&form, "actor_token_type", JWT), invalid("actor_token_required"));
    let empty = also(&also(&form, "actor_token", ""), "actor_token_type", JWT);
    refused("corpus_15_empty_token", &empty, invalid("actor_token_required"));
    refused("corpus_20_no_token", &with(&form, "subject_token", "e30.e30.e30"), invalid("actor_malformed"));
    broker.ask("/token", &[]).is(405, "invalid_request", "method_not_allowed");
    assert_eq!(questions("tokenreviews").len(), asked, "no token was shown to anybody");
    watched.end("what is no request");
    let upper = scene.resource.replace(".example.com", ".EXAMPLE.com").replace("https", "HTTPS");
    assert_eq!(broker.exchange(&with(&form, "resource", &upper)).status, 200, "corpus_12_upper_case_host");
    let log = kubectl(&["-n", SYSTEM, "logs", &broker.name, "--tail=-1"]).accepted();
    assert!(!log.contains("Set-Cookie") && !log.contains(&scene.token[..40]), "what was sent is in the log");
}

/// Rows 11 and 12. A resource that is well-formed and nobody's is looked for, and so on record.
fn targets(watched: &mut Watched<'_>, form: &[(&str, &str)]) {
    let resource = &watched.scene.resource.clone();
    let other = "https://b.example.com";
    for (case, form, reason) in [
        ("corpus_11_two_resources", also(form, "resource", other), "resource_repeated"),
        ("corpus_11_the_same_twice", also(form, "resource", resource), "resource_repeated"),
        ("corpus_11_another_audience", also(form, "audience", other), "audience_mismatch"),
        ("corpus_11_none", with(form, "resource", ""), "resource_required"),
    ] {
        watched.stranger(case, &form, 400, (TARGET, reason));
    }
    let slash = format!("{resource}/");
    let path = resource.replace("/mcp", "/MCP");
    let dots = resource.replace("/mcp", "/x/%2e%2e/mcp");
    let port = resource.replace(".com/", ".com:443/");
    for another in [other, &slash, &path] {
        watched.agent(
            "corpus_11_or_12_another_resource",
            &with(form, "resource", another),
            (TARGET, "resource_unknown"),
        );
    }
    let (http, user) = (resource.replace("https", "http"), resource.replace("https://", "https://u@"));
    let (fragment, long) = (format!("{resource}#x"), format!("{resource}/{}", "x".repeat(512)));
    let space = format!("{resource} x");
    for malformed in
        ["/mcp", "mcp", "https:", "https:///mcp", &http, &user, &fragment, &long, &space, &dots, &port]
    {
        watched.stranger(
            "corpus_12_form",
            &with(form, "resource", malformed),
            400,
            (TARGET, "resource_malformed"),
        );
    }
}

/// Row 13: nothing of a scope gets into a header, a body or a log.
fn scopes(watched: &mut Watched<'_>, form: &[(&str, &str)]) {
    let (many, long) = (vec!["s"; 33].join(" "), "s".repeat(1025));
    for scope in [
        "read\r\nSet-Cookie:x",
        "re\"ad",
        "re\\ad",
        "read  write",
        " read",
        "read\u{200b}",
        "read\twrite",
        "*",
        "read *",
        &many,
        &long,
    ] {
        watched.stranger(
            "corpus_13_scope",
            &with(form, "scope", scope),
            400,
            ("invalid_scope", "scope_malformed"),
        );
    }
    watched.stranger("corpus_13_none", &with(form, "scope", ""), 400, ("invalid_scope", "scope_required"));
    watched.agent(
        "corpus_13_a_scope_nobody_has",
        &with(form, "scope", "delete"),
        ("invalid_scope", "agent_half"),
    );
}

/// An agent has no secret, and is who its token says.
#[test]
fn corpus_24_and_25_secrets_and_clients() {
    let (scene, broker) = (Scene::new(), Replica::first());
    let form = scene.form("read");
    let mut watched = Watched::new(&scene, &broker);
    let refusal = ("invalid_client", "client_authentication");
    for (name, value) in [("client_secret", "x"), ("client_assertion", "x"), ("client_assertion_type", "x")] {
        watched.stranger("corpus_24_secret_auth", &also(&form, name, value), 401, refusal);
    }
    let body = encoded(&form);
    for (header, scheme) in [("Authorization: Basic YTpi", "basic"), ("Authorization: Bearer x", "bearer")] {
        let answer = broker.send("/token", &["-H", header, "--data-binary", "@-"], &body);
        watched.sent("corpus_24_header", &answer, 401, refusal);
        assert!(answer.headers.contains(&format!("www-authenticate: {scheme}")), "{}", answer.headers);
    }
    let dpop = broker.send("/token", &["-H", "DPoP: x", "--data-binary", "@-"], &body);
    watched.sent("corpus_24_dpop", &dpop, 400, invalid("dpop_unsupported"));
    let own = format!("system:serviceaccount:{}:agent.a", scene.ns.0);
    let other = format!("system:serviceaccount:{}:agent.b", scene.ns.0);
    for client in [&*other, "agent.a", "None", &own.to_uppercase()] {
        let refusal = ("invalid_client", "client_mismatch");
        watched.stranger("corpus_25_client_id_lie", &also(&form, "client_id", client), 401, refusal);
    }
    watched.end("secrets and clients");
    let empty = broker.send("/token", &["-H", "Authorization: Basic Og==", "--data-binary", "@-"], &body);
    assert_eq!(empty.status, 200, "{}", empty.body);
    assert_eq!(broker.exchange(&also(&form, "client_id", &own)).status, 200);
}
