//! The words of OAuth that the broker speaks: requests in, answers and errors out. Plain data, parsers and renderings;
//! no I/O, no decision, and nothing here knows whether a token is any good.
//!
//! A request is [`TokenExchange::parse`]d (RFC 8693) into what can be decided on, or refused with an [`OAuthError`],
//! whose every [`Reason`] is listed once. What is issued are [`Claims`] (RFC 9068), and [`Metadata`] (RFC 8414) says
//! where and how.

mod claims;
mod error;
mod form;
mod metadata;
mod scope;
mod token_exchange;

pub use claims::{Actor, AgentRef, Claims, ObjectVersion, PodRef, Provenance, Rights, TOKEN_TYPE};
pub use error::{Denied, ErrorCode, Half, OAuthError, Reason};
pub use metadata::Metadata;
pub use scope::{Scope, ScopeSet};
pub use token_exchange::{Parties, SubjectTokenType, Token, TokenExchange, TokenResponse};
