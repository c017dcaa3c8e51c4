//! Execution of the instructions of features, by child processes.

use std::io;

use crate::feature::Feature;
use crate::state::FeatureState;

/// Signal of Linux for an undefined instruction.
const SIGILL: i32 = 4;

/// End of a child process that executes features in turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ExecutionEnd {
    /// Number of features that the child executed.
    pub(crate) executed: usize,
    /// Signal that ended the child.
    pub(crate) signal: Option<i32>,
}

/// Results of the execution of features.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Execution {
    /// Features with a result.
    pub(crate) states: Vec<FeatureState>,
    /// Reasons for features without a result.
    pub(crate) failures: Vec<String>,
}

/// Executes features, and continues with the next feature after a child that ended early.
///
/// Only SIGILL shows that the CPU does not execute the instruction. Another end of the child
/// leaves the feature without a result.
pub(crate) fn execute_features(
    features: &[&Feature],
    mut run: impl FnMut(&[&Feature]) -> io::Result<ExecutionEnd>,
) -> io::Result<Execution> {
    let state = |feature: &Feature, is_executed| FeatureState {
        name: feature.name.to_owned(),
        is_executed,
    };
    let mut execution = Execution::default();
    let mut rest = features;
    while !rest.is_empty() {
        let end = run(rest)?;
        let (executed, others) = rest.split_at(end.executed.min(rest.len()));
        let states = executed.iter().map(|feature| state(feature, true));
        execution.states.extend(states);
        let Some((last, later)) = others.split_first() else {
            break;
        };
        match end.signal {
            Some(SIGILL) => execution.states.push(state(last, false)),
            Some(signal) => {
                let failure = format!("signal {signal} ended the execution of {}", last.name);
                execution.failures.push(failure);
            }
            None => {
                let failure = format!("the execution of {} ended early", last.name);
                execution.failures.push(failure);
            }
        }
        rest = later;
    }
    Ok(execution)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::feature::FEATURES;

    /// Executes the first five features, with an end of the child for some of them.
    fn execute(ends: &[(&str, Option<i32>)]) -> (Vec<String>, Vec<String>) {
        let features: Vec<_> = FEATURES.iter().take(5).collect();
        let execution = execute_features(&features, |rest| {
            let end = |feature: &&Feature| ends.iter().find(|end| end.0 == feature.name);
            let executed = rest.iter().take_while(|feature| end(feature).is_none());
            let executed = executed.count();
            let signal = rest.get(executed).and_then(end).and_then(|end| end.1);
            Ok(ExecutionEnd { executed, signal })
        });
        let execution = execution.expect("an execution");
        let states = execution.states.iter().map(|state| {
            let mark = if state.is_executed { '+' } else { '-' };
            format!("{mark}{}", state.name)
        });
        (states.collect(), execution.failures)
    }

    #[test]
    fn all_features_have_a_result() {
        let (states, failures) = execute(&[]);
        assert_eq!(states, ["+aes", "+pmull", "+sha1", "+sha2", "+crc32"]);
        assert_eq!(failures, Vec::<String>::new());
    }

    #[test]
    fn an_undefined_instruction_is_not_executed() {
        let (states, failures) = execute(&[("aes", Some(SIGILL)), ("crc32", Some(SIGILL))]);
        assert_eq!(states, ["-aes", "+pmull", "+sha1", "+sha2", "-crc32"]);
        assert_eq!(failures, Vec::<String>::new());
    }

    #[test]
    fn another_end_leaves_a_feature_without_a_result() {
        let ends = [("pmull", Some(9)), ("sha1", Some(SIGILL)), ("crc32", None)];
        let (states, failures) = execute(&ends);
        assert_eq!(states, ["+aes", "-sha1", "+sha2"]);
        assert_eq!(
            failures,
            [
                "signal 9 ended the execution of pmull",
                "the execution of crc32 ended early"
            ]
        );
    }

    #[test]
    fn a_child_that_cannot_start_is_an_error() {
        let features: Vec<_> = FEATURES.iter().collect();
        let error = execute_features(&features, |_| Err(io::ErrorKind::OutOfMemory.into()));
        assert_eq!(
            error.expect_err("an error").kind(),
            io::ErrorKind::OutOfMemory
        );
    }
}
