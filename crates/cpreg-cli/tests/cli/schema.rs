//! JSON documents against the schemas in docs/schemas.
//!
//! A schema allows unknown members, as a later cpreg may have more. Here they are errors.
//!
//! The check is written by hand, because a library allows what a schema allows, and unknown
//! keywords too. The crate `jsonschema` would also bring fifty crates, among them a second version
//! of syn, which `deny.toml` forbids.

use std::fs;
use std::path::Path;

use serde_json::Value;

/// Checks a document against the schema that it names.
pub(crate) fn validate(document: &Value) -> Result<(), String> {
    let name = document["schema"].as_str().ok_or("names no schema")?;
    let name = name.trim_start_matches("cpreg.").split('/').next();
    let file = format!("{}.schema.json", name.unwrap_or_default());
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/schemas");
    let text = fs::read_to_string(path.join(&file)).map_err(|error| format!("{file}: {error}"))?;
    let root: Value = serde_json::from_str(&text).map_err(|error| format!("{file}: {error}"))?;
    let schema = Schema { root: &root };
    schema.validate(&root, document, "")
}

struct Schema<'a> {
    root: &'a Value,
}

impl Schema<'_> {
    /// Checks a value. A keyword that is unknown here fails the test.
    fn validate(&self, schema: &Value, value: &Value, place: &str) -> Result<(), String> {
        if let (Some(common), Some(forms)) = (schema.get("properties"), schema.get("oneOf")) {
            return self.validate_forms(common, list(forms), schema, value, place);
        }
        let wrong = |what: &str| Err(format!("{place}: {what}: {value}"));
        for (keyword, rule) in schema.as_object().expect("a schema") {
            match keyword.as_str() {
                // The rules for optional members are checked below.
                "$schema" | "title" | "description" | "$defs" | "default" | "format"
                | "prefixItems" => {}
                "$ref" => {
                    let name = rule.as_str().expect("a reference");
                    let target = self.root.pointer(name.trim_start_matches('#'));
                    self.validate(target.expect("a definition"), value, place)?;
                }
                "type" if !is_of_type(value, rule) => return wrong(&format!("not {rule}")),
                "const" if rule != value => return wrong(&format!("not {rule}")),
                "enum" if !list(rule).contains(value) => return wrong(&format!("none of {rule}")),
                "pattern" if !matches_pattern(value, rule.as_str().expect("text")) => {
                    return wrong("not as the pattern");
                }
                "minimum"
                    if value
                        .as_i64()
                        .is_some_and(|number| Some(number) < rule.as_i64()) =>
                {
                    return wrong("too small");
                }
                "maximum"
                    if value
                        .as_i64()
                        .is_some_and(|number| Some(number) > rule.as_i64()) =>
                {
                    return wrong("too large");
                }
                "minItems"
                    if value
                        .as_array()
                        .is_some_and(|items| items.len() < size(rule)) =>
                {
                    return wrong("too short");
                }
                "maxItems"
                    if value
                        .as_array()
                        .is_some_and(|items| items.len() > size(rule)) =>
                {
                    return wrong("too long");
                }
                "type" | "const" | "enum" | "pattern" | "minimum" | "maximum" | "minItems"
                | "maxItems" => {}
                "items" => {
                    for (index, item) in value.as_array().into_iter().flatten().enumerate() {
                        self.validate(rule, item, &format!("{place}[{index}]"))?;
                    }
                }
                "required" => {
                    for member in list(rule) {
                        if value.get(member.as_str().expect("text")).is_none() {
                            return wrong(&format!("without {member}"));
                        }
                    }
                }
                "properties" => {
                    for (member, value) in value.as_object().into_iter().flatten() {
                        let place = format!("{place}.{member}");
                        match rule.get(member) {
                            Some(schema) => self.validate(schema, value, &place)?,
                            None => return wrong(&format!("has {member}")),
                        }
                    }
                }
                "additionalProperties" if rule == false => {}
                "additionalProperties" => {
                    for (member, value) in value.as_object().into_iter().flatten() {
                        self.validate(rule, value, &format!("{place}.{member}"))?;
                    }
                }
                "oneOf" | "anyOf" => self.one_of(list(rule), value, place)?,
                keyword => panic!("{keyword} is not known here"),
            }
        }
        Ok(())
    }

    /// Checks an object that has the members `common` and those of one of the forms.
    fn validate_forms(
        &self,
        common: &Value,
        forms: &[Value],
        schema: &Value,
        value: &Value,
        place: &str,
    ) -> Result<(), String> {
        let with_common = forms.iter().map(|form| {
            let mut form = form.clone();
            let members = form["properties"]
                .as_object_mut()
                .expect("a form of objects");
            for (name, member) in common.as_object().expect("members") {
                members.insert(name.clone(), member.clone());
            }
            form
        });
        self.one_of(&with_common.collect::<Vec<_>>(), value, place)?;
        let mut schema = schema.clone();
        let keywords = schema.as_object_mut().expect("a schema");
        keywords.remove("oneOf");
        // The forms have checked all members.
        keywords.remove("properties");
        self.validate(&schema, value, place)
    }

    /// Checks that exactly one form matches. If none does, returns the error of the most likely
    /// one.
    fn one_of(&self, forms: &[Value], value: &Value, place: &str) -> Result<(), String> {
        let results = forms.iter().map(|form| self.validate(form, value, place));
        let (matching, errors): (Vec<_>, Vec<_>) = results.partition(Result::is_ok);
        if matching.len() == 1 {
            return Ok(());
        }
        let errors: Vec<String> = errors.into_iter().filter_map(Result::err).collect();
        let count = matching.len();
        Err(format!(
            "{place}: {count} forms match; {}",
            errors.join("; ")
        ))
    }
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn size(rule: &Value) -> usize {
    let size = rule.as_u64().and_then(|size| usize::try_from(size).ok());
    size.expect("a size")
}

fn is_of_type(value: &Value, rule: &Value) -> bool {
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    rule == kind || list(rule).contains(&kind.into()) || (kind == "integer" && rule == "number")
}

#[test]
fn unknown_members_and_wrong_forms_are_errors() {
    let event = serde_json::json!({
        "schema": "cpreg.relay-event/2", "time": 1.5, "migration": 1,
        "event": "refused", "vm_location": "source",
    });
    assert_eq!(validate(&event), Ok(()));
    for (member, value) in [
        ("more", serde_json::json!(1)),
        ("event", "no-such-event".into()),
        ("event", "listening".into()),
        ("migration", "1".into()),
        ("time", Value::Null),
        ("schema", "cpreg.relay-event/1".into()),
    ] {
        let mut wrong = event.clone();
        wrong[member] = value;
        assert!(validate(&wrong).is_err(), "{wrong}");
    }
    let mut incomplete = event;
    incomplete
        .as_object_mut()
        .expect("an object")
        .remove("time");
    assert!(validate(&incomplete).is_err());
}

/// Checks the patterns of numbers, ids and sets of vCPUs.
fn matches_pattern(value: &Value, pattern: &str) -> bool {
    let Some(text) = value.as_str() else {
        return true;
    };
    let is_hexadecimal = |lengths: std::ops::RangeInclusive<usize>| {
        let digits = text.strip_prefix("0x").unwrap_or_default();
        let mut bytes = digits.bytes();
        lengths.contains(&digits.len())
            && bytes.all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
    };
    match pattern {
        "^0x[0-9a-f]{16}$" => is_hexadecimal(16..=16),
        "^0x[0-9a-f]{1,16}$" => is_hexadecimal(1..=16),
        "^([0-9]+(-[0-9]+)?(,[0-9]+(-[0-9]+)?)*)?$" => {
            let is_number =
                |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
            text.is_empty()
                || text.split(',').all(|range| {
                    let (first, last) = range.split_once('-').unwrap_or((range, range));
                    is_number(first) && is_number(last)
                })
        }
        pattern => panic!("{pattern} is not known here"),
    }
}
