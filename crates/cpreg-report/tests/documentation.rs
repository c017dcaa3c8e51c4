//! docs/json.md and docs/schemas are made of the models: the tables of members, and the JSON Schemas.
//!
//! `cargo xtask bless` writes them anew. What stands between the tables is written by hand.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use cpreg_report::schemas::{self, Document};
use serde_json::Value;

/// Members whose own members have a table elsewhere.
const DOCUMENTED_ELSEWHERE: [(&str, &str); 5] = [
    ("cpreg.check/2", "dry_run"),
    ("cpreg.rehearsal/2", "check"),
    ("cpreg.explain/2", "register.tolerances"),
    ("cpreg.report/2", "check"),
    ("cpreg.report/2", "destination.profile"),
];

/// Members whose table is a section of its own: the heading, the document, and the member.
const SEPARATE_SECTIONS: [(&str, &str, &str); 1] =
    [("`dry_run` of `cpreg.check/2`", "cpreg.check/1", "dry_run")];

const TABLE: &str = "| member | what it holds |\n|---|---|\n";

fn docs_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs")
}

/// Compares a file with what it should be, or writes it.
fn assert_current(path: &Path, text: &str) {
    if std::env::var_os("BLESS").is_some() {
        fs::write(path, text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        return;
    }
    let there = fs::read_to_string(path).unwrap_or_default();
    let line = there.lines().zip(text.lines()).position(|(a, b)| a != b);
    assert!(
        there == text,
        "{} is not what the models say, from line {} on; run cargo xtask bless",
        path.display(),
        line.unwrap_or_else(|| there.lines().count().min(text.lines().count())) + 1
    );
}

/// The file of a document's schema.
fn schema_path(document: &Document) -> PathBuf {
    let name = document.name.trim_start_matches("cpreg.");
    let name = name.split('/').next().unwrap_or(name);
    docs_dir().join(format!("schemas/{name}.schema.json"))
}

#[test]
fn schemas_are_current() {
    let documents = schemas::all();
    for document in &documents {
        let text = serde_json::to_string_pretty(&document.schema).expect("JSON");
        assert_current(&schema_path(document), &(text + "\n"));
    }
    let files = fs::read_dir(docs_dir().join("schemas")).expect("a folder");
    assert_eq!(files.count(), documents.len(), "a schema of no document");
}

#[test]
fn tables_are_current() {
    let path = docs_dir().join("json.md");
    let text = fs::read_to_string(&path).expect("the documentation");
    let mut made = String::new();
    let mut headings = BTreeSet::new();
    for section in text
        .split_inclusive('\n')
        .fold(Vec::new(), append_to_section)
    {
        let heading = section.lines().next().unwrap_or_default();
        let heading = heading.strip_prefix("## ").unwrap_or_default();
        match table_rows(heading) {
            Some(rows) => {
                headings.insert(heading.to_owned());
                made.push_str(&with_table(&section, &rows));
            }
            None => made.push_str(&section),
        }
    }
    let expected = schemas::all().len() + SEPARATE_SECTIONS.len();
    assert_eq!(headings.len(), expected, "sections: {headings:#?}");
    assert_current(&path, &made);
}

/// Puts a line into a section of its document.
fn append_to_section(mut sections: Vec<String>, line: &str) -> Vec<String> {
    match sections.last_mut() {
        Some(section) if !line.starts_with("## ") => section.push_str(line),
        _ => sections.push(line.to_owned()),
    }
    sections
}

/// The section with these rows in its table of members.
fn with_table(section: &str, rows: &str) -> String {
    let start = section.find("\n| member |").expect("a table of members") + 1;
    let table = &section[start..];
    let end = table.find("\n\n").map_or(table.len(), |at| at + 1);
    format!("{}{TABLE}{rows}{}", &section[..start], &table[end..])
}

/// The rows of a section's table, if its heading is a document's.
fn table_rows(heading: &str) -> Option<String> {
    let apart = SEPARATE_SECTIONS
        .iter()
        .find(|(title, ..)| *title == heading);
    let (name, member) = match apart {
        Some((_, name, member)) => (*name, Some(*member)),
        None => (heading.trim_matches('`'), None),
    };
    let documents = schemas::all();
    let document = documents.iter().find(|it| it.name == name)?;
    let root = document.schema.as_value();
    let mut table = Table {
        name,
        root,
        open_definitions: Vec::new(),
        rows: String::new(),
    };
    match member {
        None => table.add_members(root, ""),
        Some(member) => table.add_nested_members(&root["properties"][member], member),
    }
    Some(table.rows)
}

/// A table of a document's members.
struct Table<'a> {
    name: &'a str,
    root: &'a Value,
    /// Definitions that the current member is inside of: a condition may hold conditions.
    open_definitions: Vec<String>,
    rows: String,
}

impl Table<'_> {
    /// Adds a row for each member of an object, and for theirs.
    fn add_members(&mut self, schema: &Value, path: &str) {
        for (name, member) in members(schema) {
            let path = if path.is_empty() {
                name
            } else {
                format!("{path}.{name}")
            };
            let what = member["description"].as_str().unwrap_or_default();
            let words: Vec<&str> = what.split_whitespace().collect();
            assert!(
                !words.is_empty(),
                "{}: {path} has no description",
                self.name
            );
            let cell = words.join(" ").replace('|', "\\|");
            let _ = writeln!(self.rows, "| `{path}` | {cell} |");
            if !DOCUMENTED_ELSEWHERE.contains(&(self.name, &path)) {
                self.add_nested_members(&member, &path);
            }
        }
    }

    /// Adds the rows of what is inside a member.
    fn add_nested_members(&mut self, schema: &Value, path: &str) {
        if let Some(name) = schema["$ref"].as_str() {
            if self.open_definitions.iter().any(|outer| outer == name) {
                return;
            }
            let target = self.root.pointer(name.trim_start_matches('#'));
            let target = target.unwrap_or_else(|| panic!("{name} is not defined"));
            self.open_definitions.push(name.to_owned());
            self.add_nested_members(target, path);
            self.open_definitions.pop();
            return;
        }
        for alternative in schema["anyOf"].as_array().into_iter().flatten() {
            self.add_nested_members(alternative, path);
        }
        if schema.get("items").is_some() {
            self.add_nested_members(&schema["items"], &format!("{path}[]"));
        }
        self.add_members(schema, path);
    }
}

/// The members of an object: those that are always there in their order, then those that may be absent.
fn members(schema: &Value) -> Vec<(String, Value)> {
    if let Some(forms) = schema["oneOf"].as_array() {
        return members_of_forms(forms);
    }
    let Some(properties) = schema["properties"].as_object() else {
        return Vec::new();
    };
    let required = schema["required"].as_array();
    let required: Vec<&str> = required
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    let absent = properties.keys().map(String::as_str);
    let absent = absent.filter(|name| !required.contains(name));
    let names = required.iter().copied().chain(absent);
    names
        .map(|name| (name.to_owned(), properties[name].clone()))
        .collect()
}

/// The members of an object that has one of several forms, told apart by `kind`.
fn members_of_forms(forms: &[Value]) -> Vec<(String, Value)> {
    let kinds = forms.iter().map(|form| {
        let what = form["description"].as_str().unwrap_or_default();
        let what = what.trim_end_matches('.');
        format!("`{}`: {what}", form["properties"]["kind"]["const"])
    });
    let kinds: Vec<String> = kinds.collect();
    let kind = serde_json::json!({ "description": kinds.join("; ") + "." });
    let mut all = vec![("kind".to_owned(), kind)];
    for (name, member) in forms.iter().flat_map(members) {
        if all.iter().all(|(other, _)| *other != name) {
            all.push((name, member));
        }
    }
    all
}
