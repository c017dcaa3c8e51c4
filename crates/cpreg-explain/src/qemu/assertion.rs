//! Failed assertions, in the words of three libraries:
//!
//! - glibc: ``FILE:LINE: FUNCTION: Assertion `EXPRESSION' failed.``
//! - macOS: `Assertion failed: (EXPRESSION), function FUNCTION, file FILE, line LINE.`
//! - GLib: `ERROR:FILE:LINE:FUNCTION: assertion failed: (EXPRESSION)`, and the same words again
//!   after `Bail out!`. QEMU's `g_assert` prints these.

use alloc::vec::Vec;

use cpreg::destination::VersionRange;

use crate::message::{Emitter, Statement, Symptom};
use crate::pattern::{Cursor, MAX_STATEMENTS_PER_LINE, Pattern, to_name};

/// Patterns of assertions that begin with fixed text.
pub(super) const PATTERNS: &[Pattern] = &[
    Pattern::for_any_version("Assertion failed: (", |rest| {
        let assertion = to_name(rest.take_until("), function ")?);
        Some(Symptom::Aborted {
            function: to_name(rest.parse_name()?),
            assertion,
        })
    }),
    Pattern::for_any_version("ERROR:", parse_glib),
];

/// Words of glibc's message that follow the name of the function.
pub(crate) const GLIBC: &str = ": Assertion `";

/// Parses glibc's message.
///
/// glibc prints the function's name before the fixed text, so a [`Pattern`], which begins with
/// fixed text, cannot match.
pub(crate) fn parse_glibc(line: &str) -> Vec<(usize, Statement)> {
    line.match_indices(GLIBC)
        .take(MAX_STATEMENTS_PER_LINE)
        .filter_map(|(at, words)| {
            // A C++ compiler prints the types too: `int f(State *)`. The parameters stay.
            let before = line[..at].rsplit(": ").next()?;
            let name = before.split('(').next()?.rsplit([' ', ':']).next()?;
            let function = before.get(before.find(name)?..)?;
            let assertion = Cursor(&line[at + words.len()..]).take_until("' failed")?;
            let statement = Statement {
                symptom: Symptom::Aborted {
                    function: to_name(function),
                    assertion: to_name(assertion),
                },
                emitter: Emitter::QEMU,
                versions: VersionRange::ANY,
            };
            (!function.is_empty()).then_some((at, statement))
        })
        .collect()
}

/// Parses GLib's `../target/arm/machine.c:1045:cpu_pre_load: assertion failed: (EXPRESSION)`.
///
/// The expression may be truncated. `code should not be reached` has none.
fn parse_glib(rest: &mut Cursor<'_>) -> Option<Symptom> {
    let file = rest.take_until(":")?;
    let has_suffix = [".c", ".h", ".cc", ".rs"]
        .iter()
        .any(|it| file.ends_with(it));
    if !has_suffix || file.contains(' ') {
        return None;
    }
    rest.parse_u32()?;
    rest.expect(":")?;
    let function = to_name(rest.take_until(": ")?);
    if rest.expect("code should not be reached").is_some() {
        return Some(Symptom::Aborted {
            function,
            assertion: "code should not be reached".into(),
        });
    }
    rest.expect("assertion failed")?;
    // `assertion failed (a == b): (1 == 2)` is the form of `g_assert_cmpint`.
    let expression = rest.rest_of_line().trim_start_matches([':', ' ']);
    let end = expression.find("Bail out!").unwrap_or(expression.len());
    let expression = expression[..end].trim();
    let expression = expression
        .strip_prefix('(')
        .map_or(expression, |inner| inner.strip_suffix(')').unwrap_or(inner));
    Some(Symptom::Aborted {
        function,
        assertion: to_name(expression),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn aborted(function: &str, assertion: &str) -> Symptom {
        Symptom::Aborted {
            function: function.into(),
            assertion: assertion.into(),
        }
    }

    #[test]
    fn glib_assertion_is_parsed() {
        let parse = |text: &str| parse_glib(&mut Cursor(text));
        assert_eq!(
            parse("../a/machine.c:1045:cpu_pre_load: assertion failed: (!cpu->cpreg)"),
            Some(aborted("cpu_pre_load", "!cpu->cpreg"))
        );
        assert_eq!(
            parse("../a/machine.c:1045:cpu_pre_load: assertion failed: (!cpu->cp"),
            Some(aborted("cpu_pre_load", "!cpu->cp"))
        );
        assert_eq!(
            parse("a.c:1:f: assertion failed (a == b): (1 == 2)Bail out! ERROR:a.c:1:f: x"),
            Some(aborted("f", "a == b): (1 == 2"))
        );
        assert_eq!(
            parse("../hw/x.c:7:g: code should not be reached"),
            Some(aborted("g", "code should not be reached"))
        );
        assert_eq!(parse(" nova.compute: assertion failed"), None);
        assert_eq!(parse("root:1:f: assertion failed: (x)"), None);
    }
}
