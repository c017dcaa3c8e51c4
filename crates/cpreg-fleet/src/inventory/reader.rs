//! Items of an inventory, one at a time: JSON Lines, or documents with a list of `items`.
//!
//! Only one item is in memory. A line that is no item is a fault, and the next lines are read. A
//! document that ends in the middle gives the items before its end.

use std::fmt;
use std::io::{self, BufRead};

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use super::item::Item;
use super::kubernetes;

/// Maximum number of bytes of a line.
const MAX_LINE_LEN: usize = 64 << 20;

/// Receiver of items and of faults, each with its place in the input.
type Receiver<'a> = dyn FnMut(Result<Item, String>) + 'a;

/// Reads all items. `receive` gets each item, or the message of an item that cannot be read.
///
/// # Errors
/// Returns an error if the input cannot be read.
pub fn read_items(mut input: impl BufRead, receive: &mut Receiver<'_>) -> io::Result<()> {
    if is_document(&mut input)? {
        read_document(input, receive);
        return Ok(());
    }
    read_lines(input, receive)
}

/// Returns `true` if the input is one indented document: its first line is a brace alone.
fn is_document(input: &mut impl BufRead) -> io::Result<bool> {
    let start = input.fill_buf()?.trim_ascii_start();
    let line = start.split(|byte| *byte == b'\n').next();
    Ok(line.is_some_and(|line| line.trim_ascii_end() == b"{"))
}

/// Returns the item of an object: an object of Kubernetes has a kind, and a line of an inventory
/// has none.
fn parse_item(value: &Value) -> Result<Item, String> {
    if value.get("kind").is_some() {
        kubernetes::item(value)
    } else {
        Item::from_line(value)
    }
}

fn read_lines(mut input: impl BufRead, receive: &mut Receiver<'_>) -> io::Result<()> {
    let mut line = Vec::new();
    let mut number = 0;
    loop {
        line.clear();
        number += 1;
        let mut limited = io::Read::take(&mut input, MAX_LINE_LEN as u64);
        if limited.read_until(b'\n', &mut line)? == 0 {
            return Ok(());
        }
        if line.len() == MAX_LINE_LEN && line.last() != Some(&b'\n') {
            receive(Err(format!(
                "line {number}: longer than {MAX_LINE_LEN} bytes"
            )));
            return Ok(());
        }
        if line.trim_ascii().is_empty() {
            continue;
        }
        let at_line = |error: &dyn fmt::Display| format!("line {number}: {error}");
        match serde_json::from_slice::<Value>(line.trim_ascii_end()) {
            Ok(value) if kubernetes::is_list(&value) => {
                let items = value.get("items").and_then(Value::as_array);
                for item in items.into_iter().flatten() {
                    receive(parse_item(item).map_err(|error| at_line(&error)));
                }
            }
            Ok(value) => receive(parse_item(&value).map_err(|error| at_line(&error))),
            Err(error) => {
                receive(Err(if error.is_eof() {
                    at_line(&"the line ends in the middle of its object")
                } else {
                    // The column is right, and the line is always 1.
                    at_line(&format_args!("no JSON at column {}", error.column()))
                }));
            }
        }
    }
}

fn read_document(input: impl BufRead, receive: &mut Receiver<'_>) {
    let mut deserializer = serde_json::Deserializer::from_reader(input);
    let mut count = 0;
    loop {
        let document = Document {
            receive: &mut *receive,
            count: &mut count,
        };
        if let Err(error) = document.deserialize(&mut deserializer) {
            receive(Err(if error.is_eof() {
                format!("the document ends in the middle, after {count} items")
            } else {
                format!("no JSON after {count} items: {error}")
            }));
            return;
        }
        // Another document can follow, of another command of kubectl.
        if deserializer.end().is_ok() {
            return;
        }
    }
}

/// Document whose member `items` is read one element at a time.
struct Document<'a, 'r> {
    receive: &'a mut Receiver<'r>,
    count: &'a mut usize,
}

impl<'de> DeserializeSeed<'de> for Document<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Document<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut others = Map::new();
        let mut has_items = false;
        while let Some(key) = map.next_key::<String>()? {
            if key == "items" {
                has_items = true;
                map.next_value_seed(Items {
                    receive: self.receive,
                    count: self.count,
                })?;
            } else if has_items {
                map.next_value::<IgnoredAny>()?;
            } else {
                others.insert(key, map.next_value()?);
            }
        }
        if !has_items {
            *self.count += 1;
            (self.receive)(parse_item(&Value::Object(others)));
        }
        Ok(())
    }
}

/// Elements of a list.
struct Items<'a, 'r> {
    receive: &'a mut Receiver<'r>,
    count: &'a mut usize,
}

impl<'de> DeserializeSeed<'de> for Items<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Items<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of objects")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        while let Some(value) = items.next_element::<Value>()? {
            *self.count += 1;
            let item = parse_item(&value);
            (self.receive)(item.map_err(|error| format!("item {}: {error}", self.count)));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the names of the items, and the messages of the others.
    fn read(text: &str) -> Vec<String> {
        let mut all = Vec::new();
        read_items(text.as_bytes(), &mut |item| {
            all.push(match item {
                Ok(Item::Node(node)) => format!("node {}", node.name),
                Ok(Item::Vm(vm)) => format!("vm {}", vm.name),
                Ok(Item::Record(_) | Item::Other) => "other".to_owned(),
                Err(message) => message,
            });
        })
        .expect("a slice is readable");
        all
    }

    #[test]
    fn a_bad_line_does_not_hide_the_next() {
        assert_eq!(
            read("{\"node\":\"a\"}\n\n{\"node\":\n{\"vm\":\"v\"}\n{\"node\":\"b\"}"),
            [
                "node a",
                "line 3: the line ends in the middle of its object",
                "vm v",
                "node b"
            ]
        );
        assert_eq!(
            read("{\"node\":\"a\"}\n{\"node\":\"b"),
            [
                "node a",
                "line 2: the line ends in the middle of its object"
            ]
        );
        assert!(read("").is_empty());
    }

    #[test]
    fn a_list_of_kubernetes_is_read_one_item_at_a_time() {
        let list = r#"{
 "apiVersion": "v1",
 "items": [
  {"kind": "Node", "metadata": {"name": "a"}},
  {"kind": "Pod"},
  {"kind": "Node"},
  {"kind": "Node", "metadata": {"name": "b"}}
 ],
 "kind": "List", "metadata": {"resourceVersion": ""}
}
"#;
        let expected = [
            "node a",
            "other",
            "item 3: the object has no metadata.name",
            "node b",
        ];
        assert_eq!(read(list), expected);
        let two = [expected, expected].concat();
        let two: Vec<_> = two
            .iter()
            .map(|it| it.replace("item 3", "item 7"))
            .collect();
        let found = read(&format!("{list}\n{list}"));
        assert_eq!(found[..2], two[..2]);
        assert_eq!(found[4..], two[4..]);
        assert_eq!(read(&format!("{list}x")).len(), 5);
        let one_line = list.replace('\n', "");
        assert_eq!(read(&one_line).len(), 4);
        let cut = &list[..list.find("\"b\"").expect("the last item")];
        assert_eq!(
            read(cut).last().map(String::as_str),
            Some("the document ends in the middle, after 3 items")
        );
    }

    #[test]
    fn one_object_is_an_item() {
        let node = "{\n \"kind\": \"Node\", \"metadata\": {\"name\": \"a\"}\n}\n";
        assert_eq!(read(node), ["node a"]);
    }
}
