//! Every JSON document that a test reads is read into its model and written again, and is as its schema says.

use cpreg_report::{
    check, diff, explain, host, host_diff, hosts, json, rehearse, shared, show, tolerance,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::schema;

/// Schemas whose documents are read by their own crates' tests.
const OTHERS: [&str; 2] = ["cpreg.profile/1", "cpreg.host/1"];

/// Sees that a document's model has all that the document has.
pub(crate) fn round_trip(text: &str) {
    let document: Value = serde_json::from_str(text).expect("JSON");
    // A line of a log is no document.
    let Some(name) = document["schema"].as_str() else {
        return;
    };
    assert_eq!(schema::validate(&document), Ok(()), "{name}");
    match name {
        check::model::SCHEMA => comes_back::<check::model::Report>(text),
        diff::model::SCHEMA => comes_back::<diff::model::Report>(text),
        explain::lines::model::SCHEMA => comes_back::<explain::lines::model::Report>(text),
        explain::register::model::SCHEMA => comes_back::<explain::register::model::Report>(text),
        host::model::SCHEMA => comes_back::<host::model::Report>(text),
        host_diff::model::SCHEMA => comes_back::<host_diff::model::Report>(text),
        hosts::model::SCHEMA => comes_back::<hosts::model::Report>(text),
        rehearse::model::SCHEMA => comes_back::<rehearse::model::Report>(text),
        shared::SCHEMA => comes_back::<shared::Report>(text),
        show::model::SCHEMA => comes_back::<show::model::Report>(text),
        tolerance::model::SCHEMA => comes_back::<tolerance::model::Report>(text),
        other => assert!(OTHERS.contains(&other), "{other} has no model"),
    }
}

fn comes_back<T: DeserializeOwned + Serialize>(text: &str) {
    let model: T = serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"));
    let again = json::document(&model).expect("JSON");
    // What is no text is escaped when it is printed.
    if text.contains("\\u") {
        let value = |text| serde_json::from_str::<Value>(text).expect("JSON");
        assert_eq!(value(&again), value(text));
    } else {
        assert_eq!(again.trim_end(), text.trim_end());
    }
}
