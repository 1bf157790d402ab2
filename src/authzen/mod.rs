//! The words of AuthZEN 1.0 (OpenID AuthZEN Authorization API): a question whether somebody may do something, and the
//! answer. Plain data, a parser and a rendering; no I/O and no decision.
//!
//! AuthZEN has no place for a token. It stands in `context.access_token`; what the question says besides of its subject must
//! be what that token says ([`EvaluationRequest::is_about`]).

mod request;
mod response;

pub use request::{EvaluationRequest, TOOL_CALL};
pub use response::{Evaluation, Rights};
