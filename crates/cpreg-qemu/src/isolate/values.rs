//! Value of an option: `driver,id=x,file.driver=raw`, or an equivalent JSON object, as in libvirt.
//!
//! Forms (QEMU's docs/system/qemu-options and util/keyval.c, util/qemu-option.c):
//! - keys: parts between commas, where `,,` is a comma. A part is `key=value`. The first part may
//!   omit its key; elsewhere `key` alone means `key=on`, and `nokey` means `key=off`.
//! - JSON: `-blockdev`, `-device`, `-netdev`, `-object` accept an object; nested objects correspond
//!   to the dotted keys of the other form.
//!
//! Both forms become one flat list. A rewrite keeps the form where the form affects places on a
//! bus. QEMU creates all devices given as keys before those given as JSON, and the order determines
//! the places.

use std::fmt::Write as _;

use serde_json::{Map, Value};

/// Parts of an option's value, flat, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Values {
    pairs: Vec<(String, String)>,
    /// Object of a JSON value, whose numbers and booleans must keep their types; `None` for keys.
    json: Option<Map<String, Value>>,
}

impl Values {
    /// Parses a value; `None` if it is invalid JSON. `first` is the key that the first part may
    /// omit, or empty.
    pub(crate) fn parse(text: &str, first: &str) -> Option<Self> {
        if text.trim_start().starts_with('{') {
            let object: Map<String, Value> = serde_json::from_str(text).ok()?;
            let mut pairs = Vec::new();
            for (key, value) in &object {
                flatten(key, value, &mut pairs);
            }
            return Some(Self {
                pairs,
                json: Some(object),
            });
        }
        let mut pairs = Vec::new();
        for (index, part) in split(text).into_iter().enumerate() {
            let pair = match part.split_once('=') {
                Some((key, value)) => (key.to_owned(), value.to_owned()),
                None if index == 0 && !first.is_empty() => (first.to_owned(), part),
                None if part.is_empty() => continue,
                None => match part.strip_prefix("no") {
                    Some(key) if !key.is_empty() && !KEYS_WITH_NO_PREFIX.contains(&&*part) => {
                        (key.to_owned(), "off".to_owned())
                    }
                    _ => (part, "on".to_owned()),
                },
            };
            pairs.push(pair);
        }
        Some(Self { pairs, json: None })
    }

    /// Returns the value of a key. If the key repeats, the last value is returned, as in QEMU.
    pub(crate) fn get(&self, key: &str) -> Option<&str> {
        let pair = self.pairs.iter().rev().find(|(name, _)| name == key);
        pair.map(|(_, value)| value.as_str())
    }

    /// Returns all keys and values, in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.pairs.iter().map(|(key, value)| (&**key, &**value))
    }

    /// Returns `true` if any key is one of `keys` or nested in one (`file` contains
    /// `file.filename`).
    pub(crate) fn has_any(&self, keys: &[&str]) -> bool {
        self.iter().any(|(key, _)| is_among(key, keys))
    }

    /// Returns the parts nested in a key, without the key's prefix: `driver` for `file.driver` in
    /// `file`.
    pub(crate) fn nested(&self, key: &str) -> Self {
        let inner = |(name, value): &(String, String)| {
            let rest = name.strip_prefix(key)?.strip_prefix('.')?;
            Some((rest.to_owned(), value.clone()))
        };
        Self {
            pairs: self.pairs.iter().filter_map(inner).collect(),
            json: None,
        }
    }

    /// Formats the value without these keys and the keys nested in them, in the same form. The key
    /// `first` stays first.
    pub(crate) fn format_without(&self, keys: &[&str], first: &str) -> String {
        if let Some(object) = &self.json {
            let remaining = object.iter().filter(|(key, _)| !is_among(key, keys));
            return write_json(remaining);
        }
        let head = self.get(first).unwrap_or_default();
        let remaining = self.iter().filter(|(key, _)| *key != first);
        write_keys(head, remaining.filter(|(key, _)| !is_among(key, keys)))
    }

    /// Formats `head` and those of `keys` that the value contains, in the same form.
    pub(crate) fn format_only(&self, head: (&str, &str), keys: &[&str]) -> String {
        if let Some(object) = &self.json {
            let head = (head.0.to_owned(), Value::String(head.1.to_owned()));
            let selected = object.iter().filter(|(key, _)| is_among(key, keys));
            return write_json(selected.chain([(&head.0, &head.1)]));
        }
        self.format_only_as_keys(head.1, keys, &[])
    }

    /// Formats like [`Self::format_only`], always in the form of keys, with `more` at the end.
    pub(crate) fn format_only_as_keys(
        &self,
        head: &str,
        keys: &[&str],
        more: &[(&str, &str)],
    ) -> String {
        let selected = self.iter().filter(|(key, _)| is_among(key, keys));
        write_keys(head, selected.chain(more.iter().copied()))
    }

    /// Formats the value with an additional key, in the same form.
    pub(crate) fn format_with(&self, key: &str, value: &str, first: &str) -> String {
        if let Some(object) = &self.json {
            let more = (key.to_owned(), Value::String(value.to_owned()));
            return write_json(object.iter().chain([(&more.0, &more.1)]));
        }
        let mut text = self.format_without(&[], first);
        push(&mut text, key, value);
        text
    }
}

fn write_json<'a>(pairs: impl Iterator<Item = (&'a String, &'a Value)>) -> String {
    let object: Map<String, Value> = pairs
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    Value::Object(object).to_string()
}

fn write_keys<'a>(head: &str, pairs: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    let mut text = escape(head);
    for (key, value) in pairs {
        push(&mut text, key, value);
    }
    text
}

/// Keys that begin with `no` but are not negations.
const KEYS_WITH_NO_PREFIX: &[&str] = &["node", "nodelay", "nodeid", "nodes"];

fn push(text: &mut String, key: &str, value: &str) {
    if !text.is_empty() {
        text.push(',');
    }
    let _ = write!(text, "{key}={}", escape(value));
}

/// Doubles the commas of a value, as QEMU's key form requires.
pub(crate) fn escape(value: &str) -> String {
    value.replace(',', ",,")
}

fn is_among(key: &str, keys: &[&str]) -> bool {
    keys.iter().any(|prefix| {
        key.strip_prefix(prefix)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    })
}

/// Splits at single commas, and turns double commas into single ones.
fn split(text: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        if character == ',' && characters.next_if_eq(&',').is_none() {
            parts.push(String::new());
        } else if let Some(part) = parts.last_mut() {
            part.push(character);
        }
    }
    parts
}

/// Adds a JSON value as dotted keys. `serde_json` limits the nesting depth.
fn flatten(key: &str, value: &Value, pairs: &mut Vec<(String, String)>) {
    match value {
        Value::Object(object) => {
            for (inner, value) in object {
                flatten(&format!("{key}.{inner}"), value, pairs);
            }
        }
        Value::Array(list) => {
            for (index, value) in list.iter().enumerate() {
                flatten(&format!("{key}.{index}"), value, pairs);
            }
        }
        Value::Bool(value) => {
            let text = if *value { "on" } else { "off" };
            pairs.push((key.to_owned(), text.to_owned()));
        }
        Value::String(text) => pairs.push((key.to_owned(), text.clone())),
        Value::Number(number) => pairs.push((key.to_owned(), number.to_string())),
        Value::Null => {}
    }
}

/// Parses a size as QEMU does: `1024`, `0x400`, `1k`, `64M`, `1.5G`. Returns bytes.
///
/// `unit` is the unit in bytes of a number without a suffix.
pub(crate) fn parse_size(text: &str, unit: u64) -> Option<u64> {
    if let Some(digits) = text.strip_prefix("0x") {
        return u64::from_str_radix(digits, 16).ok();
    }
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let factor = match text[digits.len()..].to_ascii_uppercase().as_str() {
        "" => unit,
        "B" => 1,
        "K" => 1 << 10,
        "M" => 1 << 20,
        "G" => 1 << 30,
        "T" => 1 << 40,
        _ => return None,
    };
    let Some((whole, part)) = digits.split_once('.') else {
        return digits.parse::<u64>().ok()?.checked_mul(factor);
    };
    let whole = whole.parse::<u64>().ok()?.checked_mul(factor)?;
    let scale = 10_u64.checked_pow(u32::try_from(part.len()).ok()?)?;
    let part = part.parse::<u64>().ok()?.checked_mul(factor)? / scale;
    whole.checked_add(part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_and_json_are_equivalent() {
        let keys = Values::parse(
            "qcow2,node-name=n,read-only=on,file.driver=file,file.filename=/a,,b",
            "driver",
        )
        .unwrap();
        let json = Values::parse(
            r#"{"driver":"qcow2","node-name":"n","read-only":true,
                "file":{"driver":"file","filename":"/a,b"}}"#,
            "driver",
        )
        .unwrap();
        for values in [&keys, &json] {
            assert_eq!(values.get("driver"), Some("qcow2"));
            assert_eq!(values.get("read-only"), Some("on"));
            assert_eq!(values.nested("file").get("filename"), Some("/a,b"));
            assert!(values.has_any(&["file"]) && !values.has_any(&["fil", "node"]));
        }
    }

    #[test]
    fn flags_without_a_value() {
        let values = Values::parse("socket,id=c,server,nowait,nodelay", "backend").unwrap();
        assert_eq!(values.get("backend"), Some("socket"));
        assert_eq!(values.get("server"), Some("on"));
        assert_eq!(values.get("wait"), Some("off"));
        assert_eq!(values.get("nodelay"), Some("on"));
    }

    #[test]
    fn formatting_keeps_the_form() {
        let keys = Values::parse("usb-host,bus=u.0,port=1,hostbus=1,id=a,,b", "driver").unwrap();
        assert_eq!(
            keys.format_only(("driver", "usb-mouse"), &["id", "bus", "port"]),
            "usb-mouse,bus=u.0,port=1,id=a,,b"
        );
        let json = Values::parse(
            r#"{"driver":"vfio-pci","host":"0000:01:00.0","bus":"b"}"#,
            "driver",
        )
        .unwrap();
        assert_eq!(
            json.format_only(("driver", "pci-testdev"), &["id", "bus"]),
            r#"{"bus":"b","driver":"pci-testdev"}"#
        );
        let machine = Values::parse("virt,dumpdtb=/x,gic-version=3", "type").unwrap();
        assert_eq!(
            machine.format_without(&["dumpdtb"], "type"),
            "virt,gic-version=3"
        );
        assert!(Values::parse("{\"driver\":", "driver").is_none());
    }

    #[test]
    fn sizes_are_parsed() {
        for (text, expected) in [
            ("512", Some(512)),
            ("0x200", Some(512)),
            ("1k", Some(1024)),
            ("1.5G", Some(3 << 29)),
            ("1X", None),
            ("", None),
        ] {
            assert_eq!(parse_size(text, 1), expected, "{text}");
        }
        assert_eq!(parse_size("64", 1 << 20), Some(64 << 20));
        assert_eq!(parse_size("99999999999T", 1), None);
    }
}
