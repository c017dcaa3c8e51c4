//! Check that rustfmt formats every part of every file.
//!
//! rustfmt silently leaves an expression or item unchanged if it cannot make one of its lines short
//! enough. So this check formats each file without the indentation of its code. The parts that
//! differ from the file afterwards are those that rustfmt left unchanged.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;

use proc_macro2::{Span, TokenStream, TokenTree};
use syn::parse::discouraged::Speculative as _;
use syn::parse::{ParseStream, Parser as _};
use syn::spanned::Spanned as _;
use syn::visit::{self, Visit};
use syn::{Expr, ItemMacro, Macro, MacroDelimiter, Pat, Token, Type};

use crate::exceptions::GENERATED_FILES;
use crate::result::{Finding, Result};
use crate::workspace::Workspace;

/// Finds the files of which rustfmt leaves a part unchanged.
pub(crate) fn check(workspace: &Workspace) -> Result<Vec<Finding>> {
    let mut files = workspace.rust_files()?;
    files.retain(|path| {
        GENERATED_FILES
            .iter()
            .all(|(file, _)| path.as_os_str() != *file)
    });
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let results: Vec<Result<Vec<Finding>>> = thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|first| {
                let files = files.iter().skip(first).step_by(threads);
                scope.spawn(|| check_files(&workspace.root, files))
            })
            .collect();
        let findings = workers.into_iter().map(|worker| {
            worker
                .join()
                .unwrap_or_else(|_| Err("a thread panicked".into()))
        });
        findings.collect()
    });
    let mut findings = Vec::new();
    for part in results {
        findings.extend(part?);
    }
    findings.sort();
    Ok(findings)
}

fn check_files<'a>(root: &Path, files: impl Iterator<Item = &'a PathBuf>) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    for file in files {
        let failed = |error: &dyn Display| format!("{}: {error}", file.display());
        let text = fs::read_to_string(root.join(file)).map_err(|error| failed(&error))?;
        for line in unformatted_lines(root, &text).map_err(|error| failed(&error))? {
            let shown = text.lines().nth(line - 1).unwrap_or_default().trim();
            findings.push(format!(
                "{}:{line}: rustfmt does not format: {shown}",
                file.display()
            ));
        }
    }
    Ok(findings)
}

/// Returns the first line of each part of `text` that rustfmt leaves unchanged.
fn unformatted_lines(root: &Path, text: &str) -> Result<Vec<usize>> {
    let formatted = format(root, &strip_indentation(text)?)?;
    let mut lines = Vec::new();
    let mut is_in_unformatted_part = false;
    // Only indentation was removed, so formatting keeps the number of lines. If it does not, all
    // later lines differ.
    for (index, line) in text.lines().enumerate() {
        let is_same = formatted.lines().nth(index) == Some(line);
        if !is_same && !is_in_unformatted_part {
            lines.push(index + 1);
        }
        is_in_unformatted_part = !is_same;
    }
    Ok(lines)
}

fn format(root: &Path, text: &str) -> Result<String> {
    let mut child = Command::new("rustfmt")
        .args(["--edition", "2024", "--emit", "stdout", "--quiet"])
        .current_dir(root)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| {
            format!("cannot start `rustfmt`: {error} (rustup component add rustfmt)")
        })?;
    let Some(mut input) = child.stdin.take() else {
        return Err("rustfmt has no standard input".into());
    };
    let output = thread::scope(|scope| {
        scope.spawn(move || input.write_all(text.as_bytes()));
        child.wait_with_output()
    })?;
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        return Err(format!("rustfmt: {}: {}", output.status, stderr.trim()).into());
    }
    Ok(String::from_utf8(output.stdout)?)
}

/// Removes the indentation of all lines that rustfmt is expected to indent.
fn strip_indentation(text: &str) -> Result<String> {
    let mut kept = KeptLines::default();
    let tokens: TokenStream = text.parse().map_err(|error| format!("not Rust: {error}"))?;
    kept.add_literals(&tokens);
    kept.visit_file(&syn::parse_file(text)?);
    let mut stripped = String::with_capacity(text.len());
    for (index, line) in text.lines().enumerate() {
        let is_kept = kept.lines.contains(&(index + 1));
        stripped.push_str(if is_kept { line } else { line.trim_start() });
        stripped.push('\n');
    }
    Ok(stripped)
}

/// Numbers of the lines whose indentation is kept.
#[derive(Default)]
struct KeptLines {
    lines: BTreeSet<usize>,
}

impl KeptLines {
    /// Keeps the lines of `span` after its first.
    fn add(&mut self, span: Span) {
        self.lines.extend(span.start().line + 1..=span.end().line);
    }

    /// Keeps the lines inside of literals.
    fn add_literals(&mut self, tokens: &TokenStream) {
        for token in tokens.clone() {
            match token {
                TokenTree::Group(group) => self.add_literals(&group.stream()),
                TokenTree::Literal(literal) => self.add(literal.span()),
                _ => {}
            }
        }
    }
}

impl<'ast> Visit<'ast> for KeptLines {
    fn visit_item_macro(&mut self, item: &'ast ItemMacro) {
        // rustfmt formats definitions of macros only in part.
        if item.ident.is_some() {
            self.add(item.span());
        } else {
            visit::visit_item_macro(self, item);
        }
    }

    fn visit_macro(&mut self, call: &'ast Macro) {
        match arguments(call) {
            Some(arguments) => {
                for argument in &arguments {
                    self.visit_expr(argument);
                }
            }
            None => self.add(call.span()),
        }
    }
}

/// Returns the expressions among the arguments of a macro, if rustfmt formats them.
fn arguments(call: &Macro) -> Option<Vec<Expr>> {
    if matches!(call.delimiter, MacroDelimiter::Brace(_)) {
        return None;
    }
    let list = |input: ParseStream<'_>| {
        let mut arguments = Vec::new();
        while !input.is_empty() {
            arguments.extend(parse_argument(input)?);
            if !input.is_empty() {
                input.parse::<Token![,]>()?;
            }
        }
        Ok(arguments)
    };
    // An example is `vec![0; 4]`.
    let repeat = |input: ParseStream<'_>| {
        let value = input.parse()?;
        input.parse::<Token![;]>()?;
        Ok(vec![value, input.parse()?])
    };
    let list = list.parse2(call.tokens.clone());
    list.or_else(|_| repeat.parse2(call.tokens.clone())).ok()
}

/// Parses an expression that rustfmt accepts as one argument of a macro.
fn parse_argument(input: ParseStream<'_>) -> syn::Result<Option<Expr>> {
    type Parse = fn(ParseStream<'_>) -> syn::Result<Option<Expr>>;
    let parsers: [Parse; 3] = [
        |input| input.parse().map(Some),
        |input| input.parse::<Type>().map(|_| None),
        |input| Pat::parse_single(input).map(|_| None),
    ];
    for parser in parsers {
        let ahead = input.fork();
        if let Ok(argument) = parser(&ahead)
            && (ahead.is_empty() || ahead.peek(Token![,]))
        {
            input.advance_to(&ahead);
            return Ok(argument);
        }
    }
    Err(input.error("not an argument that rustfmt formats"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unformatted_lines_of(text: &str) -> Vec<usize> {
        unformatted_lines(Path::new(env!("CARGO_MANIFEST_DIR")), text).expect("rustfmt runs")
    }

    #[test]
    fn formatted_code_is_formatted() {
        let text = r##"//! Code in every shape that keeps its own indentation.

const RAW: &str = r#"
    raw
"#;

fn f(n: u8) -> String {
    // A comment.
    let text = "several
      lines, \
        continued";
    let long = matches!(
        n,
        0..=1
            | 3..=4
    );
    custom! {
        anything  =>  goes
    }
    assert_eq!(
        text, RAW,
        "a message that makes the whole call longer than one line may be: {long}"
    );
    vec![
        String::from("a value that makes the whole call longer than one line can be, by a bit m");
        3
    ];
    text.to_owned()
}
"##;
        assert_eq!(unformatted_lines_of(text), [0; 0]);
    }

    #[test]
    fn code_that_rustfmt_leaves_unchanged_is_found() {
        let long = "long ".repeat(25);
        let text = format!(
            "fn f() {{\n    print(\n          \"{long}\",\n        1,\n    );\n}}\n\n\
             fn g() {{\n    print(\n        \"{long}\",\n    );\n}}\n"
        );
        assert_eq!(unformatted_lines_of(&text), [3]);
    }

    #[test]
    fn code_that_does_not_parse_is_an_error() {
        assert!(unformatted_lines(Path::new("."), "fn f( {").is_err());
    }
}
