//! `kubectl deputy log`: what the broker's replicas have on record, read in their pods with a person's own rights.

mod cluster;
mod replica;
mod span;

use super::{ConnectionOptions, Output, Session};
use crate::{
    audit::{Decision, User},
    plugin::{
        Line,
        record::{Filter, Found, Place, merge},
    },
    runtime::clock,
};
use clap::{Args, Subcommand, ValueEnum};
use k8s_openapi::jiff::Timestamp;
use replica::{Read, Want, read_copy};
use std::path::PathBuf;

#[derive(Args, Debug)]
pub struct Options {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Show an entry whole: by its index, or LOG#INDEX as an answer with a token names it
    Show(Show),
    /// List entries in the order of time
    Search(Search),
}

#[derive(Args, Debug)]
struct Show {
    /// Index of the entry, or LOG#INDEX
    place: Place,
    #[command(flatten)]
    of: Of,
}

#[derive(Args, Debug)]
struct Search {
    /// The agent, as NAMESPACE/NAME or by its name in --namespace
    #[arg(long, value_name = "[NAMESPACE/]NAME")]
    agent: Option<String>,
    /// The user, as policies and RBAC name him; takes the key of the pseudonyms
    #[arg(long, value_name = "NAME", conflicts_with = "directory")]
    user: Option<String>,
    /// The user's issuer: its URL, or the name of a TrustedIssuer; by default the one whose names begin like the user's
    #[arg(long, value_name = "URL|NAME", requires = "user")]
    issuer: Option<String>,
    /// Identifier of the resource, or name of a ProtectedResource
    #[arg(long, value_name = "URI|NAME")]
    resource: Option<String>,
    /// How it was decided
    #[arg(long)]
    decision: Option<Decided>,
    /// Not before: how long ago, as 90s or 1h, or when (RFC 3339)
    #[arg(long, value_name = "TIME", value_parser = span::Bound::read)]
    since: Option<span::Bound>,
    /// Not after, likewise
    #[arg(long, value_name = "TIME", value_parser = span::Bound::read)]
    until: Option<span::Bound>,
    /// Form of the answer
    #[arg(short, long, default_value = "table")]
    output: Output,
    #[command(flatten)]
    of: Of,
}

/// Whose record.
#[derive(Args, Debug)]
struct Of {
    /// A copy of a replica's directory, instead of a cluster
    #[arg(short, long, value_name = "DIRECTORY")]
    directory: Option<PathBuf>,
    /// Namespace that Deputy is installed in
    #[arg(long, default_value = "deputy-system")]
    deputy_namespace: String,
    /// What the names of the release's objects begin with
    #[arg(long, default_value = "deputy")]
    fullname: String,
    #[command(flatten)]
    connection: ConnectionOptions,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Decided {
    Permit,
    Deny,
}

impl Options {
    fn of(&self) -> &Of {
        match &self.what {
            What::Show(show) => &show.of,
            What::Search(search) => &search.of,
        }
    }

    pub(super) fn connection(&self) -> &ConnectionOptions {
        &self.of().connection
    }

    /// Whether no cluster is asked.
    pub(super) fn is_offline(&self) -> bool {
        self.of().directory.is_some()
    }
}

pub(super) async fn run(session: Option<&Session>, options: &Options, tell: &mut (dyn FnMut(Line) + Send)) {
    match &options.what {
        What::Show(show) => show.run(session, tell).await,
        What::Search(search) => search.run(session, clock::now(), tell).await,
    }
}

impl Of {
    /// What is wanted, of every replica or of the copy. What cannot be read is told.
    async fn read(
        &self,
        session: Option<&Session>,
        want: Want,
        tell: &mut (dyn FnMut(Line) + Send),
    ) -> Vec<Found> {
        let all = match (&self.directory, session) {
            (Some(directory), _) => vec![(directory.display().to_string(), read_copy(directory, want))],
            (None, Some(session)) => cluster::read_all(session, self, want, tell).await,
            (None, None) => vec![],
        };
        let mut found = vec![];
        for (name, read) in all {
            let Read { found: some, unread } = read;
            found.extend(some);
            unread.into_iter().for_each(|why| tell(Line::Unknown(format!("the record of {name}: {why}"))));
        }
        merge(&mut found);
        found
    }
}

impl Show {
    async fn run(&self, session: Option<&Session>, tell: &mut (dyn FnMut(Line) + Send)) {
        let Place { origin, index } = &self.place;
        let mut whole = true;
        let mut noting = |line: Line| {
            whole &= !matches!(line, Line::Unknown(_));
            tell(line);
        };
        let mut found = self.of.read(session, Want::One(*index), &mut noting).await;
        found.retain(|found| origin.as_ref().is_none_or(|origin| found.origin == *origin));
        if !found.is_empty() {
            tell(Line::Data(Found::json(&found)));
        } else if whole {
            tell(Line::Failure(format!("no record has an entry {index}{}", of_log(origin.as_deref()))));
        }
    }
}

fn of_log(origin: Option<&str>) -> String {
    origin.map_or_else(String::new, |origin| format!(" of log {origin}"))
}

impl Search {
    async fn run(&self, session: Option<&Session>, now: Timestamp, tell: &mut (dyn FnMut(Line) + Send)) {
        let filter = match self.filter(session, now).await {
            Ok(filter) => filter,
            Err(why) => return tell(Line::Unknown(why)),
        };
        let mut found = self.of.read(session, Want::Between(filter.since, filter.until), tell).await;
        found.retain(|found| filter.takes(&found.entry));
        match self.output {
            Output::Json => tell(Line::Data(Found::json(&found))),
            Output::Table if found.is_empty() => {
                tell(Line::Warning("nothing of that is on record in what could be read".to_owned()));
            }
            Output::Table => {
                let named: Option<(&User, &str)> = filter.user.as_ref().zip(self.user.as_deref());
                tell(Line::Data(Found::table(&found, named)));
            }
        }
    }

    async fn filter(&self, session: Option<&Session>, now: Timestamp) -> Result<Filter, String> {
        let agent = self.agent.as_deref().map(|agent| match (agent.split_once('/'), session) {
            (Some((namespace, name)), _) => Ok((namespace.to_owned(), name.to_owned())),
            (None, Some(session)) => Ok((session.namespace.clone(), agent.to_owned())),
            (None, None) => Err(format!("--agent {agent}: with --directory, name its namespace too")),
        });
        let user = match (&self.user, session) {
            (Some(user), Some(session)) => {
                Some(cluster::pseudonym(session, &self.of, user, self.issuer.as_deref()).await?)
            }
            _ => None,
        };
        let resource = match (&self.resource, session) {
            (Some(resource), Some(session)) if !resource.contains("://") => {
                Some(cluster::identifier(session, resource).await?)
            }
            (resource, _) => resource.clone(),
        };
        let decision = self.decision.map(|decided| match decided {
            Decided::Permit => Decision::Permit,
            Decided::Deny => Decision::Deny,
        });
        let at = |bound: Option<span::Bound>| bound.map(|bound| bound.at(now));
        let (since, until) = (at(self.since), at(self.until));
        Ok(Filter { agent: agent.transpose()?, user, resource, decision, since, until })
    }
}
