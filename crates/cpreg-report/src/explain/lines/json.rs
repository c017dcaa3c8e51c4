//! The answer about error lines as its model.

use cpreg::register::RegisterId;
use cpreg_explain::explain::Concerned;
use cpreg_explain::{Explanation, Speaker, Versions};

use super::model::{Cause, Failure, Register, Report, SCHEMA, SaidBy, Step};
use super::{Explained, speakers};
use crate::remedy;

impl From<&Explained> for Report {
    fn from(explained: &Explained) -> Self {
        let failures = explained.failures.iter();
        Self {
            schema: SCHEMA.to_owned(),
            failures: failures
                .map(|(explanation, it)| failure(explanation, it))
                .collect(),
            further_failures: explained.further,
            not_understood: explained.not_understood.clone(),
            further_not_understood: explained.further_not_understood,
            skipped: explained.skipped,
            cut: explained.cut,
        }
    }
}

fn failure(explanation: &Explanation, failure: &cpreg_explain::Failure) -> Failure {
    let causes = explanation.causes.iter().map(|cause| Cause {
        what: cause.what.clone(),
        source: cause.source.to_string(),
    });
    let settle = explanation.settle.iter().map(|step| Step {
        command: remedy::command(step),
        tells: remedy::tells(step).to_owned(),
    });
    Failure {
        kind: explanation.kind.name().to_owned(),
        title: explanation.kind.title().to_owned(),
        times: failure.times,
        lines: failure.lines.clone(),
        further_lines: failure.further_lines,
        said_by: speakers(failure).into_iter().map(said_by).collect(),
        means: explanation.means.clone(),
        registers: explanation.registers.iter().map(register).collect(),
        causes: causes.collect(),
        settle: settle.collect(),
    }
}

fn said_by((speaker, versions): (Speaker, Versions)) -> SaidBy {
    SaidBy {
        program: speaker.name().to_owned(),
        since: versions.since.map(|version| version.to_string()),
        until: versions.until.map(|version| version.to_string()),
    }
}

fn register(concerned: &Concerned) -> Register {
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
        is: value(concerned.is),
        hidden: concerned.hidden,
        tolerance: concerned.tolerance,
    }
}
