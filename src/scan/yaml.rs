//! YAML, and with it JSON, into values with lines. Everything is bounded: depth, values, and what aliases multiply.

use super::{
    Unread,
    located::{Below, Lines, Located},
    scalar,
};
use granit_parser::{Event, Parser, ScalarStyle, ScanError, Span, Tag, options};
use serde_json::{Map, Value};
use std::{
    borrow::Cow,
    collections::{BTreeMap, HashMap},
};

/// Levels of nesting. Kubernetes' own objects have about thirty.
const DEPTH: usize = 100;
/// Values of one document, those that aliases stand for included.
const VALUES: usize = 2_000_000;
/// Bytes of text of one document, in the same way.
const BYTES: usize = 128 << 20;

/// The documents of a part of a file that begins behind `before` lines. Empty ones are left out.
pub(super) fn documents(text: &str, before: usize) -> Result<Vec<Located>, Unread> {
    let options = options! {
        emit_comments: false,
        flow_nesting_limit: DEPTH,
        block_nesting_limit: DEPTH,
    };
    let mut builder = Builder { before, ..Builder::default() };
    for event in Parser::new_from_str_with_options(text, options) {
        let (event, span) = event.map_err(|error| builder.unread(&error))?;
        builder.take(event, span)?;
    }
    Ok(builder.documents)
}

/// Values in the making.
#[derive(Default)]
struct Builder {
    before: usize,
    documents: Vec<Located>,
    open: Vec<Open>,
    anchors: HashMap<usize, (Located, Weight)>,
    weight: Weight,
    /// What the copies for aliases to come cost.
    copies: Weight,
}

/// What a value costs.
#[derive(Clone, Copy, Default)]
struct Weight {
    values: usize,
    bytes: usize,
}

impl Weight {
    fn add(&mut self, other: Self, line: usize) -> Result<(), Unread> {
        self.values += other.values;
        self.bytes += other.bytes;
        if self.values > VALUES || self.bytes > BYTES {
            let most = format!("{VALUES} values or {} MiB of text", BYTES >> 20);
            return Err(Unread::at(line, format!("the document has more than {most}, with all its aliases")));
        }
        Ok(())
    }
}

/// A list or map that is not whole yet.
struct Open {
    anchor: usize,
    line: usize,
    /// What the document cost before it.
    weight: Weight,
    kind: Kind,
}

enum Kind {
    List(Vec<Value>, Vec<Lines>),
    Map {
        fields: Map<String, Value>,
        lines: BTreeMap<String, Lines>,
        key: Option<Key>,
        merged: Option<Vec<Located>>,
    },
}

/// A key whose value is to come.
enum Key {
    /// Of a field, and its line.
    Field(String, usize),
    /// The one that merges.
    Merge,
}

/// The key under which YAML 1.1 merges maps into the one it stands in.
const MERGE: &str = "<<";

impl Builder {
    fn unread(&self, error: &ScanError) -> Unread {
        Unread::at(self.before + error.marker().line(), format!("this is not valid YAML: {}", error.kind()))
    }

    fn take(&mut self, event: Event<'_>, span: Span) -> Result<(), Unread> {
        let line = self.before + span.start.line();
        match event {
            Event::DocumentStart(..) => {
                self.anchors.clear();
                (self.weight, self.copies) = Default::default();
            }
            Event::Scalar(text, style, anchor, tag) => {
                self.scalar(text, style, anchor, tag.as_deref(), line)?
            }
            Event::Alias(anchor) => {
                let Some((value, weight)) = self.anchors.get(&anchor).cloned() else {
                    return Err(Unread::at(line, "an alias stands inside of what it is an alias of"));
                };
                self.charge(weight, line)?;
                self.put(value, line)?;
            }
            Event::SequenceStart(_, anchor, _) => self.open(anchor, line, Kind::List(vec![], vec![]))?,
            Event::MappingStart(_, anchor, _) => {
                let kind = Kind::Map { fields: Map::new(), lines: BTreeMap::new(), key: None, merged: None };
                self.open(anchor, line, kind)?;
            }
            Event::SequenceEnd | Event::MappingEnd => self.close(line)?,
            // Where things begin and end; comments.
            _ => {}
        }
        Ok(())
    }

    fn charge(&mut self, weight: Weight, line: usize) -> Result<(), Unread> {
        self.weight.add(weight, line)
    }

    fn open(&mut self, anchor: usize, line: usize, kind: Kind) -> Result<(), Unread> {
        if self.open.len() >= DEPTH {
            return Err(Unread::at(line, format!("more than {DEPTH} levels of nesting")));
        }
        if self.awaits_key() {
            return Err(Unread::at(line, "the key of a map is a list or a map; in a manifest it is a word"));
        }
        let weight = self.weight;
        self.charge(Weight { values: 1, bytes: 0 }, line)?;
        self.open.push(Open { anchor, line, weight, kind });
        Ok(())
    }

    /// Whether what comes next is a key.
    fn awaits_key(&self) -> bool {
        matches!(self.open.last(), Some(Open { kind: Kind::Map { key: None, .. }, .. }))
    }

    fn scalar(
        &mut self,
        text: Cow<'_, str>,
        style: ScalarStyle,
        anchor: usize,
        tag: Option<&Tag>,
        line: usize,
    ) -> Result<(), Unread> {
        let weight = Weight { values: 1, bytes: text.len() };
        self.charge(weight, line)?;
        let is_plain = style == ScalarStyle::Plain;
        let is_text = |tag: &Tag| tag.is_yaml_core_schema_tag("str");
        if self.awaits_key() {
            if anchor > 0 {
                self.anchors
                    .insert(anchor, (Located { value: (*text).into(), lines: Lines::leaf(line) }, weight));
            }
            return self.key(text.into_owned(), is_plain, line);
        }
        let value = match tag {
            Some(tag) if is_text(tag) || !is_plain => Value::String(text.into_owned()),
            None if !is_plain => Value::String(text.into_owned()),
            _ => scalar::resolve(&text),
        };
        let located = Located { value, lines: Lines::leaf(line) };
        self.anchor(anchor, &located, weight, line)?;
        self.put(located, line)
    }

    /// Remembers what aliases may stand for. That is a copy, and counts as one.
    fn anchor(&mut self, anchor: usize, value: &Located, weight: Weight, line: usize) -> Result<(), Unread> {
        if anchor > 0 {
            self.copies.add(weight, line)?;
            self.anchors.insert(anchor, (value.clone(), weight));
        }
        Ok(())
    }

    fn key(&mut self, text: String, is_plain: bool, line: usize) -> Result<(), Unread> {
        let Some(Open { kind: Kind::Map { fields, key, merged, .. }, .. }) = self.open.last_mut() else {
            return Ok(());
        };
        let merges = is_plain && text == MERGE;
        if if merges { merged.is_some() } else { fields.contains_key(&text) } {
            // The key is not named: it may be what somebody took for the place of a value.
            return Err(Unread::at(line, "a key stands in its map a second time"));
        }
        *key = Some(if merges { Key::Merge } else { Key::Field(text, line) });
        Ok(())
    }

    fn close(&mut self, line: usize) -> Result<(), Unread> {
        let Some(open) = self.open.pop() else { return Ok(()) };
        let located = match open.kind {
            Kind::List(values, lines) => Located {
                value: Value::Array(values),
                lines: Lines { line: open.line, below: Below::List(lines) },
            },
            Kind::Map { mut fields, mut lines, merged, .. } => {
                // What the map says itself counts, and before what comes later what comes first.
                for from in merged.into_iter().flatten() {
                    merge(from, &mut fields, &mut lines);
                }
                Located {
                    value: Value::Object(fields),
                    lines: Lines { line: open.line, below: Below::Map(lines) },
                }
            }
        };
        let weight = Weight {
            values: self.weight.values - open.weight.values,
            bytes: self.weight.bytes - open.weight.bytes,
        };
        self.anchor(open.anchor, &located, weight, line)?;
        self.put(located, line)
    }

    fn put(&mut self, located: Located, line: usize) -> Result<(), Unread> {
        match self.open.last_mut().map(|open| &mut open.kind) {
            None if located.value.is_null() => {}
            None => self.documents.push(located),
            Some(Kind::List(values, lines)) => {
                values.push(located.value);
                lines.push(located.lines);
            }
            Some(Kind::Map { fields, lines, key, merged }) => match key.take() {
                Some(Key::Merge) => *merged = Some(merge_sources(located, line)?),
                Some(Key::Field(key, at)) => {
                    lines.insert(key.clone(), Lines { line: at, ..located.lines });
                    fields.insert(key, located.value);
                }
                // An alias for a key.
                None => match located.value {
                    Value::String(text) => return self.key(text, false, line),
                    _ => return Err(Unread::at(line, "the key of a map is no word")),
                },
            },
        }
        Ok(())
    }
}

/// The maps that stand under a merge key.
fn merge_sources(located: Located, line: usize) -> Result<Vec<Located>, Unread> {
    match (located.value, located.lines) {
        (value @ Value::Object(_), lines) => Ok(vec![Located { value, lines }]),
        (Value::Array(values), Lines { below: Below::List(lines), .. })
            if values.iter().all(Value::is_object) =>
        {
            Ok(values.into_iter().zip(lines).map(|(value, lines)| Located { value, lines }).collect())
        }
        _ => Err(Unread::at(line, "what is merged with << is neither a map nor a list of maps")),
    }
}

fn merge(from: Located, fields: &mut Map<String, Value>, lines: &mut BTreeMap<String, Lines>) {
    let (Value::Object(values), Below::Map(mut of_values)) = (from.value, from.lines.below) else { return };
    for (key, value) in values {
        if let Some(at) = of_values.remove(&key).filter(|_| !fields.contains_key(&key)) {
            lines.insert(key.clone(), at);
            fields.insert(key, value);
        }
    }
}

#[cfg(test)]
mod tests;
