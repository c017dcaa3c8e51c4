//! Checks of JSON documents: every document that a test reads must match its schema. It is also
//! parsed into its model, and the model must give the same document.

use cpreg_guest_check::report as guest_check;
use cpreg_report::{
    baseline, check, classes, diff, explain, failure, fleet, host, host_diff, host_key, hosts,
    json, kernel_diff, rehearse, relay, show, tolerance, vm_report,
};
use cpreg_vcpu_filter::run_status::{RunStatus, STATUS_SCHEMA};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::schema;

/// Schemas whose documents are tested in their own crates.
const SCHEMAS_TESTED_ELSEWHERE: [&str; 2] = ["cpreg.profile/2", "cpreg.host/2"];

/// Checks that a document matches its schema, and that its model has all of its members.
pub(crate) fn round_trip(text: &str) {
    let document: Value =
        serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"));
    assert_eq!(schema::validate(&document), Ok(()), "{text}");
    let name = document["schema"].as_str().expect("the name of a schema");
    match name {
        baseline::model::SCHEMA => {
            assert_model_round_trip::<baseline::model::BaselineReport>(text);
        }
        check::model::SCHEMA => assert_model_round_trip::<check::model::CheckReport>(text),
        diff::model::SCHEMA => assert_model_round_trip::<diff::model::DiffReport>(text),
        explain::lines::model::SCHEMA => {
            assert_model_round_trip::<explain::lines::model::ExplainLinesReport>(text);
        }
        explain::register::model::SCHEMA => {
            assert_model_round_trip::<explain::register::model::ExplainRegisterReport>(text);
        }
        guest_check::SCHEMA => assert_model_round_trip::<guest_check::GuestCheckReport>(text),
        host::model::SCHEMA => assert_model_round_trip::<host::model::HostReport>(text),
        host_diff::model::SCHEMA => {
            assert_model_round_trip::<host_diff::model::HostDiffReport>(text);
        }
        kernel_diff::model::SCHEMA => {
            assert_model_round_trip::<kernel_diff::model::KernelDiffReport>(text);
        }
        classes::model::SCHEMA => assert_model_round_trip::<classes::model::ClassesReport>(text),
        fleet::check::SCHEMA => assert_model_round_trip::<fleet::check::FleetCheckReport>(text),
        fleet::drain::SCHEMA => assert_model_round_trip::<fleet::drain::FleetDrainReport>(text),
        fleet::plan::SCHEMA => assert_model_round_trip::<fleet::plan::FleetPlanReport>(text),
        fleet::labels::SCHEMA => {
            assert_model_round_trip::<fleet::labels::FleetLabelsReport>(text);
        }
        host_key::SCHEMA => assert_model_round_trip::<host_key::KeyReport>(text),
        hosts::model::SCHEMA => assert_model_round_trip::<hosts::model::HostsReport>(text),
        rehearse::model::SCHEMA => {
            assert_model_round_trip::<rehearse::model::RehearsalReport>(text);
        }
        failure::SCHEMA => assert_model_round_trip::<failure::ErrorReport>(text),
        relay::model::SCHEMA => assert_model_round_trip::<relay::model::RelayReport>(text),
        vm_report::SCHEMA => assert_model_round_trip::<vm_report::VmReport>(text),
        show::model::SCHEMA => assert_model_round_trip::<show::model::ShowReport>(text),
        tolerance::model::SCHEMA => {
            assert_model_round_trip::<tolerance::model::TolerancesReport>(text);
        }
        STATUS_SCHEMA => assert_model_round_trip::<RunStatus>(text),
        other => assert!(
            SCHEMAS_TESTED_ELSEWHERE.contains(&other),
            "{other} has no model"
        ),
    }
}

fn assert_model_round_trip<T: DeserializeOwned + Serialize>(text: &str) {
    let model: T = serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"));
    let written = json::document(&model).expect("JSON");
    // Control characters are escaped when they are printed.
    if text.contains("\\u") {
        let value = |text| serde_json::from_str::<Value>(text).expect("JSON");
        assert_eq!(value(&written), value(text));
    } else {
        assert_eq!(written.trim_end(), text.trim_end());
    }
}
