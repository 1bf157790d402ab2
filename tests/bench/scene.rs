//! What is asked, ready to be sent: nothing is made while the clock runs.

use super::desk::{ACCOUNT, BROKER, CLUSTER, IDP, RESOURCE, projected_until};
use aws_lc_rs::rand;
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use deputy::{
    runtime::clock,
    token::{Algorithm, Signer},
};
use serde_json::{Value, json};

/// Who may ask what an agent may do.
const CALLER: &str = "system:serviceaccount:papers:api";
const URN: &str = "urn%3Aietf%3Aparams%3Aoauth%3A";

/// 128 random bits, as the binary has them.
pub(super) fn random() -> String {
    let mut bytes = [0; 16];
    rand::fill(&mut bytes).unwrap();
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

/// The identity provider's side, the agent's and the resource's.
pub(super) struct Scene {
    idp: Signer,
    actor: String,
    caller: String,
}

impl Scene {
    /// With the identity provider's key.
    pub(super) fn new(idp: &[u8]) -> Self {
        let ends = clock::now().as_second() + 3600;
        Self {
            idp: Signer::new(Algorithm::Es256, idp).unwrap(),
            actor: projected_until(ACCOUNT, ends),
            caller: projected_until(CALLER, ends),
        }
    }

    /// A token of the `n`th user's, as new as can be and as long as they are.
    pub(super) fn user(&self, n: usize) -> String {
        let now = clock::now().as_second();
        let claims = json!({"iss": IDP, "aud": "deputy", "sub": format!("user-{n}"), "groups": ["readers", "staff"],
            "scope": "openid profile read search", "iat": now - 5, "exp": now + 850, "jti": random(), "azp": "workbench",
            "auth_time": now - 60, "sid": random(), "name": format!("User Number {n}"),
            "email": format!("user-{n}@example.com"), "email_verified": true, "locale": "en"});
        self.idp.sign("at+jwt", claims.to_string().as_bytes()).unwrap()
    }

    /// The form that exchanges `subject`.
    pub(super) fn form(&self, subject: &str) -> String {
        format!(
            "grant_type={URN}grant-type%3Atoken-exchange&subject_token={subject}&subject_token_type={URN}token-type\
             %3Aaccess_token&actor_token={}&actor_token_type={URN}token-type%3Ajwt&resource=https%3A%2F%2F\
             papers.example.com%2Fmcp&scope=read+search",
            self.actor
        )
    }

    /// The request that exchanges `subject`.
    pub(super) fn exchange(&self, subject: &str) -> Vec<u8> {
        post("/token", "content-type: application/x-www-form-urlencoded", &self.form(subject))
    }

    /// The question whether `token`, of the `n`th user's, permits this tool.
    pub(super) fn question(n: usize, tool: &str, token: &str) -> Value {
        let act = json!({"iss": CLUSTER, "sub": ACCOUNT, "sub_profile": "ai_agent"});
        json!({"subject": {"type": "user", "id": format!("corp:user-{n}"), "properties": {"act": act}},
               "action": {"name": "tools/call"}, "resource": {"type": "tool", "id": tool},
               "context": {"access_token": token, "resource": RESOURCE}})
    }

    /// The credential of who asks.
    pub(super) fn credential(&self) -> String {
        format!("Bearer {}", self.caller)
    }

    /// The request that asks it.
    pub(super) fn evaluation(&self, n: usize, tool: &str, token: &str) -> Vec<u8> {
        let headers = format!("content-type: application/json\r\nauthorization: {}", self.credential());
        post("/access/v1/evaluation", &headers, &Self::question(n, tool, token).to_string())
    }
}

/// `request` sent to another path.
pub(super) fn elsewhere(request: &[u8], path: &str) -> Vec<u8> {
    let text = str::from_utf8(request).unwrap();
    let (_, rest) = text.strip_prefix("POST ").unwrap().split_once(' ').unwrap();
    format!("POST {path} {rest}").into_bytes()
}

fn post(path: &str, headers: &str, body: &str) -> Vec<u8> {
    let host = BROKER.trim_start_matches("https://");
    let length = body.len();
    format!("POST {path} HTTP/1.1\r\nhost: {host}\r\n{headers}\r\ncontent-length: {length}\r\n\r\n{body}")
        .into_bytes()
}
