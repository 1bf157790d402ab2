//! One question to the API server: an object that is created for its answer.

use axum::body::{Body, to_bytes};
use http::{Method, Request, StatusCode, header::CONTENT_TYPE};
use kube::{Client, Resource};
use serde::{Serialize, de::DeserializeOwned};

/// Most bytes of an answer.
const ANSWER: usize = 1 << 20;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unanswered {
    /// It cannot be asked, or not understood.
    #[error("{0}")]
    Malformed(String),
    /// The API server cannot be reached, or says that it does not do it.
    #[error(transparent)]
    Refused(#[from] kube::Error),
    /// It is neither an answer nor an error: nobody is followed elsewhere, and what stands beside is not read.
    #[error("the API server answered {0}")]
    Status(StatusCode),
}

/// What the API server makes of `question`.
pub(super) async fn ask<K>(client: &Client, question: &K) -> Result<K, Unanswered>
where
    K: Resource<DynamicType = ()> + Serialize + DeserializeOwned,
{
    let malformed = |error: &dyn std::fmt::Display| Unanswered::Malformed(error.to_string());
    let body = serde_json::to_vec(question).map_err(|error| malformed(&error))?;
    let request = Request::builder()
        .method(Method::POST)
        .uri(K::url_path(&(), None))
        .header(CONTENT_TYPE, "application/json")
        .body(body.into())
        .map_err(|error| malformed(&error))?;
    let response = client.send(request).await?;
    let status = response.status();
    if !matches!(status, StatusCode::OK | StatusCode::CREATED) {
        return Err(Unanswered::Status(status));
    }
    let body = to_bytes(Body::new(response.into_body()), ANSWER).await.map_err(|error| malformed(&error))?;
    serde_json::from_slice(&body).map_err(|error| malformed(&error))
}
