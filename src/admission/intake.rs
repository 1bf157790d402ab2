//! From a request's bytes to a review, with everything bounded: the size of one body, the memory of all in hand, and
//! the time they may take. The endpoint has to answer whoever reaches it.

use super::{handler::Limits, review::Review, weight::Weight};
use crate::metrics::DecodeError;
use axum::{
    body::{Body, Bytes},
    http::{HeaderMap, StatusCode, header},
};
use futures::StreamExt as _;
use serde::Deserialize;
use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::{Instant, timeout_at},
};

/// Why a request is not a review that can be judged. No message repeats what was sent: it may hold a key.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(super) enum NoReview {
    /// Another content type.
    #[error("send application/json")]
    ContentType,
    /// A body beyond the limit.
    #[error("the review is larger than {0} bytes")]
    TooLarge(usize),
    /// A body that is small enough, and would not be once it is parsed.
    #[error(
        "the object is too large to be judged: it has about {values} fields and list items; \
         use fewer, or move lists into a file"
    )]
    TooManyValues {
        /// Values of the body.
        values: usize,
        /// The request it speaks of, if that much can be read.
        uid: Option<String>,
    },
    /// A body that did not come, or not whole.
    #[error("the review did not arrive whole and in time")]
    Incomplete,
    /// No room for another body.
    #[error("too many reviews at once; try again")]
    Overload,
    /// Not the JSON of a review.
    #[error("the body is no AdmissionReview: it breaks off or goes wrong at line {line}, column {column}")]
    Malformed {
        /// Line of the body.
        line: usize,
        /// Column of the line.
        column: usize,
        /// The request it speaks of, if that much can be read.
        uid: Option<String>,
    },
    /// Another kind, or another version of it.
    #[error("this webhook speaks admission.k8s.io/v1 AdmissionReview only")]
    WrongKind {
        /// The request it speaks of, if there is one.
        uid: Option<String>,
    },
}

impl NoReview {
    /// How it is answered and counted.
    pub(super) fn classes(&self) -> (StatusCode, DecodeError) {
        match self {
            Self::ContentType => (StatusCode::UNSUPPORTED_MEDIA_TYPE, DecodeError::ContentType),
            Self::TooLarge(_) | Self::TooManyValues { .. } => {
                (StatusCode::PAYLOAD_TOO_LARGE, DecodeError::BodyTooLarge)
            }
            Self::Incomplete => (StatusCode::REQUEST_TIMEOUT, DecodeError::BodyIncomplete),
            Self::Overload => (StatusCode::SERVICE_UNAVAILABLE, DecodeError::Overload),
            Self::Malformed { .. } => (StatusCode::BAD_REQUEST, DecodeError::Malformed),
            Self::WrongKind { .. } => (StatusCode::BAD_REQUEST, DecodeError::WrongKind),
        }
    }

    /// The request to answer, if it can be told: the API server shows the reason then, instead of a status code.
    pub(super) fn uid(&self) -> Option<&str> {
        match self {
            Self::TooManyValues { uid, .. } | Self::Malformed { uid, .. } | Self::WrongKind { uid } => {
                uid.as_deref()
            }
            Self::ContentType | Self::TooLarge(_) | Self::Incomplete | Self::Overload => None,
        }
    }
}

/// Bytes a body's buffer has at least, if the body may be that long.
const LEAST_BODY: usize = 16 << 10;

/// Takes bodies in. Budgets are in KiB.
#[derive(Debug)]
pub(super) struct Intake {
    limits: Limits,
    /// For bodies that arrive and are parsed.
    bodies: Semaphore,
    /// For what was parsed and is being judged.
    reviews: Semaphore,
}

/// A review in hand, and its share of the memory.
pub(super) struct Taken<'a> {
    pub(super) review: Review,
    /// KiB it may take.
    pub(super) weight: u32,
    _share: SemaphorePermit<'a>,
}

impl Intake {
    pub(super) fn new(limits: Limits) -> Self {
        let budget = |bytes| Semaphore::new(kibibytes(bytes) as usize);
        Self { bodies: budget(limits.bodies_bytes), reviews: budget(limits.reviews_bytes), limits }
    }

    /// The review, which holds its share of the memory until it is dropped.
    pub(super) async fn read(&self, headers: &HeaderMap, body: Body) -> Result<Taken<'_>, NoReview> {
        if !is_json(headers) {
            return Err(NoReview::ContentType);
        }
        let limit = self.limits.body_bytes;
        let length = headers.get(header::CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse::<usize>().ok());
        if length.is_some_and(|length| length > limit) {
            return Err(NoReview::TooLarge(limit));
        }
        let deadline = Instant::now() + self.limits.body_time;
        let (bytes, _in_body) = self.collect(body, length.unwrap_or_default(), deadline).await?;
        let weight = Weight::of(&bytes);
        if weight.parsed_bytes() > self.limits.review_bytes {
            let uid = Envelope::of(&bytes).uid();
            return Err(NoReview::TooManyValues { values: weight.values(), uid });
        }
        let weight = kibibytes(weight.parsed_bytes());
        let share = self.room(&self.reviews, weight, deadline).await?;
        Ok(Taken { review: decode(&bytes)?, weight, _share: share })
    }

    /// The whole body, if it is within its limit, and its share of the memory. What has not arrived holds none, so that
    /// connections that announce much and send nothing keep nobody out.
    async fn collect(
        &self,
        body: Body,
        announced: usize,
        deadline: Instant,
    ) -> Result<(Vec<u8>, SemaphorePermit<'_>), NoReview> {
        let limit = self.limits.body_bytes;
        let mut share = self.room(&self.bodies, 0, deadline).await?;
        let mut whole: Vec<u8> = vec![];
        let mut chunks = body.into_data_stream();
        while let Some(chunk) = timeout_at(deadline, chunks.next()).await.map_err(|_| NoReview::Incomplete)? {
            let chunk: Bytes = chunk.map_err(|_| NoReview::Incomplete)?;
            let length = whole.len() + chunk.len();
            if length > limit {
                return Err(NoReview::TooLarge(limit));
            }
            if length > whole.capacity() {
                // Twice as much, as a vector grows, but never more than there is to come.
                let next = (2 * length).max(LEAST_BODY).min(announced.max(length));
                share.merge(self.room(&self.bodies, kibibytes(next - whole.capacity()), deadline).await?);
                whole.reserve_exact(next - whole.len());
            }
            whole.extend_from_slice(&chunk);
        }
        Ok((whole, share))
    }

    /// Part of a budget. It is free soon, or not in time to be of use.
    async fn room<'a>(
        &self,
        budget: &'a Semaphore,
        kibibytes: u32,
        deadline: Instant,
    ) -> Result<SemaphorePermit<'a>, NoReview> {
        let soon = deadline.min(Instant::now() + self.limits.body_time / 3);
        match timeout_at(soon, budget.acquire_many(kibibytes)).await {
            Ok(Ok(room)) => Ok(room),
            _ => Err(NoReview::Overload),
        }
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    let value = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let essence = value.and_then(|value| value.split(';').next()).unwrap_or_default();
    essence.trim().eq_ignore_ascii_case("application/json")
}

fn decode(bytes: &[u8]) -> Result<Review, NoReview> {
    let broken = match serde_json::from_slice::<Review>(bytes) {
        Ok(review) if review.is_ours() => return Ok(review),
        Ok(review) => return Err(NoReview::WrongKind { uid: Some(review.request.uid) }),
        Err(broken) => broken,
    };
    let envelope = Envelope::of(bytes);
    if envelope.kind.as_ref().is_some_and(|kind| kind != Review::KIND) {
        return Err(NoReview::WrongKind { uid: envelope.uid() });
    }
    Err(NoReview::Malformed { line: broken.line(), column: broken.column(), uid: envelope.uid() })
}

/// As much of a review as is needed to say whose it is.
#[derive(Default, Deserialize)]
struct Envelope {
    kind: Option<String>,
    request: Option<EnvelopeRequest>,
}

#[derive(Deserialize)]
struct EnvelopeRequest {
    uid: Option<String>,
}

impl Envelope {
    /// Keeps no other value, whatever the document holds. Empty if it is not valid.
    fn of(bytes: &[u8]) -> Self {
        serde_json::from_slice(bytes).unwrap_or_default()
    }

    fn uid(self) -> Option<String> {
        self.request?.uid
    }
}

/// Rounded up, and never nothing.
fn kibibytes(bytes: usize) -> u32 {
    u32::try_from(bytes.div_ceil(1024).max(1)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;
    use serde_json::{Value, json};

    fn review() -> Value {
        json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": {
            "uid": "u", "operation": "CREATE", "namespace": "ns", "object": {},
            "resource": {"group": "", "version": "v1", "resource": "pods"}}})
    }

    fn decoded(edit: impl FnOnce(&mut Value)) -> Result<Review, NoReview> {
        let mut review = review();
        edit(&mut review);
        decode(review.to_string().as_bytes())
    }

    #[test]
    fn a_review_is_told_from_everything_else() {
        assert_eq!(decoded(|_| ()).ok().unwrap().request.uid, "u");
        let of_u = || Some("u".to_owned());
        let wrong = decoded(|r| r["apiVersion"] = json!("admission.k8s.io/v1beta1")).err().unwrap();
        assert_eq!(wrong, NoReview::WrongKind { uid: of_u() });
        let wrong = decoded(|r| *r = json!({"apiVersion": "v1", "kind": "Pod"})).err().unwrap();
        assert_eq!(wrong, NoReview::WrongKind { uid: None });
        let broken = decoded(|r| r["request"]["resource"] = json!("pods")).err().unwrap();
        assert_eq!(broken.uid(), Some("u"));
        let broken = decode(br#"{"kind":"AdmissionReview","request":{"uid":"u""#).err().unwrap();
        assert_eq!(broken.uid(), None);
    }

    #[test]
    fn messages_repeat_nothing_of_the_body() {
        let broken = decoded(|r| r["request"]["operation"] = json!(["sk-secret"])).err().unwrap();
        assert!(matches!(broken, NoReview::Malformed { .. }));
        assert!(!broken.to_string().contains("secret"), "{broken}");
    }

    #[test]
    fn parameters_of_the_content_type_do_not_matter() {
        for (value, json) in [
            ("application/json", true),
            ("Application/JSON ; charset=utf-8", true),
            ("application/jsonp", false),
            ("text/plain", false),
        ] {
            let headers = HeaderMap::from_iter([(header::CONTENT_TYPE, HeaderValue::from_static(value))]);
            assert_eq!(is_json(&headers), json, "{value}");
        }
        assert!(!is_json(&HeaderMap::new()));
    }
}
