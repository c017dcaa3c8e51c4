//! JSON Schemas of the documents of this crate and of `cpreg-hosts`.
//!
//! The schemas describe the documents of this version. A later version may add members without a
//! new schema version, so no schema forbids unknown members.

use cpreg_hosts::{profile, record};
use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema, SchemaGenerator};

use crate::{
    baseline, check, classes, diff, explain, failure, fleet, host, host_diff, host_key, hosts,
    kernel_diff, matrix, rehearse, relay, show, tolerance, vm_report,
};

/// A kind of document.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Document {
    /// Name and version: `cpreg.check/2`.
    pub name: &'static str,
    /// JSON Schema of the document.
    pub schema: Schema,
}

impl Document {
    fn for_type<T: JsonSchema>(name: &'static str) -> Self {
        Self::new(name, generator().into_root_schema_for::<T>())
    }

    /// Returns the document of a crate that this one does not depend on.
    pub fn new(name: &'static str, mut schema: Schema) -> Self {
        schema.insert("title".to_owned(), name.into());
        Self { name, schema }
    }
}

/// Returns a generator of schemas for serialised documents.
pub fn generator() -> SchemaGenerator {
    SchemaSettings::draft2020_12()
        .for_serialize()
        .into_generator()
}

/// Returns all documents, in the order of the documentation.
pub fn all() -> Vec<Document> {
    vec![
        Document::for_type::<check::model::CheckReport>(check::model::SCHEMA),
        Document::for_type::<rehearse::model::RehearsalReport>(rehearse::model::SCHEMA),
        Document::for_type::<relay::model::RelayReport>(relay::model::SCHEMA),
        Document::for_type::<relay::event::RelayEvent>(relay::event::SCHEMA),
        Document::for_type::<failure::ErrorReport>(failure::SCHEMA),
        Document::for_type::<show::model::ShowReport>(show::model::SCHEMA),
        Document::for_type::<diff::model::DiffReport>(diff::model::SCHEMA),
        Document::for_type::<host::model::HostReport>(host::model::SCHEMA),
        Document::for_type::<host_diff::model::HostDiffReport>(host_diff::model::SCHEMA),
        Document::for_type::<kernel_diff::model::KernelDiffReport>(kernel_diff::model::SCHEMA),
        Document::for_type::<explain::lines::model::ExplainLinesReport>(
            explain::lines::model::SCHEMA,
        ),
        Document::for_type::<matrix::model::MatrixLine>(matrix::model::SCHEMA),
        Document::for_type::<classes::model::ClassesReport>(classes::model::SCHEMA),
        Document::for_type::<fleet::check::FleetCheckReport>(fleet::check::SCHEMA),
        Document::for_type::<fleet::drain::FleetDrainReport>(fleet::drain::SCHEMA),
        Document::for_type::<fleet::plan::FleetPlanReport>(fleet::plan::SCHEMA),
        Document::for_type::<fleet::labels::FleetLabelsReport>(fleet::labels::SCHEMA),
        Document::for_type::<host_key::KeyReport>(host_key::SCHEMA),
        Document::for_type::<hosts::model::HostsReport>(hosts::model::SCHEMA),
        Document::for_type::<baseline::model::BaselineReport>(baseline::model::SCHEMA),
        Document::for_type::<tolerance::model::TolerancesReport>(tolerance::model::SCHEMA),
        Document::for_type::<explain::register::model::ExplainRegisterReport>(
            explain::register::model::SCHEMA,
        ),
        Document::for_type::<vm_report::VmReport>(vm_report::SCHEMA),
        Document::for_type::<profile::Document>(profile::SCHEMA),
        Document::new(record::json::SCHEMA, record::json::json_schema(generator())),
    ]
}
