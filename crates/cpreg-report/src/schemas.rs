//! JSON Schemas of all documents that cpreg writes.
//!
//! They describe what this version writes. A later version may add members without another schema's
//! name, so no schema forbids members that it does not know.

use cpreg_hosts::{profile, record};
use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema, SchemaGenerator};

use crate::{check, diff, explain, host, host_diff, hosts, rehearse, shared, show, tolerance};

/// A kind of document.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Document {
    /// Name and version: `cpreg.check/1`.
    pub name: &'static str,
    /// Its JSON Schema.
    pub schema: Schema,
}

impl Document {
    fn of<T: JsonSchema>(name: &'static str) -> Self {
        Self::new(name, generator().into_root_schema_for::<T>())
    }

    fn new(name: &'static str, mut schema: Schema) -> Self {
        schema.insert("title".to_owned(), name.into());
        Self { name, schema }
    }
}

/// A generator of schemas for what is written.
fn generator() -> SchemaGenerator {
    SchemaSettings::draft2020_12()
        .for_serialize()
        .into_generator()
}

/// Returns all documents, in the order of the documentation.
pub fn all() -> Vec<Document> {
    vec![
        Document::of::<check::model::Report>(check::model::SCHEMA),
        Document::of::<rehearse::model::Report>(rehearse::model::SCHEMA),
        Document::of::<show::model::Report>(show::model::SCHEMA),
        Document::of::<diff::model::Report>(diff::model::SCHEMA),
        Document::of::<host::model::Report>(host::model::SCHEMA),
        Document::of::<host_diff::model::Report>(host_diff::model::SCHEMA),
        Document::of::<explain::lines::model::Report>(explain::lines::model::SCHEMA),
        Document::of::<hosts::model::Report>(hosts::model::SCHEMA),
        Document::of::<tolerance::model::Report>(tolerance::model::SCHEMA),
        Document::of::<explain::register::model::Report>(explain::register::model::SCHEMA),
        Document::of::<shared::Report>(shared::SCHEMA),
        Document::of::<profile::Document>(profile::SCHEMA),
        Document::new(record::json::SCHEMA, record::json::json_schema(generator())),
    ]
}
