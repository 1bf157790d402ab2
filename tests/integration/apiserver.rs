//! An API server in memory, as much of one as the controller meets: lists, watches, preconditions. It records every
//! request, and answers as its script says where there is one.

use axum::{
    Router,
    body::{Body, Bytes, to_bytes},
    extract::{Request, State},
    http::{Method, StatusCode},
    response::{IntoResponse as _, Response},
};
use futures::{StreamExt as _, channel::mpsc, stream};
use kube::Client;
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    convert::Infallible,
    sync::{Arc, Mutex, MutexGuard},
};

/// What is to be answered: code and Status.
pub(crate) type Answer = (u16, Value);

/// A request for one object, or to make one.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    /// `POST serviceaccounts`, `PATCH agentidentities/status`, ...
    pub(crate) what: String,
    pub(crate) body: Value,
    pub(crate) at: tokio::time::Instant,
}

#[derive(Default)]
struct World {
    version: u64,
    /// By resource, then by namespace and name.
    objects: BTreeMap<String, BTreeMap<(String, String), Value>>,
    /// Every change so far: version, resource and watch event.
    changes: Vec<(u64, String, Value)>,
    watches: Vec<(String, mpsc::UnboundedSender<Value>)>,
    asked: Vec<Asked>,
    /// Answers to come for a kind of request; the last one stays if `for_ever`.
    script: HashMap<String, (VecDeque<Answer>, bool)>,
    /// What goes away just before a kind of request is answered: resource and name.
    goes_at: HashMap<String, (String, String)>,
}

/// The server; clones are the same one.
#[derive(Clone, Default)]
pub(crate) struct ApiServer(Arc<Mutex<World>>);

/// A Status as the API server answers it.
pub(crate) fn failure(code: u16, reason: &str, message: &str) -> Answer {
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "code": code, "reason": reason, "message": message,
    });
    (code, status)
}

fn key(object: &Value) -> (String, String) {
    let text = |field: &str| object["metadata"][field].as_str().unwrap_or_default().to_owned();
    (text("namespace"), text("name"))
}

impl World {
    /// Puts an object in place, as somebody or the controller wrote it; watches hear of it.
    fn store(&mut self, resource: &str, mut object: Value) -> Value {
        let objects = self.objects.entry(resource.to_owned()).or_default();
        let old = objects.get(&key(&object));
        object["metadata"]["uid"] = match old {
            Some(old) => old["metadata"]["uid"].clone(),
            None => format!("uid-{}", self.version).into(),
        };
        if let Some(old) = old {
            object["metadata"]["resourceVersion"] = old["metadata"]["resourceVersion"].clone();
            if *old == object {
                return object;
            }
        }
        let type_ = if old.is_some() { "MODIFIED" } else { "ADDED" };
        self.version += 1;
        object["metadata"]["resourceVersion"] = self.version.to_string().into();
        objects.insert(key(&object), object.clone());
        self.tell(resource, type_, &object);
        object
    }

    fn remove(&mut self, resource: &str, key: &(String, String)) {
        let mut object = self.objects.get_mut(resource).and_then(|all| all.remove(key)).unwrap();
        self.version += 1;
        object["metadata"]["resourceVersion"] = self.version.to_string().into();
        self.tell(resource, "DELETED", &object);
    }

    fn tell(&mut self, resource: &str, type_: &str, object: &Value) {
        let event = json!({"type": type_, "object": object});
        self.watches.retain(|(of, watch)| of != resource || watch.unbounded_send(event.clone()).is_ok());
        self.changes.push((self.version, resource.to_owned(), event));
    }

    /// The scripted answer to `what`, if it is its turn.
    fn scripted(&mut self, what: &str) -> Option<Answer> {
        let (answers, for_ever) = self.script.get_mut(what)?;
        if *for_ever { answers.front().cloned() } else { answers.pop_front() }
    }

    /// One page of the objects of a namespace, or of all, that the field selector's equations hold for. The token to go on
    /// with names the last.
    fn list(&self, target: &Target, query: &HashMap<&str, &str>) -> Value {
        let selector = query.get("fieldSelector").copied().unwrap_or_default();
        let selector = selector.replace("%3D", "=").replace("%2C", ",").replace("%21", "!");
        let holds = |object: &Value| {
            selector.split(',').filter_map(|part| part.split_once('=')).all(|(field, value)| {
                let is_not = field.strip_suffix('!');
                let pointer = format!("/{}", is_not.unwrap_or(field).replace('.', "/"));
                (object.pointer(&pointer).is_some_and(|found| found == value)) == is_not.is_none()
            })
        };
        let token = |(namespace, name): &(String, String)| format!("{namespace}_{name}");
        let last = query.get("continue").and_then(|token| token.split_once('_'));
        let objects = self.objects.get(&target.resource).into_iter().flatten();
        let mut rest = objects.filter(|(key, object)| {
            (target.namespace.is_empty() || key.0 == target.namespace)
                && last.is_none_or(|last| (key.0.as_str(), key.1.as_str()) > last)
                && holds(object)
        });
        let limit = query.get("limit").map_or(usize::MAX, |limit| limit.parse().unwrap());
        let page: Vec<_> = rest.by_ref().take(limit).collect();
        let is_last = rest.next().is_none();
        let next = page.last().filter(|_| !is_last).map(|(key, _)| token(key)).unwrap_or_default();
        let items: Vec<_> = page.into_iter().map(|(_, object)| object).collect();
        let metadata = json!({"resourceVersion": self.version.to_string(), "continue": next});
        json!({"kind": "List", "apiVersion": "v1", "metadata": metadata, "items": items})
    }

    fn watch(&mut self, resource: &str, since: u64) -> Response {
        let (sender, receiver) = mpsc::unbounded();
        for (_, _, event) in self.changes.iter().filter(|(at, of, _)| *at > since && of == resource) {
            sender.unbounded_send(event.clone()).unwrap();
        }
        self.watches.push((resource.to_owned(), sender));
        let lines = receiver.map(|event| Ok::<_, Infallible>(Bytes::from(format!("{event}\n"))));
        Body::from_stream(lines.chain(stream::empty())).into_response()
    }

    /// Does what a real one would for a request on one object.
    fn act(&mut self, method: &Method, target: &Target, mut body: Value) -> Answer {
        let key = (target.namespace.clone(), target.name.clone());
        let old = self.objects.get(&target.resource).and_then(|all| all.get(&key)).cloned();
        let conflict = || failure(409, "Conflict", "the object has been modified");
        match (method.as_str(), old) {
            ("POST", _) if target.resource == "events" => (201, body),
            ("POST", _) if target.resource == "selfsubjectreviews" => {
                body["status"]["userInfo"]["username"] = "dana".into();
                (201, body)
            }
            ("POST", Some(old)) if target.subresource == "eviction" => {
                if body["deleteOptions"]["preconditions"]["uid"] == old["metadata"]["uid"] {
                    self.remove(&target.resource, &key);
                    failure(201, "", "")
                } else {
                    conflict()
                }
            }
            ("POST", _) => {
                body["metadata"]["namespace"] = target.namespace.clone().into();
                if let Some(prefix) = body["metadata"]["generateName"].as_str() {
                    body["metadata"]["name"] = format!("{prefix}{}", self.version).into();
                }
                let taken =
                    self.objects.get(&target.resource).is_some_and(|all| all.contains_key(&self::key(&body)));
                if taken {
                    failure(409, "AlreadyExists", "already exists")
                } else {
                    (201, self.store(&target.resource, body))
                }
            }
            (_, None) => failure(404, "NotFound", "not found"),
            ("GET", Some(old)) => (200, old),
            ("PUT", Some(old))
                if body["metadata"]["resourceVersion"] != old["metadata"]["resourceVersion"] =>
            {
                conflict()
            }
            ("PUT", Some(_)) => (200, self.store(&target.resource, body)),
            ("PATCH", Some(old)) if body["metadata"]["uid"] != old["metadata"]["uid"] => conflict(),
            ("PATCH", Some(mut object)) if target.subresource == "status" => {
                object["status"] = body["status"].take();
                (200, self.store(&target.resource, object))
            }
            // As much of server-side apply as one manager needs: what it says is merged.
            ("PATCH", Some(mut object)) if target.resource == "configmaps" => {
                json_patch::merge(&mut object, &body);
                (200, self.store(&target.resource, object))
            }
            ("DELETE", Some(old)) if body["preconditions"]["uid"] != old["metadata"]["uid"] => conflict(),
            ("DELETE", Some(old)) => {
                self.remove(&target.resource, &key);
                (200, old)
            }
            (method, Some(_)) => panic!("{method} {} is not of this server", target.resource),
        }
    }
}

/// A request's path, taken apart.
struct Target {
    resource: String,
    namespace: String,
    name: String,
    subresource: String,
}

impl Target {
    /// `/api/v1/...` or `/apis/GROUP/VERSION/...`, and then `[namespaces/NS/]RESOURCE[/NAME[/SUBRESOURCE]]`.
    fn parse(path: &str) -> Self {
        let parts: Vec<_> = path.trim_matches('/').split('/').collect();
        let rest = &parts[if parts[0] == "api" { 2 } else { 3 }..];
        let (namespace, rest) = match rest {
            ["namespaces", namespace, rest @ ..] if !rest.is_empty() => (*namespace, rest),
            rest => ("", rest),
        };
        let part = |at: usize| rest.get(at).map(|part| (*part).to_owned());
        Self {
            resource: part(0).unwrap(),
            namespace: namespace.to_owned(),
            name: part(1).unwrap_or_default(),
            subresource: part(2).unwrap_or_default(),
        }
    }
}

async fn serve(State(server): State<ApiServer>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let target = Target::parse(parts.uri.path());
    let query: HashMap<_, _> =
        parts.uri.query().unwrap_or_default().split('&').filter_map(|pair| pair.split_once('=')).collect();
    let body = to_bytes(body, usize::MAX).await.unwrap();
    let mut world = server.world();
    if parts.method == Method::GET && target.name.is_empty() {
        if query.contains_key("watch") {
            return world.watch(&target.resource, query["resourceVersion"].parse().unwrap());
        }
        let what = format!("LIST {}", target.resource);
        if !target.namespace.is_empty() {
            let at = tokio::time::Instant::now();
            let what = format!("GET {} list", target.resource);
            world.asked.push(Asked { what, body: Value::Null, at });
        }
        let (code, answer) = world.scripted(&what).unwrap_or_else(|| (200, world.list(&target, &query)));
        return (StatusCode::from_u16(code).unwrap(), axum::Json(answer)).into_response();
    }
    let body: Value = if body.is_empty() { Value::Null } else { serde_json::from_slice(&body).unwrap() };
    let kind = match target.subresource.as_str() {
        "" => String::new(),
        subresource => format!("/{subresource}"),
    };
    let what = format!("{} {}{kind}", parts.method, target.resource);
    world.asked.push(Asked { what: what.clone(), body: body.clone(), at: tokio::time::Instant::now() });
    if let Some((resource, name)) = world.goes_at.remove(&what) {
        world.remove(&resource, &("ns".to_owned(), name));
    }
    let (code, answer) = world.scripted(&what).unwrap_or_else(|| world.act(&parts.method, &target, body));
    (StatusCode::from_u16(code).unwrap(), axum::Json(answer)).into_response()
}

impl ApiServer {
    fn world(&self) -> MutexGuard<'_, World> {
        self.0.lock().unwrap()
    }

    pub(crate) fn client(&self) -> Client {
        Client::new(Router::new().fallback(serve).with_state(self.clone()), "default")
    }

    /// Somebody else writes an object.
    pub(crate) fn put(&self, resource: &str, object: Value) -> Value {
        self.world().store(resource, object)
    }

    /// Somebody else deletes an object of namespace `ns`.
    pub(crate) fn delete(&self, resource: &str, name: &str) {
        self.world().remove(resource, &("ns".to_owned(), name.to_owned()));
    }

    /// An object of namespace `ns` goes without that any watch tells: they all break, and have to list again.
    pub(crate) fn delete_unseen(&self, resource: &str, name: &str) {
        let mut world = self.world();
        world
            .objects
            .get_mut(resource)
            .and_then(|all| all.remove(&("ns".to_owned(), name.to_owned())))
            .unwrap();
        let (_, gone) = failure(410, "Expired", "too old resource version");
        for (_, watch) in world.watches.drain(..) {
            // One nobody listens to any more is none the worse for it.
            _ = watch.unbounded_send(json!({"type": "ERROR", "object": gone}));
        }
    }

    /// An object of namespace `ns`.
    pub(crate) fn get(&self, resource: &str, name: &str) -> Option<Value> {
        self.world().objects.get(resource)?.get(&("ns".to_owned(), name.to_owned())).cloned()
    }

    /// An object of the cluster.
    pub(crate) fn get_of_cluster(&self, resource: &str, name: &str) -> Option<Value> {
        self.world().objects.get(resource)?.get(&(String::new(), name.to_owned())).cloned()
    }

    /// Somebody else deletes an object of the cluster.
    pub(crate) fn delete_of_cluster(&self, resource: &str, name: &str) {
        self.world().remove(resource, &(String::new(), name.to_owned()));
    }

    /// The next requests of this kind get these answers.
    pub(crate) fn script(&self, what: &str, answers: impl IntoIterator<Item = Answer>) {
        self.world().script.insert(what.to_owned(), (answers.into_iter().collect(), false));
    }

    /// Requests of this kind get this answer, until there is another script.
    pub(crate) fn script_always(&self, what: &str, answer: Answer) {
        self.world().script.insert(what.to_owned(), ([answer].into(), true));
    }

    /// An object of namespace `ns` is deleted just before the next request of this kind is answered.
    pub(crate) fn goes_at(&self, what: &str, resource: &str, name: &str) {
        self.world().goes_at.insert(what.to_owned(), (resource.to_owned(), name.to_owned()));
    }

    /// Requests within namespaces since the last call: lists and watches of the cluster are left out.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        std::mem::take(&mut self.world().asked)
    }
}
