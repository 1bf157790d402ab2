//! What of the record is asked of a cluster: the replicas, and who a user is in it.

use super::{
    Of,
    replica::{Read, Want, read},
};
use crate::{
    api::v1alpha1::{ProtectedResource, TrustedIssuer},
    audit::{PSEUDONYM_KEY_ENTRY, PseudonymKey, User},
    cmd::plugin::Session,
    index::{Index, Observed, ReservedAudiences},
    plugin::{Line, Right, can_i::Asked},
};
use futures::{StreamExt as _, stream};
use k8s_openapi::api::{
    apps::v1::StatefulSet,
    core::v1::{Pod, Secret},
};
use kube::{Api, api::ListParams};
use std::{collections::BTreeSet, time::Duration};
use tokio::time::timeout;

/// Where a replica shows its record, within its pod.
const PORT: u16 = 9444;
/// Replicas that are read at a time.
const AT_A_TIME: usize = 4;
/// How long it is waited for why a connection into a pod broke.
const REASON: Duration = Duration::from_secs(2);

/// Reads what is wanted of every replica; each by its name, with what of it could not be read.
pub(super) async fn read_all(
    session: &Session,
    of: &Of,
    want: Want,
    tell: &mut (dyn FnMut(Line) + Send),
) -> Vec<(String, Read)> {
    let mut seen = true;
    let mut unseen = |why| {
        seen = false;
        tell(Line::Unknown(why));
    };
    let names = replicas(session, of, &mut unseen).await;
    if names.is_empty() && seen {
        let (namespace, fullname) = (&of.deputy_namespace, &of.fullname);
        tell(Line::Unknown(format!(
            "there is no replica {fullname}-broker-N in namespace {namespace}; see --deputy-namespace and --fullname"
        )));
    }
    let all = stream::iter(names).map(async |name| {
        let read = read_one(session, of, &name, want).await;
        (name, read)
    });
    all.buffered(AT_A_TIME).collect().await
}

/// The names of those that are there and of those that should be.
async fn replicas(session: &Session, of: &Of, unseen: &mut (dyn FnMut(String) + Send)) -> BTreeSet<String> {
    let (namespace, set) = (&of.deputy_namespace, format!("{}-broker", of.fullname));
    let sets: Api<StatefulSet> = Api::namespaced(session.client.clone(), namespace);
    let mut names = BTreeSet::new();
    match session.ask(Right::Audit, sets.get(&set)).await {
        Ok(found) => {
            let replicas = found.spec.and_then(|spec| spec.replicas).unwrap_or(1);
            names.extend((0..replicas).map(|number| format!("{set}-{number}")));
        }
        Err(failure) if failure.is("NotFound") => {}
        Err(failure) => unseen(format!("how many replicas there should be cannot be seen: {failure}")),
    }
    let pods: Api<Pod> = Api::namespaced(session.client.clone(), namespace);
    let selector =
        ListParams::default().labels("app.kubernetes.io/name=deputy,app.kubernetes.io/component=broker");
    match session.ask(Right::Audit, pods.list(&selector)).await {
        Ok(found) => {
            let ours = |name: &String| {
                name.strip_prefix(&set)
                    .and_then(|rest| rest.strip_prefix('-'))
                    .is_some_and(|number| number.parse::<u32>().is_ok())
            };
            names.extend(found.items.into_iter().filter_map(|pod| pod.metadata.name).filter(ours));
        }
        Err(failure) => unseen(format!("which replicas there are cannot be seen: {failure}")),
    }
    names
}

async fn read_one(session: &Session, of: &Of, name: &str, want: Want) -> Read {
    let unread = |why: String| Read { unread: vec![why], ..Read::default() };
    let pods: Api<Pod> = Api::namespaced(session.client.clone(), &of.deputy_namespace);
    let mut forwarded = match session.ask(Right::Audit, pods.portforward(name, &[PORT])).await {
        Ok(forwarded) => forwarded,
        Err(failure) => return unread(format!("it cannot be reached: {failure}")),
    };
    let (Some(stream), Some(why)) = (forwarded.take_stream(PORT), forwarded.take_error(PORT)) else {
        return unread("it cannot be reached".to_owned());
    };
    let mut found = read(name, stream, want, session.timeout).await;
    // What broke the connection is told beside it.
    if !found.unread.is_empty()
        && let Ok(Some(why)) = timeout(REASON, why).await
    {
        found.unread.push(why);
    }
    forwarded.abort();
    found
}

/// A user as the record calls him, by the key that is read with the caller's own rights.
pub(super) async fn pseudonym(
    session: &Session,
    of: &Of,
    user: &str,
    issuer: Option<&str>,
) -> Result<User, String> {
    let (url, username) = match issuer {
        Some(url) if url.contains("://") => (url.to_owned(), user.to_owned()),
        named => known(session, user, named).await?,
    };
    let name = format!("{}-broker-pseudonyms", of.fullname);
    let secrets: Api<Secret> = Api::namespaced(session.client.clone(), &of.deputy_namespace);
    let secret = session.ask(Right::Audit, secrets.get(&name)).await.map_err(|failure| {
        format!("without the key of the pseudonyms nobody can ask for a user by name: {failure}")
    })?;
    let bytes = secret.data.and_then(|mut data| data.remove(PSEUDONYM_KEY_ENTRY)).unwrap_or_default();
    let key = PseudonymKey::new("1".to_owned(), &bytes.0).map_err(|weak| format!("Secret {name}: {weak}"))?;
    Ok(key.user(&url, &username))
}

/// The issuer's URL and the user's name, by the issuers as they are now.
async fn known(session: &Session, user: &str, issuer: Option<&str>) -> Result<(String, String), String> {
    let (issuers, failure) = session.issuers().await;
    if let Some(failure) = failure {
        return Err(format!(
            "whose user that is cannot be seen: {failure}; or give the issuer's URL by --issuer"
        ));
    }
    let mut index = Index::new(ReservedAudiences::default());
    let issuers: Vec<Observed<TrustedIssuer>> = issuers.into_iter().map(Observed::from).collect();
    index.reset_issuers(&issuers);
    let asked = Asked { name: user.to_owned(), issuer: issuer.map(str::to_owned), ..Asked::default() };
    let person = asked.person(&index.snapshot())?;
    Ok((person.url, person.username))
}

/// What the resource of this name is called on record.
pub(super) async fn identifier(session: &Session, name: &str) -> Result<String, String> {
    let resources: Api<ProtectedResource> = Api::all(session.client.clone());
    let found = session.ask(Right::See, resources.get(name)).await;
    let found = found
        .map_err(|failure| format!("what ProtectedResource {name:?} is called cannot be seen: {failure}"));
    found.map(|resource| resource.spec.identifier)
}
