//! What is known of objects besides what the index keeps: which uid and generation they have, and what their status says.

use crate::{
    index::Index,
    runtime::watch::{Indexed, List},
};
use kube::{
    Resource,
    core::{DeserializeGuard, object::HasStatus},
    runtime::watcher::Event,
};
use serde::Serialize;
use serde_json::Value;
use std::collections::BTreeMap;

/// An object by namespace (empty if it is of none) and name.
pub(super) type Name = (String, String);

/// The objects of one kind.
pub(super) struct Known<K: HasStatus> {
    all: BTreeMap<Name, Seen<K::Status>>,
    /// A list on its way.
    listed: BTreeMap<Name, Seen<K::Status>>,
    list: List<DeserializeGuard<K>>,
    complete: bool,
}

/// An object as it was seen last.
#[derive(Clone, Debug)]
struct Seen<S> {
    uid: Option<String>,
    generation: Option<i64>,
    /// Whether somebody asked for its deletion: nothing is written any more.
    deleting: bool,
    /// Its status, if it has one and can be read.
    status: Option<S>,
    /// The status that is on its way there.
    writing: Option<S>,
}

impl<K: HasStatus> Default for Known<K> {
    fn default() -> Self {
        Self { all: BTreeMap::new(), listed: BTreeMap::new(), list: List::default(), complete: false }
    }
}

impl<K> Known<K>
where
    K: HasStatus<Status: Clone + PartialEq + Serialize> + Resource<DynamicType = ()>,
    DeserializeGuard<K>: Indexed,
{
    /// Whether a full list has been seen.
    pub(super) fn is_listed(&self) -> bool {
        self.complete
    }

    /// All that there are.
    pub(super) fn names(&self) -> impl Iterator<Item = &Name> {
        self.all.keys()
    }

    /// Takes in what the watch delivered, and lets `index` know; returns the one object it is about, if it is one.
    pub(super) fn take(&mut self, event: Event<DeserializeGuard<K>>, index: &mut Index) -> Option<Name> {
        let concerned = match &event {
            Event::Apply(object) => {
                let (name, seen) = self.see(object);
                self.all.insert(name.clone(), seen);
                Some(name)
            }
            Event::Delete(object) => {
                self.all.remove(&name(object));
                None
            }
            Event::Init => {
                self.listed.clear();
                None
            }
            Event::InitApply(object) => {
                let (name, seen) = self.see(object);
                self.listed.insert(name, seen);
                None
            }
            Event::InitDone => {
                self.all = std::mem::take(&mut self.listed);
                self.complete = true;
                None
            }
        };
        self.list.take(index, Ok(event));
        concerned
    }

    /// The status of an object that cannot be read is what was written last, or else it would be written for ever.
    fn see(&self, object: &DeserializeGuard<K>) -> (Name, Seen<K::Status>) {
        let (name, meta) = (name(object), object.meta());
        let status = match &object.0 {
            Ok(object) => object.status().cloned(),
            Err(_) => {
                let old = self.all.get(&name).filter(|old| old.uid == meta.uid);
                old.and_then(|old| old.status.clone())
            }
        };
        let deleting = meta.deletion_timestamp.is_some();
        let (uid, generation) = (meta.uid.clone(), meta.generation);
        let seen = Seen { uid, generation, deleting, status, writing: None };
        (name, seen)
    }

    /// Uid of an object and the status it should have, if that differs from the one it has.
    pub(super) fn differing(
        &mut self,
        name: &Name,
        compute: impl FnOnce(Option<&K::Status>, Option<i64>) -> Option<K::Status>,
    ) -> Option<(Option<String>, Value)> {
        let seen = self.all.get_mut(name).filter(|seen| !seen.deleting)?;
        let next = compute(seen.status.as_ref(), seen.generation)?;
        if seen.status.as_ref() == Some(&next) {
            return None;
        }
        let status = serde_json::to_value(&next).ok()?;
        seen.writing = Some(next);
        Some((seen.uid.clone(), status))
    }

    /// The status that differed was written. What the API server makes of it comes back through the watch.
    pub(super) fn written(&mut self, name: &Name) {
        if let Some(seen) = self.all.get_mut(name) {
            seen.status = seen.writing.take();
        }
    }
}

fn name<K: Resource<DynamicType = ()>>(object: &DeserializeGuard<K>) -> Name {
    let meta = object.meta();
    (meta.namespace.clone().unwrap_or_default(), meta.name.clone().unwrap_or_default())
}
