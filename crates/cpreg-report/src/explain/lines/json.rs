//! Conversion of the explanation of error lines to its model.

use cpreg::register::RegisterId;
use cpreg_explain::explain::AffectedRegister;
use cpreg_explain::{Emitter, Explanation, VersionRange};

use super::model::{
    Cause, ExplainLinesReport, Failure, NextStep, ProgramVersions, Register, SCHEMA,
};
use super::{LinesExplanation, emitters, step_command, step_result};
use crate::field::{FieldReport, decode_fields};

impl From<&LinesExplanation> for ExplainLinesReport {
    fn from(lines: &LinesExplanation) -> Self {
        let failures = lines.failures.iter();
        Self {
            schema: SCHEMA.to_owned(),
            failures: failures
                .map(|(explanation, it)| failure(explanation, it))
                .collect(),
            omitted_failures: lines.omitted_failures,
            unknown_lines: lines.unknown_lines.clone(),
            omitted_unknown_lines: lines.omitted_unknown_lines,
            skipped_lines: lines.skipped_lines,
            truncated_lines: lines.truncated_lines,
        }
    }
}

fn failure(explanation: &Explanation, failure: &cpreg_explain::LoadFailure) -> Failure {
    let causes = explanation.causes.iter().map(|cause| Cause {
        description: cause.description.clone(),
        source: cause.source.to_string(),
    });
    let next_steps = explanation.next_steps.iter().map(|step| NextStep {
        command: step_command(step).into_owned(),
        result: step_result(step).to_owned(),
    });
    Failure {
        kind: explanation.kind.name().to_owned(),
        title: explanation.kind.title().to_owned(),
        situation: explanation.situation.name().to_owned(),
        vm_state: explanation.vm_state.map(str::to_owned),
        times: failure.times,
        lines: failure.lines.clone(),
        omitted_lines: failure.further_lines,
        emitters: emitters(failure)
            .into_iter()
            .map(program_versions)
            .collect(),
        meaning: explanation.meaning.clone(),
        registers: explanation.registers.iter().map(register).collect(),
        causes: causes.collect(),
        next_steps: next_steps.collect(),
    }
}

fn program_versions((emitter, versions): (Emitter, VersionRange)) -> ProgramVersions {
    ProgramVersions {
        program: emitter.name().to_owned(),
        since: versions.first.map(|version| version.to_string()),
        until: versions.last.map(|version| version.to_string()),
    }
}

fn register(affected: &AffectedRegister) -> Register {
    let register = &affected.register;
    let is_secret = register.id.is_some_and(RegisterId::is_secret);
    let value = |value: Option<u64>| value.filter(|_| !is_secret).map(Into::into);
    let name = |id: RegisterId| id.display_in(register.naming()).to_string();
    Register {
        text: register.text.clone(),
        id: register.id.map(Into::into),
        name: register.id.map(name),
        difference: affected.difference.map(Into::into),
        value: value(affected.value),
        fields: fields(affected),
        destination_value: value(affected.destination_value),
        hidden: affected.hidden,
        tolerance: affected.tolerance,
    }
}

fn fields(affected: &AffectedRegister) -> Vec<FieldReport> {
    match (affected.register.id, affected.value) {
        (Some(id), Some(value)) if !id.is_secret() => decode_fields(id, value)
            .iter()
            .map(FieldReport::from)
            .collect(),
        _ => Vec::new(),
    }
}
