//! Tests that docs/json.md (tables of members) and docs/schemas (JSON Schemas) match the models.
//!
//! `cargo xtask bless` rewrites both. The text between the tables is written by hand.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use cpreg_report::names::{FailureKind, ReasonCode};
use cpreg_report::schemas::{self, Document};
use serde_json::Value;

/// Members whose members have a table elsewhere.
const DOCUMENTED_ELSEWHERE: [(&str, &str); 10] = [
    ("cpreg.matrix/1", "error"),
    ("cpreg.matrix/1", "left_out_destinations[].error"),
    ("cpreg.check/2", "dry_run"),
    ("cpreg.relay/2", "check"),
    ("cpreg.relay/2", "rehearsal"),
    ("cpreg.relay/2", "error"),
    ("cpreg.rehearsal/2", "check"),
    ("cpreg.explain/2", "register.tolerances"),
    ("cpreg.report/2", "check"),
    ("cpreg.report/2", "destination.profile"),
];

/// Members with a section of their own: heading, document and member.
const SEPARATE_SECTIONS: [(&str, &str, &str); 1] =
    [("`dry_run` of `cpreg.check/2`", "cpreg.check/2", "dry_run")];

const TABLE_HEAD: &str = "| member | contents |\n|---|---|\n";

/// Returns all documents, in the order of the documentation.
fn documents() -> Vec<Document> {
    let mut documents = schemas::all();
    let of_run = cpreg_vcpu_filter::schemas::all(schemas::generator);
    documents.extend(
        of_run
            .into_iter()
            .map(|(name, schema)| Document::new(name, schema)),
    );
    let (name, schema) = cpreg_guest_check::report::schema(schemas::generator());
    documents.push(Document::new(name, schema));
    documents
}

fn docs_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs")
}

/// Compares a file with the expected text, or writes it with `BLESS`.
fn assert_current(path: &Path, text: &str) {
    if std::env::var_os("BLESS").is_some() {
        fs::write(path, text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        return;
    }
    let actual = fs::read_to_string(path).unwrap_or_default();
    let line = actual.lines().zip(text.lines()).position(|(a, b)| a != b);
    assert!(
        actual == text,
        "{} does not match the models from line {} on; run cargo xtask bless",
        path.display(),
        line.unwrap_or_else(|| actual.lines().count().min(text.lines().count())) + 1
    );
}

/// Returns the file of a document's schema.
fn schema_path(document: &Document) -> PathBuf {
    let name = document.name.trim_start_matches("cpreg.");
    let name = name.split('/').next().unwrap_or(name);
    docs_dir().join(format!("schemas/{name}.schema.json"))
}

#[test]
fn schemas_are_current() {
    let documents = documents();
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
    let mut expected = String::new();
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
                expected.push_str(&with_table(&section, &rows));
            }
            None => expected.push_str(&section),
        }
    }
    let count = documents().len() + SEPARATE_SECTIONS.len();
    assert_eq!(headings.len(), count, "sections: {headings:#?}");
    assert_current(&path, &expected);
}

#[test]
fn words_for_programs_are_documented() {
    let text = fs::read_to_string(docs_dir().join("json.md")).expect("the documentation");
    for (heading, names) in [
        ("Reason codes", ReasonCode::NAMES),
        ("Kinds of errors", FailureKind::NAMES),
    ] {
        let section = text.split(&format!("## {heading}\n")).nth(1);
        let rows = section.and_then(|text| text.split("\n## ").next());
        let rows = rows
            .unwrap_or_else(|| panic!("no section `{heading}`"))
            .lines();
        let documented: Vec<&str> = rows
            .filter_map(|row| row.strip_prefix("| `")?.split('`').next())
            .collect();
        assert_eq!(documented, names);
    }
}

/// Appends a line to the current section, or begins a new one.
fn append_to_section(mut sections: Vec<String>, line: &str) -> Vec<String> {
    match sections.last_mut() {
        Some(section) if !line.starts_with("## ") => section.push_str(line),
        _ => sections.push(line.to_owned()),
    }
    sections
}

/// Returns the section with these rows in its table of members.
fn with_table(section: &str, rows: &str) -> String {
    let start = section.find("\n| member |").expect("a table of members") + 1;
    let table = &section[start..];
    let end = table.find("\n\n").map_or(table.len(), |offset| offset + 1);
    format!("{}{TABLE_HEAD}{rows}{}", &section[..start], &table[end..])
}

/// Returns the rows of a section's table, if its heading names a document.
fn table_rows(heading: &str) -> Option<String> {
    let separate = SEPARATE_SECTIONS
        .iter()
        .find(|(title, ..)| *title == heading);
    let (name, member) = match separate {
        Some((_, name, member)) => (*name, Some(*member)),
        None => (heading.trim_matches('`'), None),
    };
    let documents = documents();
    let document = documents.iter().find(|document| document.name == name)?;
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

/// Table of the members of a document.
struct Table<'a> {
    name: &'a str,
    root: &'a Value,
    /// Definitions around the current member, because a condition may contain conditions.
    open_definitions: Vec<String>,
    rows: String,
}

impl Table<'_> {
    /// Adds a row for each member of an object, and for nested members.
    fn add_members(&mut self, schema: &Value, path: &str) {
        for (name, member) in members(schema) {
            let path = if path.is_empty() {
                name
            } else {
                format!("{path}.{name}")
            };
            let description = member["description"].as_str().unwrap_or_default();
            let words: Vec<&str> = description.split_whitespace().collect();
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

    /// Adds the rows of the members inside a member.
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

/// Returns the members of an object: the required ones in their order, then the optional ones.
fn members(schema: &Value) -> Vec<(String, Value)> {
    if let Some(forms) = schema["oneOf"].as_array() {
        let common = members_of_object(schema);
        return common.into_iter().chain(members_of_forms(forms)).collect();
    }
    members_of_object(schema)
}

/// Returns the members that an object has itself: the required ones in their order, then the
/// optional ones.
fn members_of_object(schema: &Value) -> Vec<(String, Value)> {
    let Some(properties) = schema["properties"].as_object() else {
        return Vec::new();
    };
    let required = schema["required"].as_array();
    let required: Vec<&str> = required
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    let optional = properties.keys().map(String::as_str);
    let optional = optional.filter(|name| !required.contains(name));
    let names = required.iter().copied().chain(optional);
    names
        .map(|name| (name.to_owned(), properties[name].clone()))
        .collect()
}

/// Returns the members of an object with several forms, which one member with a fixed value
/// distinguishes.
fn members_of_forms(forms: &[Value]) -> Vec<(String, Value)> {
    let properties = forms[0]["properties"].as_object().expect("members");
    let is_tag = |(_, member): &(&String, &Value)| member.get("const").is_some();
    let (tag, _) = properties
        .iter()
        .find(is_tag)
        .expect("a member with a fixed value");
    let values = forms.iter().map(|form| {
        let description = form["description"].as_str().unwrap_or_default();
        let description = description.trim_end_matches('.');
        format!("`{}`: {description}", form["properties"][tag]["const"])
    });
    let values: Vec<String> = values.collect();
    let description = serde_json::json!({ "description": values.join("; ") + "." });
    let mut all = vec![(tag.clone(), description)];
    for (name, member) in forms.iter().flat_map(members) {
        if all.iter().all(|(other, _)| *other != name) {
            all.push((name, member));
        }
    }
    all
}
