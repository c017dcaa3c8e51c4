//! Places of the parts of `state.json`.
//!
//! A snapshot is a tree. A node holds nodes by name, and the state of a component. The component's
//! state is a JSON text inside the JSON text:
//!
//! | Cloud Hypervisor | form of the state |
//! |---|---|
//! | to 28 | `{"NAME": {"id": …, "snapshot": [bytes]}}` |
//! | 32 to 38 | `[bytes]` |
//! | 39 and later | `{"state": "text"}` |
//!
//! An edit replaces the bytes of such a text. All other bytes stay.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Range;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::error::{Error, ErrorKind};

/// Members of an object, each with its JSON text.
pub(super) type Members<'a> = BTreeMap<Cow<'a, str>, &'a RawValue>;

/// Node of the tree.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Node<'a> {
    #[serde(borrow, default)]
    pub(super) snapshots: Members<'a>,
    #[serde(borrow, default)]
    snapshot_data: Option<&'a RawValue>,
}

/// Form of a component's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// JSON string.
    Text,
    /// JSON array with the bytes of a text.
    Bytes,
}

/// State of a component.
#[derive(Clone, Debug)]
pub(super) struct ComponentState {
    pub(super) text: String,
    pub(super) form: Form,
    /// Place of the encoded text in the document.
    pub(super) range: Range<usize>,
}

impl<'a> Node<'a> {
    /// Parses a node.
    pub(super) fn parse(text: &'a str) -> Result<Self, Error> {
        serde_json::from_str(text).map_err(|error| malformed("state.json").with_source(error))
    }

    /// Returns the node with this name inside this node.
    pub(super) fn child(&self, name: &str) -> Result<Option<Self>, Error> {
        let child = self.snapshots.get(name);
        child.map(|raw| Self::parse(raw.get())).transpose()
    }

    /// Returns the state of the node's component; `document` is the whole text.
    pub(super) fn state(&self, document: &'a str) -> Result<Option<ComponentState>, Error> {
        let Some(data) = self.snapshot_data.filter(|raw| raw.get() != "null") else {
            return Ok(None);
        };
        let invalid = |error| malformed("the state of a component").with_source(error);
        let encoded = if data.get().starts_with('[') {
            data
        } else {
            let members: Members<'a> = serde_json::from_str(data.get()).map_err(invalid)?;
            match members.get("state") {
                Some(text) => text,
                // A version to 28: the only section holds the bytes.
                None => match members.into_values().next() {
                    Some(section) => {
                        let section: Members<'a> =
                            serde_json::from_str(section.get()).map_err(invalid)?;
                        section
                            .get("snapshot")
                            .copied()
                            .ok_or_else(|| malformed("the state of a component"))?
                    }
                    None => return Ok(None),
                },
            }
        };
        let (form, text) = if encoded.get().starts_with('[') {
            let bytes: Vec<u8> = serde_json::from_str(encoded.get()).map_err(invalid)?;
            let text = String::from_utf8(bytes)
                .map_err(|error| malformed("the state of a component").with_source(error))?;
            (Form::Bytes, text)
        } else {
            let text = serde_json::from_str(encoded.get()).map_err(invalid)?;
            (Form::Text, text)
        };
        Ok(Some(ComponentState {
            text,
            form,
            range: place(document, encoded.get())?,
        }))
    }
}

impl ComponentState {
    /// Encodes a text in the form of this state.
    pub(super) fn encode(&self, text: &str) -> Result<String, Error> {
        let encoded = match self.form {
            Form::Text => serde_json::to_string(text),
            Form::Bytes => serde_json::to_string(text.as_bytes()),
        };
        encoded.map_err(|error| malformed("the state of a vCPU").with_source(error))
    }
}

/// Returns the place of `part`, which borrows from `whole`.
pub(super) fn place(whole: &str, part: &str) -> Result<Range<usize>, Error> {
    let start = (part.as_ptr() as usize).wrapping_sub(whole.as_ptr() as usize);
    let range = start..start.wrapping_add(part.len());
    // A part of another text would be a mistake of the caller.
    match whole.get(range.clone()) {
        Some(found) if found == part => Ok(range),
        _ => Err(malformed("the state of a component")),
    }
}

/// Makes the error for a part of the document that Cloud Hypervisor does not write.
pub(super) fn malformed(part: &str) -> Error {
    let message = format!("{part} is not in a form that Cloud Hypervisor writes");
    Error::new(ErrorKind::Malformed, message)
}
