//! The answer, as a table and as JSON.

use super::{
    super::{escaped, escaped_json, table::aligned},
    Inquiry,
    remedy::{mode, remedies},
};
use crate::{
    index::delegation::UserRights,
    policy::exchange::{Half, Reason, Right, Row},
};
use k8s_openapi::jiff::SignedDuration;
use serde_json::{Value, json};

/// Whether all that was asked for would be given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// All of it.
    Yes,
    /// Not all of it.
    No,
    /// What is known is not in the way, and not all is known.
    Unknown,
}

impl Answer {
    fn as_str(self) -> &'static str {
        match self {
            Self::Yes => "yes",
            Self::No => "no",
            Self::Unknown => "unknown",
        }
    }
}

/// What was found out.
#[derive(Clone, Debug)]
pub struct Report {
    /// The answer.
    pub answer: Answer,
    /// Why nothing at all would be given, in the word that records use.
    pub reason: Option<&'static str>,
    /// What would have to change, half by half.
    pub remedies: Vec<String>,
    /// What else should be known.
    pub notes: Vec<String>,
    /// What the answer is about, and by what: name and value.
    facts: Vec<(&'static str, String)>,
    rows: Vec<Row>,
    subject: Value,
    policy: Option<String>,
    lifetime: Option<SignedDuration>,
    is_own: bool,
}

impl Report {
    pub(super) fn new(
        inquiry: &Inquiry<'_>,
        rows: Vec<Row>,
        denial: Option<Reason>,
        policy: Option<String>,
        lifetime: Option<SignedDuration>,
    ) -> Self {
        let is_unknown = |row: &Row| row.right == Some(Right::Unknown);
        let is_left = |row: &Row| row.denied_by().is_none();
        let answer = match denial {
            None if rows.iter().all(is_left) => Answer::Yes,
            None | Some(Reason::UserHalf | Reason::UserHalfUnknown)
                if rows.iter().all(|row| is_left(row) || is_unknown(row)) =>
            {
                Answer::Unknown
            }
            _ => Answer::No,
        };
        let person = inquiry.person.as_ref();
        Self {
            answer,
            reason: denial.map(Reason::as_str),
            remedies: remedies(inquiry, &rows, policy.as_deref()),
            notes: notes(inquiry),
            facts: facts(inquiry, policy.as_deref(), lifetime),
            subject: person.map_or(Value::Null, |person| {
                json!({"issuer": person.issuer, "username": person.username, "groups": person.groups})
            }),
            is_own: person.is_none(),
            rows,
            policy,
            lifetime,
        }
    }

    /// For people.
    pub fn table(&self) -> String {
        let facts = self.facts.iter().map(|(name, value)| [format!("{name}:"), value.clone()]);
        let mut text = aligned(&facts.collect::<Vec<_>>(), 0);
        let head = ["SCOPE", "OFFERED", "GRANTED", "CONSENTED", "LENT", "USER", "GIVEN"].map(str::to_owned);
        let rows = self.rows.iter().map(|row| self.line(row));
        text.push('\n');
        text += &aligned(&std::iter::once(head).chain(rows).collect::<Vec<_>>(), 0);
        if !self.remedies.is_empty() {
            text.push_str("\nIn the way:\n");
        }
        for remedy in &self.remedies {
            text += &format!("* {}\n", escaped(remedy));
        }
        text
    }

    fn line(&self, row: &Row) -> [String; 7] {
        let half = |holds: bool| if holds { "yes" } else { "no" }.to_owned();
        let user = match row.right {
            _ if self.is_own => "-",
            _ if !row.within_ceiling => "no",
            Some(right) => said(right),
            // Nobody asks about a scope that is refused before.
            None => "not asked",
        };
        let given = match (row.denied_by(), self.reason) {
            (Some(Half::User), _) if row.right == Some(Right::Unknown) => "unknown".to_owned(),
            (Some(half), _) => format!("no: {}", half.as_str()),
            (None, Some(reason)) => format!("no: {reason}"),
            (None, None) => "yes".to_owned(),
        };
        let [offered, granted, consented, lent] =
            [row.offered, row.granted, row.consented, row.lent].map(half);
        [row.scope.clone(), offered, granted, consented, lent, user.to_owned(), given]
    }

    /// For programs.
    ///
    /// # Errors
    /// When it cannot be written as JSON.
    pub fn json(&self) -> serde_json::Result<String> {
        let facts = self.facts.iter().map(|(name, value)| ((*name).to_owned(), Value::from(value.clone())));
        let scopes = self.rows.iter().map(|row| {
            json!({
                "scope": row.scope,
                "offered": row.offered,
                "granted": row.granted,
                "consented": row.consented,
                "lent": row.lent,
                "withinTokenScopes": row.within_ceiling,
                "userRight": row.right.map(said),
                "deniedBy": row.denied_by().map(Half::as_str),
            })
        });
        let json = json!({
            "answer": self.answer.as_str(),
            "reason": self.reason,
            "about": facts.collect::<serde_json::Map<_, _>>(),
            "subject": self.subject,
            "policy": self.policy,
            "lifetimeSeconds": self.lifetime.map(|lifetime| lifetime.as_secs()),
            "scopes": scopes.collect::<Vec<_>>(),
            "inTheWay": self.remedies,
            "notes": self.notes,
        });
        Ok(escaped_json(&serde_json::to_string_pretty(&json)?) + "\n")
    }
}

fn said(right: Right) -> &'static str {
    match right {
        Right::Allowed => "yes",
        Right::Denied => "no",
        Right::Unknown => "unknown",
    }
}

fn facts(
    inquiry: &Inquiry<'_>,
    policy: Option<&str>,
    lifetime: Option<SignedDuration>,
) -> Vec<(&'static str, String)> {
    let (question, resource) = (inquiry.question, inquiry.resource);
    let whom = inquiry.person.as_ref().map_or_else(
        || "itself".to_owned(),
        |person| {
            let groups = if person.groups.is_empty() { "none".to_owned() } else { person.groups.join(", ") };
            format!("{} of TrustedIssuer {}, in groups: {groups}", person.username, person.issuer)
        },
    );
    let rights = match &resource.user_rights {
        _ if inquiry.person.is_none() => "of nobody's: the agent acts for itself".to_owned(),
        UserRights::Kubernetes => "by SubjectAccessReview on protectedresources/scopes".to_owned(),
        UserRights::Claims { scope_claim } => format!("by the claim {scope_claim:?} of the user's token"),
    };
    let identifier = resource.identifier.as_str();
    let named = format!("{} ({identifier}) of {}", resource.origin.name, resource.owner);
    let rests = policy.map(|policy| format!("DelegationPolicy {}/{policy}", question.namespace));
    let lives =
        lifetime.map(|lifetime| format!("{} s, and no longer than the tokens shown", lifetime.as_secs()));
    vec![
        ("agent", format!("{}/{}", question.namespace, question.agent)),
        ("for", whom),
        ("mode", mode(inquiry.mode()).to_owned()),
        ("resource", named),
        ("rights", rights),
        ("rests on", rests.unwrap_or_else(|| "nothing".to_owned())),
        ("lives", lives.unwrap_or_else(|| "not at all".to_owned())),
    ]
}

fn notes(inquiry: &Inquiry<'_>) -> Vec<String> {
    let namespace = &inquiry.question.namespace;
    let invalid = inquiry.snapshot.delegation.invalid_policies(namespace);
    let mut notes: Vec<_> = invalid
        .map(|(name, why)| format!("DelegationPolicy {namespace}/{name} is invalid and lends nothing: {why}"))
        .collect();
    if inquiry.has_open_ceiling() {
        notes.push(
            "this TrustedIssuer has tokens whose own scopes bound what may be lent: the answer is about one that names all \
             of these; say which it names by --token-scopes"
                .to_owned(),
        );
    }
    notes
}
