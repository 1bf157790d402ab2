//! The question.

use crate::oauth::{Claims, OAuthError, Reason};
use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, MapAccess, Visitor},
};
use serde_json::Value;
use std::{borrow::Cow, fmt};

/// The action of calling a tool, as the Model Context Protocol names it.
pub const TOOL_CALL: &str = "tools/call";
/// `type` of a tool.
const TOOL: &str = "tool";
/// `type` of a resource, whose `id` is its identifier.
const PROTECTED_RESOURCE: &str = "protected_resource";
/// `type` of a subject whose profile the asker does not know (COAZ-MCP).
const IDENTITY: &str = "identity";

/// Whether a subject may do an action on a resource. What is not known of it is ignored; nothing of it is believed.
#[derive(Deserialize)]
pub struct EvaluationRequest<'a> {
    #[serde(borrow)]
    subject: Subject<'a>,
    #[serde(borrow)]
    action: Named<'a>,
    #[serde(borrow)]
    resource: Entity<'a>,
    #[serde(borrow, default)]
    context: Option<Context<'a>>,
}

impl fmt::Debug for EvaluationRequest<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EvaluationRequest")
    }
}

#[derive(Deserialize)]
struct Subject<'a> {
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    id: Cow<'a, str>,
    #[serde(borrow, default)]
    properties: Option<Properties<'a>>,
}

#[derive(Deserialize)]
struct Properties<'a> {
    #[serde(borrow, default)]
    act: Option<Act<'a>>,
}

#[derive(Deserialize)]
struct Act<'a> {
    #[serde(borrow)]
    iss: Cow<'a, str>,
    #[serde(borrow)]
    sub: Cow<'a, str>,
    #[serde(borrow, default)]
    sub_profile: Option<Cow<'a, str>>,
    act: Option<IgnoredAny>,
}

#[derive(Deserialize)]
struct Named<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
    #[serde(default, rename = "properties")]
    _properties: Option<Object>,
}

#[derive(Deserialize)]
struct Entity<'a> {
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    id: Cow<'a, str>,
    #[serde(default, rename = "properties")]
    _properties: Option<Object>,
}

#[derive(Default, Deserialize)]
struct Context<'a> {
    #[serde(borrow, default)]
    access_token: Option<Cow<'a, str>>,
    /// COAZ-MCP: the token's `client_id`.
    #[serde(borrow, default)]
    agent: Option<Cow<'a, str>>,
}

/// An object of which nothing is kept.
struct Object;

impl<'de> Deserialize<'de> for Object {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;
        impl<'de> Visitor<'de> for Members {
            type Value = Object;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Object, A::Error> {
                while members.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(Object)
            }
        }
        deserializer.deserialize_map(Members)
    }
}

impl<'a> EvaluationRequest<'a> {
    /// Reads a body.
    ///
    /// # Errors
    /// [`Reason::EvaluationMalformed`], with what is wrong first. A member of this form that is there twice is refused (RFC
    /// 8259, section 4).
    pub fn parse(body: &'a [u8]) -> Result<Self, OAuthError> {
        serde_json::from_slice(body)
            .map_err(|_| OAuthError { detail: Some(malformed(body)), ..Reason::EvaluationMalformed.into() })
    }

    /// The token that the subject presented, if the question has one.
    pub fn access_token(&self) -> Option<&str> {
        self.context.as_ref()?.access_token.as_deref().filter(|token| !token.is_empty())
    }

    /// Whether what it says of its subject is what a token with these `claims` says. It may leave out the actor, of whom the
    /// token speaks; what it does say must be so.
    pub fn is_about(&self, claims: &Claims) -> bool {
        let Subject { kind, id, properties } = &self.subject;
        let act = properties.as_ref().and_then(|properties| properties.act.as_ref());
        let agent = self.context.as_ref().and_then(|context| context.agent.as_deref());
        (*kind == claims.sub_profile || kind == IDENTITY)
            && *id == claims.sub
            && act.is_none_or(|act| act.is_of(claims))
            && agent.is_none_or(|agent| agent == claims.client_id)
    }

    /// The tool that is to be called, if it asks for that.
    pub fn tool(&self) -> Option<&str> {
        (self.action.name == TOOL_CALL && self.resource.kind == TOOL).then_some(&*self.resource.id)
    }

    /// The action on the resource `identifier` itself, if it asks for one.
    pub fn action_on(&self, identifier: &str) -> Option<&str> {
        let is_meant = self.resource.kind == PROTECTED_RESOURCE && self.resource.id == identifier;
        is_meant.then_some(&*self.action.name)
    }
}

impl Act<'_> {
    fn is_of(&self, claims: &Claims) -> bool {
        let Self { iss, sub, sub_profile, act } = self;
        claims.act.as_ref().is_some_and(|of| {
            *iss == of.iss && *sub == of.sub && sub_profile.as_ref().is_none_or(|is| *is == of.sub_profile)
        }) && act.is_none()
    }
}

/// What a body lacks, in the order of AuthZEN's own text.
fn malformed(body: &[u8]) -> &'static str {
    let Ok(Value::Object(body)) = serde_json::from_slice(body) else {
        return "the body must be one JSON object";
    };
    let body = Value::Object(body);
    let texts = [
        ("/subject/type", "subject.type must be a string"),
        ("/subject/id", "subject.id must be a string"),
        ("/action/name", "action.name must be a string"),
        ("/resource/type", "resource.type must be a string"),
        ("/resource/id", "resource.id must be a string"),
    ];
    let objects = [
        ("/subject", "subject must be an object"),
        ("/action", "action must be an object"),
        ("/resource", "resource must be an object"),
    ];
    let no_object = objects.iter().find(|(at, _)| !body.pointer(at).is_some_and(Value::is_object));
    let no_text = texts.iter().find(|(at, _)| !body.pointer(at).is_some_and(Value::is_string));
    match (no_object, no_text) {
        (Some((_, told)), _) | (None, Some((_, told))) => told,
        (None, None) => {
            "a member is there twice, or properties, context, act or access_token are of another type"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const AUDIENCE: &str = "https://papers.example.com";
    const ACCOUNT: &str = "system:serviceaccount:research:agent.researcher";

    fn question() -> Value {
        json!({"subject": {"type": "user", "id": "corp:alice", "properties": {"department": "x", "act": {
                    "iss": "https://cluster", "sub": ACCOUNT, "sub_profile": "ai_agent"}}},
               "action": {"name": "tools/call", "properties": {"x": [1]}},
               "resource": {"type": "tool", "id": "search_papers", "properties": {}},
               "context": {"access_token": "a.b.c", "time": "x"}, "unknown": [1, {"a": null}]})
    }

    fn claims() -> Claims {
        let version = json!({"uid": "u", "generation": 1});
        let claims = json!({"iss": "https://deputy", "aud": AUDIENCE, "sub": "corp:alice", "sub_profile": "user",
            "act": {"iss": "https://cluster", "sub": ACCOUNT, "sub_profile": "ai_agent"}, "client_id": ACCOUNT,
            "scope": "read", "iat": 1, "exp": 2, "jti": "j", "txn": "t", "deputy.dev": {
                "agent": {"namespace": "research", "name": "researcher", "uid": "u"}, "serviceaccount_uid": "s",
                "pod": {"name": "p", "uid": "u"}, "policy": version, "resource": version, "lineage": []}});
        serde_json::from_value(claims).unwrap()
    }

    fn edited(edit: impl FnOnce(&mut Value)) -> Value {
        let mut question = question();
        edit(&mut question);
        question
    }

    #[test]
    fn a_question_says_what_is_to_be_done_and_by_whose_token() {
        let body = question().to_string();
        let request = EvaluationRequest::parse(body.as_bytes()).unwrap();
        assert_eq!((request.access_token(), request.tool()), (Some("a.b.c"), Some("search_papers")));
        assert_eq!(request.action_on(AUDIENCE), None);
        let body =
            edited(|q| q["resource"] = json!({"type": "protected_resource", "id": AUDIENCE})).to_string();
        let request = EvaluationRequest::parse(body.as_bytes()).unwrap();
        assert_eq!((request.tool(), request.action_on(AUDIENCE)), (None, Some("tools/call")));
        assert_eq!(request.action_on("https://other.example.com"), None);
        for none in [json!({}), json!(null), json!({"access_token": null}), json!({"access_token": ""})] {
            let body = edited(|q| q["context"] = none.clone()).to_string();
            assert_eq!(EvaluationRequest::parse(body.as_bytes()).unwrap().access_token(), None, "{none}");
        }
    }

    /// What the certification of AuthZEN 1.0 wants refused.
    #[test]
    fn a_malformed_question_is_told_what_is_wrong() {
        type Edit = fn(&mut Value);
        let table: [(&str, Edit); 14] = [
            ("subject must be", |q| _ = q.as_object_mut().unwrap().remove("subject")),
            ("action must be", |q| _ = q.as_object_mut().unwrap().remove("action")),
            ("resource must be", |q| _ = q.as_object_mut().unwrap().remove("resource")),
            ("subject must be", |q| q["subject"] = json!("alice")),
            ("subject.type", |q| _ = q["subject"].as_object_mut().unwrap().remove("type")),
            ("subject.id", |q| q["subject"]["id"] = json!(null)),
            ("action.name", |q| q["action"]["name"] = json!(123)),
            ("action.name", |q| q["action"] = json!({})),
            ("resource.type", |q| q["resource"]["type"] = json!(["tool"])),
            ("resource.id", |q| _ = q["resource"].as_object_mut().unwrap().remove("id")),
            ("another type", |q| q["context"] = json!("x")),
            ("another type", |q| q["context"]["access_token"] = json!(1)),
            ("another type", |q| q["subject"]["properties"]["act"] = json!("x")),
            ("another type", |q| q["action"]["properties"] = json!([])),
        ];
        for (told, edit) in table {
            let body = edited(edit).to_string();
            let refused = EvaluationRequest::parse(body.as_bytes()).unwrap_err();
            assert_eq!(refused.reason, Reason::EvaluationMalformed);
            assert!(refused.detail.unwrap().contains(told), "{told}: {:?}", refused.detail);
        }
        let twice = question().to_string().replacen("\"id\"", "\"id\":\"corp:bob\",\"id\"", 1);
        for body in ["", "{", "[]", "\"x\"", "{} {}", &twice, &"[".repeat(30_000)] {
            assert!(EvaluationRequest::parse(body.as_bytes()).is_err(), "{body:.20}");
        }
    }

    #[test]
    fn it_is_about_the_token_or_it_lies() {
        type Edit = fn(&mut Value);
        let table: [(Edit, bool); 12] = [
            (|_| {}, true),
            (|q| q["subject"]["type"] = json!("identity"), true),
            (|q| q["context"]["agent"] = json!(ACCOUNT), true),
            (|q| q["subject"]["properties"] = json!({}), true),
            (|q| _ = q["subject"]["properties"]["act"].as_object_mut().unwrap().remove("sub_profile"), true),
            (|q| q["subject"]["type"] = json!("ai_agent"), false),
            (|q| q["subject"]["id"] = json!("corp:bob"), false),
            (|q| q["subject"]["properties"]["act"]["sub"] = json!("system:serviceaccount:a:agent.b"), false),
            (|q| q["subject"]["properties"]["act"]["iss"] = json!("https://other"), false),
            (|q| q["subject"]["properties"]["act"]["sub_profile"] = json!("user"), false),
            (|q| q["subject"]["properties"]["act"]["act"] = json!({"sub": "x"}), false),
            (|q| q["context"]["agent"] = json!("other"), false),
        ];
        for (edit, expected) in table {
            let body = edited(edit).to_string();
            let request = EvaluationRequest::parse(body.as_bytes()).unwrap();
            assert_eq!(request.is_about(&claims()), expected, "{body}");
        }
        let (body, own) = (question().to_string(), Claims { act: None, ..claims() });
        let request = EvaluationRequest::parse(body.as_bytes()).unwrap();
        assert!(!request.is_about(&own), "nobody acts by that token");
    }
}
