//! What the API server's answer to a write means, beyond that it failed. Pure.

use kube::core::Status;

/// How much of the API server's message goes into a status, in characters.
const MESSAGE_BOUND: usize = 512;

/// What the API server says of a namespace that is being deleted.
const NAMESPACE_TERMINATING: &str = "NamespaceTerminating";

/// Whether the object or its namespace is gone or on its way out, so that there is nothing left to do.
pub(super) fn is_moot(status: &Status) -> bool {
    let mut causes = status.details.iter().flat_map(|details| &details.causes);
    status.is_not_found() || causes.any(|cause| cause.reason == NAMESPACE_TERMINATING)
}

/// The API server's words, if it looked at what was to be written and refuses it: a quota, an admission webhook, a
/// missing permission. What says nothing of the object (a conflict, throttling, our own credentials, an outage) is none.
pub(super) fn of(error: &kube::Error) -> Option<String> {
    let kube::Error::Api(status) = error else { return None };
    let passing = matches!(status.code, 401 | 404 | 408 | 409 | 410 | 429);
    if is_moot(status) || passing || !(400..500).contains(&status.code) {
        return None;
    }
    let words = [&status.message, &status.reason].into_iter().find(|words| !words.is_empty());
    Some(words.map_or_else(|| format!("HTTP {}", status.code), |words| bounded(words)))
}

fn bounded(words: &str) -> String {
    let Some((end, _)) = words.char_indices().nth(MESSAGE_BOUND) else { return words.to_owned() };
    format!("{}…", &words[..end])
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn answer(code: u16, reason: &str, message: &str, details: &Value) -> kube::Error {
        let status = json!({
            "kind": "Status", "status": "Failure", "code": code, "reason": reason, "message": message, "details": details,
        });
        kube::Error::Api(serde_json::from_value(status).unwrap())
    }

    #[test]
    fn only_a_judgement_on_the_object_is_a_refusal() {
        let quota = "serviceaccounts \"agent.a\" is forbidden: exceeded quota: q";
        let webhook = "admission webhook \"w.example.com\" denied the request: being terminated";
        let table = [
            (400, "BadRequest", webhook, Some(webhook)),
            (403, "Forbidden", quota, Some(quota)),
            (403, "Forbidden", webhook, Some(webhook)),
            (422, "Invalid", "name: Invalid value", Some("name: Invalid value")),
            (403, "Forbidden", "", Some("Forbidden")),
            (418, "", "", Some("HTTP 418")),
            (401, "Unauthorized", "Unauthorized", None),
            (404, "NotFound", "namespaces \"ns\" not found", None),
            (409, "AlreadyExists", "already exists", None),
            (409, "Conflict", "the object has been modified", None),
            (429, "TooManyRequests", "slow down", None),
            (500, "InternalError", "failed calling webhook", None),
            (503, "ServiceUnavailable", "later", None),
        ];
        for (code, reason, message, words) in table {
            let error = answer(code, reason, message, &json!({}));
            assert_eq!(of(&error).as_deref(), words, "{code} {reason} {message}");
        }
    }

    #[test]
    fn what_is_going_is_no_refusal() {
        let cause = |reason: &str| json!({"causes": [{"reason": reason, "field": "metadata.namespace"}]});
        let message = "unable to create new content in namespace ns because it is being terminated";
        for (code, reason, details, moot) in [
            (403, "Forbidden", cause("NamespaceTerminating"), true),
            (403, "Forbidden", cause("FieldValueInvalid"), false),
            (403, "Forbidden", json!({}), false),
            (404, "NotFound", json!({}), true),
            (409, "Conflict", json!({}), false),
        ] {
            let error = answer(code, reason, message, &details);
            let kube::Error::Api(status) = &error else { panic!("{error}") };
            assert_eq!(is_moot(status), moot, "{code} {details}");
            assert!(!(moot && of(&error).is_some()), "{code} {details}");
        }
    }

    #[test]
    fn messages_stay_within_bounds() {
        let words = of(&answer(403, "Forbidden", &"ä".repeat(5000), &json!({}))).unwrap();
        assert_eq!(words.chars().count(), MESSAGE_BOUND + 1);
        assert!(words.ends_with("ä…"));
    }
}
