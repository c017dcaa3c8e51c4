//! The answer about error lines as its model.

use cpreg::register::RegisterId;
use cpreg_explain::explain::AffectedRegister;
use cpreg_explain::{Emitter, Explanation, VersionRange};

use super::model::{
    Cause, ExplainLinesReport, Failure, NextStep, ProgramVersions, Register, SCHEMA,
};
use super::{LinesExplanation, emitters};
use crate::remedy;

impl From<&LinesExplanation> for ExplainLinesReport {
    fn from(explained: &LinesExplanation) -> Self {
        let failures = explained.failures.iter();
        Self {
            schema: SCHEMA.to_owned(),
            failures: failures
                .map(|(explanation, it)| failure(explanation, it))
                .collect(),
            omitted_failures: explained.omitted_failures,
            unknown_lines: explained.unknown_lines.clone(),
            omitted_unknown_lines: explained.omitted_unknown_lines,
            skipped_lines: explained.skipped_lines,
            truncated_lines: explained.truncated_lines,
        }
    }
}

fn failure(explanation: &Explanation, failure: &cpreg_explain::LoadFailure) -> Failure {
    let causes = explanation.causes.iter().map(|cause| Cause {
        description: cause.description.clone(),
        source: cause.source.to_string(),
    });
    let settle = explanation.next_steps.iter().map(|step| NextStep {
        command: remedy::command(step),
        result: remedy::purpose(step).to_owned(),
    });
    Failure {
        kind: explanation.kind.name().to_owned(),
        title: explanation.kind.title().to_owned(),
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
        next_steps: settle.collect(),
    }
}

fn program_versions((speaker, versions): (Emitter, VersionRange)) -> ProgramVersions {
    ProgramVersions {
        program: speaker.name().to_owned(),
        since: versions.first.map(|version| version.to_string()),
        until: versions.last.map(|version| version.to_string()),
    }
}

fn register(concerned: &AffectedRegister) -> Register {
    let register = &concerned.register;
    let is_secret = register.id.is_some_and(RegisterId::is_secret);
    let value = |value: Option<u64>| value.filter(|_| !is_secret).map(Into::into);
    let name = |id: RegisterId| id.display_in(register.naming()).to_string();
    Register {
        text: register.text.clone(),
        id: register.id.map(Into::into),
        name: register.id.map(name),
        difference: concerned.difference.map(Into::into),
        value: value(concerned.value),
        destination_value: value(concerned.destination_value),
        hidden: concerned.hidden,
        tolerance: concerned.tolerance,
    }
}
