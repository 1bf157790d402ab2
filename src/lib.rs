//! Deputy gives every AI agent on Kubernetes an identity of its own.
//!
//! The house, from the ground up. A room may use the rooms above it in this list and no other (the layering test
//! holds it to that):
//!
//! | room | holds |
//! |---|---|
//! | [`api`] | the custom resources as people write them; names on objects |
//! | [`identity`] | what principals are called |
//! | [`oauth`] | the words of OAuth: requests, refusals, claims; no decision; pure |
//! | [`authzen`] | the words of AuthZEN: a question and its answer; pure |
//! | [`index`] | watch events in, one immutable validated [`index::Snapshot`] out |
//! | [`policy`] | the decisions: the rules, `mutate`, `admit`, `exchange`; pure |
//! | [`token`] | the keys that sign Deputy's own tokens, and the signature; pure |
//! | [`audit`] | the record: what an entry says, how a log is read again after a crash; pure |
//! | [`metrics`] | every metric, by name |
//! | [`verify`] | users' tokens: their issuers' keys, and whom they speak of |
//! | [`admission`] | the webhook's protocol: review in, facts, decision, response out |
//! | [`controller`] | reconciles identities into accounts, and keeps the webhook's certificates |
//! | [`store`] | the record on disk: one writer, durable before the answer |
//! | [`broker`] | the token and the decision endpoint: who asks, for whom, decision, record, answer |
//! | [`plugin`] | what the kubectl plugin says and decides; pure |
//! | [`scan`] | manifests without a cluster: text into objects with lines, the world they make, findings, reports; pure |
//! | [`runtime`] | process plumbing: watches, TLS, servers, metrics' endpoint, shutdown |
//! | [`cmd`] | the command line and the composition roots |

pub mod admission;
pub mod api;
pub mod audit;
pub mod authzen;
pub mod broker;
pub mod cmd;
pub mod controller;
pub mod identity;
pub mod index;
pub mod metrics;
pub mod oauth;
pub mod plugin;
pub mod policy;
pub mod runtime;
pub mod scan;
pub mod store;
pub mod token;
pub mod verify;
