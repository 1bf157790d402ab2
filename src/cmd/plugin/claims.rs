//! `kubectl deputy claims`: who holds which static credential, and who waits for it.

use super::{ConnectionOptions, Output, Session};
use crate::plugin::{Holdings, Line};
use clap::Args;

#[derive(Args, Debug)]
pub struct Options {
    /// Of every namespace
    #[arg(short = 'A', long, conflicts_with = "namespace")]
    all_namespaces: bool,
    /// Form of the answer
    #[arg(short, long, default_value = "table")]
    output: Output,
    #[command(flatten)]
    pub(super) connection: ConnectionOptions,
}

pub(super) async fn run(session: &Session, options: &Options, tell: &mut (dyn FnMut(Line) + Send)) {
    let across = options.all_namespaces;
    let (claims, failure) = session.claims().await;
    if let Some(failure) = failure {
        // Without every claim, what looks free may be held.
        tell(Line::Failure(format!("who holds what cannot be seen: {failure}")));
        return;
    }
    let (identities, failure) = session.identities(across).await;
    let identities = failure.is_none().then_some(identities);
    if let Some(failure) = failure {
        tell(Line::Failure(format!("who waits cannot be seen: {failure}")));
    }
    let namespace = (!across).then_some(session.namespace.as_str());
    let holdings = Holdings::new(claims, identities, namespace);
    for name in &holdings.unreadable {
        tell(Line::Warning(format!("CredentialClaim {name} cannot be read, so nobody holds what it is on")));
    }
    match options.output {
        Output::Json => match holdings.json() {
            Ok(json) => tell(Line::Data(json)),
            Err(error) => tell(Line::Failure(error.to_string())),
        },
        Output::Table if holdings.all.is_empty() => {
            let place =
                namespace.map_or_else(|| "this cluster".to_owned(), |name| format!("namespace {name}"));
            tell(Line::Warning(format!("no credential is held or waited for in {place}")));
        }
        Output::Table => tell(Line::Data(holdings.table())),
    }
}
