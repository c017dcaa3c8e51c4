//! The JSON about error lines, schema `cpreg.explained-lines/1`; documented in docs/json.md. 64-bit values are strings, `"0x…"`.

use cpreg::remedy::Remedy;
use cpreg::tolerance::Difference;
use cpreg_explain::explain::{Cause, Concerned};
use cpreg_explain::{Explanation, Failure, Speaker, Versions};
use serde::Serialize;

use super::{Explained, speakers};
use crate::remedy;
use crate::value::id_digits;

/// The schema's name and version.
const SCHEMA: &str = "cpreg.explained-lines/1";

#[derive(Serialize)]
struct Report<'a> {
    schema: &'static str,
    failures: Vec<FailureReport<'a>>,
    further_failures: usize,
    not_understood: Vec<NotUnderstood<'a>>,
    further_not_understood: usize,
    skipped: usize,
    cut: usize,
}

#[derive(Serialize)]
struct FailureReport<'a> {
    kind: &'static str,
    title: &'static str,
    times: usize,
    lines: &'a [String],
    further_lines: usize,
    said_by: Vec<SaidBy>,
    means: &'a str,
    registers: Vec<Register>,
    causes: Vec<CauseReport<'a>>,
    settle: Vec<StepReport>,
}

#[derive(Serialize)]
struct SaidBy {
    program: &'static str,
    since: Option<String>,
    until: Option<String>,
}

#[derive(Serialize)]
struct Register {
    text: String,
    id: Option<String>,
    name: Option<String>,
    difference: Option<&'static str>,
    value: Option<String>,
    is: Option<String>,
    hidden: bool,
    tolerance: Option<usize>,
}

#[derive(Serialize)]
struct CauseReport<'a> {
    what: &'a str,
    source: &'a str,
}

#[derive(Serialize)]
struct StepReport {
    command: String,
    tells: &'static str,
}

#[derive(Serialize)]
struct NotUnderstood<'a> {
    line: &'a str,
    times: usize,
}

/// The answer as one JSON document.
///
/// # Errors
/// If JSON cannot hold it, which no answer brings about.
pub fn report(explained: &Explained) -> serde_json::Result<String> {
    let report = Report {
        schema: SCHEMA,
        failures: explained
            .failures
            .iter()
            .map(|(explanation, failure)| failure_report(explanation, failure))
            .collect(),
        further_failures: explained.further,
        not_understood: explained
            .not_understood
            .iter()
            .map(|line| NotUnderstood {
                line: &line.line,
                times: line.times,
            })
            .collect(),
        further_not_understood: explained.further_not_understood,
        skipped: explained.skipped,
        cut: explained.cut,
    };
    let mut text = serde_json::to_string_pretty(&report)?;
    text.push('\n');
    Ok(text)
}

fn failure_report<'a>(explanation: &'a Explanation, failure: &'a Failure) -> FailureReport<'a> {
    FailureReport {
        kind: explanation.kind.name(),
        title: explanation.kind.title(),
        times: failure.times,
        lines: &failure.lines,
        further_lines: failure.further_lines,
        said_by: speakers(failure).into_iter().map(said_by).collect(),
        means: &explanation.means,
        registers: explanation.registers.iter().map(register).collect(),
        causes: explanation.causes.iter().map(cause).collect(),
        settle: explanation.settle.iter().map(step).collect(),
    }
}

fn said_by((speaker, versions): (Speaker, Versions)) -> SaidBy {
    SaidBy {
        program: speaker.name(),
        since: versions.since.map(|version| version.to_string()),
        until: versions.until.map(|version| version.to_string()),
    }
}

fn register(concerned: &Concerned) -> Register {
    let register = &concerned.register;
    let is_secret = register
        .id
        .is_some_and(cpreg::register::RegisterId::is_secret);
    let value = |value: Option<u64>| {
        value
            .filter(|_| !is_secret)
            .map(|value| format!("{value:#x}"))
    };
    Register {
        text: register.text.clone(),
        id: register.id.map(id_digits),
        name: register
            .id
            .map(|id| id.display_in(register.naming()).to_string()),
        difference: concerned.difference.map(Difference::name),
        value: value(concerned.value),
        is: value(concerned.is),
        hidden: concerned.hidden,
        tolerance: concerned.tolerance,
    }
}

fn cause(cause: &Cause) -> CauseReport<'_> {
    CauseReport {
        what: &cause.what,
        source: &cause.source,
    }
}

fn step(step: &Remedy) -> StepReport {
    StepReport {
        command: remedy::command(step),
        tells: remedy::tells(step),
    }
}
