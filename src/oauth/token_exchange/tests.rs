use super::*;
use crate::oauth::{Half, Scope};
use http::HeaderValue;
use proptest::prelude::*;
use serde_json::{Value, json};

const RESOURCE: &str = "https://papers.example.com/mcp";

/// Parameters.
type Form = Vec<(&'static str, String)>;

/// A good request.
fn good() -> Form {
    [
        ("grant_type", GRANT_TYPE),
        ("subject_token", "user.token.s"),
        ("subject_token_type", ACCESS_TOKEN),
        ("actor_token", "agent.token.s"),
        ("actor_token_type", JWT),
        ("resource", RESOURCE),
        ("scope", "read search"),
    ]
    .map(|(name, value)| (name, value.to_owned()))
    .into()
}

fn own() -> Form {
    changed(&[("actor_token", ""), ("actor_token_type", ""), ("subject_token_type", JWT)])
}

/// The good request with some values changed.
fn changed(changes: &[(&'static str, &str)]) -> Form {
    let mut form = good();
    for (name, value) in changes {
        form.retain(|(known, _)| known != name);
        form.push((name, (*value).to_owned()));
    }
    form
}

/// The good request with something said twice.
fn with(more: &[(&'static str, &str)]) -> Form {
    let more = more.iter().map(|(name, value)| (*name, (*value).to_owned()));
    good().into_iter().chain(more).collect()
}

fn encode(form: &[(&str, String)]) -> String {
    let escaped = |byte: u8| match byte {
        b' ' => "+".to_owned(),
        byte if byte.is_ascii_alphanumeric() => char::from(byte).to_string(),
        byte => format!("%{byte:02X}"),
    };
    let value = |value: &str| value.bytes().map(escaped).collect::<String>();
    form.iter().map(|(name, text)| format!("{name}={}", value(text))).collect::<Vec<_>>().join("&")
}

fn parse(form: &[(&str, String)]) -> Result<TokenExchange, OAuthError> {
    TokenExchange::parse(&HeaderMap::new(), encode(form).as_bytes())
}

/// Each row is refused for its reason.
fn refused<const N: usize>(rows: [(&str, Form, Reason); N]) {
    for (name, form, reason) in rows {
        assert_eq!(parse(&form).unwrap_err().reason, reason, "{name}");
    }
}

fn headers(name: &'static str, values: &[&'static str]) -> HeaderMap {
    values.iter().map(|value| (name.parse().unwrap(), HeaderValue::from_static(value))).collect()
}

#[test]
fn a_request_for_a_user_is_understood() {
    let expected = TokenExchange {
        parties: Parties::OnBehalfOfUser {
            subject_token: Token("user.token.s".into()),
            subject_token_type: SubjectTokenType::AccessToken,
            actor_token: Token("agent.token.s".into()),
        },
        resource: RESOURCE.parse().unwrap(),
        scopes: "read search".parse().unwrap(),
        client_id: None,
    };
    assert_eq!(parse(&good()), Ok(expected.clone()));
    let client_id = Some("system:serviceaccount:research:agent.a".to_owned());
    let form = changed(&[
        ("client_id", client_id.as_deref().unwrap()),
        ("requested_token_type", ACCESS_TOKEN),
        ("audience", RESOURCE),
        ("resource", "HTTPS://Papers.example.com/mcp"),
        ("whatever", "else"),
    ]);
    assert_eq!(parse(&form), Ok(TokenExchange { client_id, ..expected }));
    let id_token = parse(&changed(&[("subject_token_type", ID_TOKEN)])).unwrap().parties;
    assert!(matches!(
        id_token,
        Parties::OnBehalfOfUser { subject_token_type: SubjectTokenType::IdToken, .. }
    ));
}

#[test]
fn a_request_on_its_own_behalf_is_understood() {
    let expected = Parties::OnOwnBehalf { actor_token: Token("user.token.s".into()) };
    assert_eq!(parse(&own()).unwrap().parties, expected);
}

/// What was seen on the wire: zitadel/oidc without an actor, the MCP Go SDK, x/oauth2 with an empty client.
#[test]
fn empty_parameters_and_an_empty_basic_are_absent() {
    let mut form = own();
    form.extend(
        ["code", "audience", "requested_token_type", "client_id", "client_secret"]
            .map(|name| (name, String::new())),
    );
    for basic in ["Basic Og==", "basic  Og=="] {
        let found = TokenExchange::parse(&headers("authorization", &[basic]), encode(&form).as_bytes());
        assert!(found.is_ok_and(|found| found.client_id.is_none()), "{basic}");
    }
    refused([("an empty scope", changed(&[("scope", "")]), Reason::ScopeRequired)]);
}

#[test]
fn what_is_missing_or_of_another_kind_is_named() {
    refused([
        ("nothing at all", vec![], Reason::GrantTypeRequired),
        ("no grant type", changed(&[("grant_type", "")]), Reason::GrantTypeRequired),
        ("another grant", changed(&[("grant_type", "client_credentials")]), Reason::GrantTypeUnsupported),
        ("no subject", changed(&[("subject_token", "")]), Reason::SubjectTokenRequired),
        ("no type", changed(&[("subject_token_type", "")]), Reason::SubjectTokenTypeRequired),
        (
            "SAML",
            changed(&[("subject_token_type", "urn:ietf:params:oauth:token-type:saml2")]),
            Reason::SubjectTokenTypeUnsupported,
        ),
        ("a JWT for a user", changed(&[("subject_token_type", JWT)]), Reason::SubjectTokenTypeUnsupported),
        (
            "an access token as actor",
            changed(&[("actor_token_type", ACCESS_TOKEN)]),
            Reason::ActorTokenTypeUnsupported,
        ),
        ("a JWT wanted", changed(&[("requested_token_type", JWT)]), Reason::RequestedTokenTypeUnsupported),
        ("a long subject", changed(&[("subject_token", &"t".repeat(TOKEN + 1))]), Reason::TokenTooLarge),
        ("a long actor", changed(&[("actor_token", &"t".repeat(TOKEN + 1))]), Reason::TokenTooLarge),
        ("no resource", changed(&[("resource", "")]), Reason::ResourceRequired),
        ("an audience alone", changed(&[("resource", ""), ("audience", RESOURCE)]), Reason::ResourceRequired),
    ]);
    assert!(parse(&changed(&[("subject_token", &"t".repeat(TOKEN))])).is_ok());
}

#[test]
fn corpus_11_aud_widening() {
    let other = "https://mail.example.com";
    refused([
        ("two resources", with(&[("resource", other)]), Reason::ResourceRepeated),
        ("the same twice", with(&[("resource", RESOURCE)]), Reason::ResourceRepeated),
        ("another audience", with(&[("audience", other)]), Reason::AudienceMismatch),
        ("a slash more", with(&[("audience", "https://papers.example.com/mcp/")]), Reason::AudienceMismatch),
        ("no audience URI", with(&[("audience", "papers")]), Reason::AudienceMismatch),
        ("two audiences", with(&[("audience", RESOURCE), ("audience", other)]), Reason::ResourceRepeated),
    ]);
    let slash = parse(&changed(&[("resource", "https://papers.example.com/mcp/")])).unwrap().resource;
    assert_ne!(slash, RESOURCE.parse().unwrap(), "another resource, which nobody owns");
}

#[test]
fn corpus_12_resource_forms() {
    for form in [
        "https://papers.example.com/mcp#a",
        "/mcp",
        "https://a@papers.example.com/mcp",
        "http://papers.example.com/mcp",
        "https://papers.example.com:443/mcp",
        "https://papers.example.com/%2e%2e/mcp",
    ] {
        refused([(form, changed(&[("resource", form)]), Reason::ResourceMalformed)]);
    }
    let found = parse(&changed(&[("resource", "HTTPS://PAPERS.example.com/mcp")])).unwrap().resource;
    assert_eq!(found.as_str(), RESOURCE);
}

#[test]
fn corpus_13_scope_bytes() {
    let many = vec!["s"; 33].join(" ");
    for scope in ["read\r\nSet-Cookie:x", "\"", "\\", "read  search", "read\u{200b}", &many, "*"] {
        let error = parse(&changed(&[("scope", scope)])).unwrap_err();
        assert_eq!(error.reason, Reason::ScopeMalformed, "{scope:?}");
        assert!(!error.body(None).contains("Cookie") && error.challenge().is_none());
    }
}

#[test]
fn corpus_14_dup_params() {
    refused([
        ("scope", with(&[("scope", "read")]), Reason::DuplicateParameter),
        ("grant_type", with(&[("grant_type", GRANT_TYPE)]), Reason::DuplicateParameter),
        ("subject_token", with(&[("subject_token", "user.token.s")]), Reason::DuplicateParameter),
        ("escaped", with(&[("%73cope", "read")]), Reason::DuplicateParameter),
        ("not ours", with(&[("x", "1"), ("x", "1")]), Reason::DuplicateParameter),
    ]);
}

#[test]
fn corpus_15_actor_pairing() {
    refused([
        ("no type", changed(&[("actor_token_type", "")]), Reason::ActorTokenTypeRequired),
        ("no token", changed(&[("actor_token", "")]), Reason::ActorTokenRequired),
        (
            "neither",
            changed(&[("actor_token", ""), ("actor_token_type", "")]),
            Reason::SubjectTokenTypeUnsupported,
        ),
    ]);
}

#[test]
fn corpus_24_secret_auth() {
    let body = encode(&good());
    for (values, used_basic) in [
        (&["Basic YTpi"][..], true),
        (&["Basic Og==", "Basic YTpi"], true),
        (&["basic"], true),
        (&["Bearer a.b.c"], false),
        (&["Og=="], false),
        (&[""], false),
    ] {
        let error = TokenExchange::parse(&headers("authorization", values), body.as_bytes()).unwrap_err();
        assert_eq!(error, OAuthError { used_basic, ..Reason::ClientAuthentication.into() }, "{values:?}");
        assert_eq!(error.reason.status(), 401);
    }
    let assertion = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
    refused([
        ("a secret", with(&[("client_secret", "s")]), Reason::ClientAuthentication),
        ("an assertion", with(&[("client_assertion", "a.b.c")]), Reason::ClientAuthentication),
        ("the type of one", with(&[("client_assertion_type", assertion)]), Reason::ClientAuthentication),
    ]);
    let error = TokenExchange::parse(&headers("dpop", &["a.b.c"]), body.as_bytes()).unwrap_err();
    assert_eq!(error.reason, Reason::DpopUnsupported);
}

#[test]
fn the_answer_says_what_was_given_and_what_was_not() {
    let response = TokenResponse {
        access_token: Token::from("t".to_owned()),
        expires_in: 300,
        scopes: "read".parse().unwrap(),
        denied: vec![Denied { scope: "search".parse::<Scope>().unwrap(), half: Half::Delegation }],
        audit: "origin#3".into(),
    };
    let expected = json!({
        "access_token": "t", "issued_token_type": ACCESS_TOKEN, "token_type": "Bearer", "expires_in": 300, "scope": "read",
        "denied": [{"scope": "search", "half": "delegation"}], "audit": "origin#3",
    });
    assert_eq!(serde_json::from_str::<Value>(&response.body()).unwrap(), expected);
    assert_eq!(format!("{:?}", response.access_token), "Token(1 bytes)", "a token is not shown");
}

proptest! {
    #[test]
    fn any_bytes_can_be_a_request(body in prop::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(TokenExchange::parse(&HeaderMap::new(), &body).is_err());
    }

    #[test]
    fn any_values_can_be_asked_for(at in 0..7usize, value in ".{0,40}") {
        let mut form = good();
        form[at].1 = value;
        if let Err(error) = parse(&form) {
            prop_assert!(Reason::ALL.contains(&error.reason));
        }
    }

    #[test]
    fn a_request_reads_back(
        subject in ".{1,60}", actor in prop::option::of(".{1,60}"), is_id_token in any::<bool>(),
        path in "(/[a-z]{1,8}){0,3}", scope in "[a-z:./]{1,9}( [A-Z]{2,9}){0,3}", client_id in prop::option::of(".{1,30}"),
    ) {
        let subject_token = Token(subject.clone());
        let (parties, kind) = match &actor {
            None => (Parties::OnOwnBehalf { actor_token: subject_token }, JWT),
            Some(actor) => {
                let (subject_token_type, kind) = if is_id_token {
                    (SubjectTokenType::IdToken, ID_TOKEN)
                } else {
                    (SubjectTokenType::AccessToken, ACCESS_TOKEN)
                };
                (Parties::OnBehalfOfUser { subject_token, subject_token_type, actor_token: Token(actor.clone()) }, kind)
            }
        };
        let resource = format!("https://papers.example.com{path}");
        let mut form = changed(&[("subject_token", &subject), ("subject_token_type", kind), ("resource", &resource), ("scope", &scope)]);
        form.retain(|(name, _)| actor.is_some() || !name.starts_with("actor"));
        if let Some(actor) = actor {
            form.iter_mut().filter(|(name, _)| *name == "actor_token").for_each(|(_, value)| value.clone_from(&actor));
        }
        form.extend(client_id.clone().map(|id| ("client_id", id)));
        let expected = TokenExchange {
            parties,
            resource: resource.parse().unwrap(),
            scopes: scope.parse::<ScopeSet>().unwrap(),
            client_id,
        };
        prop_assert_eq!(parse(&form), Ok(expected));
    }
}
