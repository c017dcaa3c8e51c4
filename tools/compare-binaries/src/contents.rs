//! Comparison of the JSON output of two builds that ignores renamed members and other wording.
//!
//! JSON documents have the same contents if they have the same members, elements, numbers and
//! words. A member may have another name and a sentence may be worded differently. A word (a text
//! without a space) may be renamed if it is renamed everywhere. The renamed members and words are
//! printed at the end, for the user to review.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

/// JSON value whose members keep their order, so that renamed members with equal values are
/// matched in that order.
#[derive(Clone, Debug, PartialEq)]
enum Value {
    Null,
    Bool(bool),
    Number(String),
    Text(String),
    Array(Vec<Self>),
    Object(Vec<(String, Self)>),
}

/// Renamed members and words, and members that only the new build has.
#[derive(Clone, Debug, Default)]
pub(crate) struct Renames {
    members: BTreeSet<(String, String)>,
    added: BTreeSet<String>,
    words: BTreeMap<String, String>,
}

impl Renames {
    /// Compares two JSON documents. Returns a description of the first difference of their
    /// contents.
    pub(crate) fn compare_json(&mut self, old: &[u8], new: &[u8]) -> Option<String> {
        let parse = |text: &[u8]| serde_json::from_slice::<Value>(text);
        match (parse(old), parse(new)) {
            (Ok(old), Ok(new)) => self.compare("", &old, &new).err(),
            (Err(error), _) | (_, Err(error)) => Some(format!("not JSON: {error}")),
        }
    }

    fn compare(&mut self, path: &str, old: &Value, new: &Value) -> Result<(), String> {
        match (old, new) {
            (Value::Text(old), Value::Text(new)) => self.compare_text(path, old, new),
            (Value::Array(old), Value::Array(new)) if old.len() == new.len() => {
                let path = format!("{path}[]");
                old.iter()
                    .zip(new)
                    .try_for_each(|(old, new)| self.compare(&path, old, new))
            }
            (Value::Object(old), Value::Object(new)) => self.compare_members(path, old, new),
            (old, new) if old == new => Ok(()),
            (old, new) => Err(format!("{path}: {old} and {new}")),
        }
    }

    fn compare_text(&mut self, path: &str, old: &str, new: &str) -> Result<(), String> {
        let is_sentence = |text: &str| text.contains(' ');
        if old == new || is_sentence(old) && is_sentence(new) {
            return Ok(());
        }
        // Two words may have become one: `not tried` became `not-tried`.
        if is_sentence(old) != is_sentence(new) && old.replace(' ', "-") != new {
            return Err(format!("{path}: {old:?} and {new:?}"));
        }
        let is_value = |text: &str| text.starts_with(|first: char| first.is_ascii_digit());
        let is_consistent = self.words.get(old).is_none_or(|word| word == new);
        if is_value(old) || is_value(new) || !is_consistent {
            return Err(format!("{path}: {old:?} and {new:?}"));
        }
        self.words.insert(old.to_owned(), new.to_owned());
        Ok(())
    }

    fn compare_members(
        &mut self,
        path: &str,
        old: &[(String, Value)],
        new: &[(String, Value)],
    ) -> Result<(), String> {
        let mut unmatched: Vec<&(String, Value)> = new.iter().collect();
        let mut renamed = Vec::new();
        for (name, value) in old {
            let Some(index) = unmatched.iter().position(|(other, _)| other == name) else {
                renamed.push((name, value));
                continue;
            };
            let (_, other) = unmatched.remove(index);
            self.compare(&format!("{path}.{name}"), value, other)?;
        }
        for (name, value) in renamed {
            let path = format!("{path}.{name}");
            let is_known = |other: &str| {
                self.members
                    .iter()
                    .any(|(old, new)| *old == path && new == other)
            };
            // Members with a known new name are tried first.
            let order = unmatched
                .iter()
                .position(|(other, _)| is_known(other))
                .into_iter()
                .chain(0..unmatched.len());
            let found = order.into_iter().find_map(|index| {
                let mut trial = self.clone();
                let is_same = trial.compare(&path, value, &unmatched[index].1).is_ok();
                is_same.then_some((index, trial))
            });
            let Some((index, trial)) = found else {
                return Err(format!("{path}: no member has this content: {value}"));
            };
            *self = trial;
            self.members
                .insert((path, unmatched.remove(index).0.clone()));
        }
        for (name, _) in unmatched {
            self.added.insert(format!("{path}.{name}"));
        }
        Ok(())
    }
}

impl fmt::Display for Renames {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (old, new) in &self.members {
            writeln!(f, "member {old} is {new}")?;
        }
        for name in &self.added {
            writeln!(f, "member {name} is new")?;
        }
        for (old, new) in &self.words {
            writeln!(f, "word \"{old}\" is \"{new}\"")?;
        }
        Ok(())
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("null"),
            Self::Bool(value) => write!(f, "{value}"),
            Self::Number(number) => f.write_str(number),
            Self::Text(text) => write!(f, "{text:?}"),
            Self::Array(elements) => write!(f, "{} elements", elements.len()),
            Self::Object(members) => {
                let names: Vec<&str> = members.iter().map(|(name, _)| name.as_str()).collect();
                write!(f, "an object of {}", names.join(", "))
            }
        }
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ValueVisitor)
    }
}

struct ValueVisitor;

impl<'de> Visitor<'de> for ValueVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.to_string()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.to_string()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Value::Number(value.to_string()))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::Text(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut array: A) -> Result<Value, A::Error> {
        let mut elements = Vec::new();
        while let Some(element) = array.next_element()? {
            elements.push(element);
        }
        Ok(Value::Array(elements))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut members = Vec::new();
        while let Some(member) = map.next_entry()? {
            members.push(member);
        }
        Ok(Value::Object(members))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compare(old: &str, new: &str) -> Option<String> {
        Renames::default().compare_json(old.as_bytes(), new.as_bytes())
    }

    #[test]
    fn names_and_sentences_may_differ() {
        let old = r#"{"host": "0x2", "says": ["it goes on"], "values": "of-a-guest", "n": 1}"#;
        let new =
            r#"{"n": 1, "destination": "0x2", "messages": ["it runs"], "values": "guest", "x": 2}"#;
        let mut renames = Renames::default();
        assert_eq!(renames.compare_json(old.as_bytes(), new.as_bytes()), None);
        let expected = "member .host is destination\nmember .says is messages\n\
                        member .x is new\nword \"of-a-guest\" is \"guest\"\n";
        assert_eq!(renames.to_string(), expected);
    }

    #[test]
    fn contents_may_not_differ() {
        for (old, new) in [
            (r#"{"a": 1}"#, r#"{"a": 2}"#),
            (r#"{"a": 1}"#, r#"{"b": 2}"#),
            (r#"{"a": "0x1"}"#, r#"{"a": "0x2"}"#),
            (r#"{"a": [1, 2]}"#, r#"{"a": [1]}"#),
            (r#"["copy", "copy"]"#, r#"["keep", "drop"]"#),
            (r#"{"a": null}"#, r#"{"a": false}"#),
            (r#"{"a": 1, "b": 2}"#, r#"{"a": 1}"#),
            (r#"{"a": "two words"}"#, r#"{"a": "one"}"#),
        ] {
            assert!(compare(old, new).is_some(), "{old} {new}");
        }
    }
}
