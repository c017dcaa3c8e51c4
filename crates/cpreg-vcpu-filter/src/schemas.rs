//! JSON Schemas of the documents of this crate.

use schemars::{JsonSchema, Schema, SchemaGenerator};

use crate::baseline::{BASELINE_SCHEMA, Baseline};
use crate::policy_json::PolicyJson;
use crate::policy_text::POLICY_SCHEMA;
use crate::run_event::{EVENT_SCHEMA, RunEvent};
use crate::run_status::{RunStatus, STATUS_SCHEMA};

/// Returns the name and the schema of each document, in the order of the documentation.
pub fn all(generator: impl Fn() -> SchemaGenerator) -> Vec<(&'static str, Schema)> {
    fn schema<T: JsonSchema>(generator: SchemaGenerator) -> Schema {
        generator.into_root_schema_for::<T>()
    }
    vec![
        (POLICY_SCHEMA, schema::<PolicyJson>(generator())),
        (BASELINE_SCHEMA, schema::<Baseline>(generator())),
        (EVENT_SCHEMA, schema::<RunEvent>(generator())),
        (STATUS_SCHEMA, schema::<RunStatus>(generator())),
    ]
}
