//! Commands and replies, as lines of JSON.

use serde_json::{Map, Value};

use crate::error::{Error, ErrorKind};

/// Returns a command as JSON in one line, without a line end. An empty object of `arguments` is not
/// sent.
pub(crate) fn encode_command(command: &str, arguments: Value, id: Option<u64>) -> String {
    let mut request = Map::new();
    request.insert("execute".to_owned(), command.into());
    let has_arguments = arguments.as_object().is_some_and(|it| !it.is_empty());
    if has_arguments {
        request.insert("arguments".to_owned(), arguments);
    }
    if let Some(id) = id {
        request.insert("id".to_owned(), id.into());
    }
    Value::Object(request).to_string()
}

/// Returns the `return` member of a reply.
///
/// # Errors
/// [`ErrorKind::Refused`] with QEMU's description, or [`ErrorKind::Protocol`] if the message is no
/// reply.
pub(crate) fn parse_reply(mut message: Value) -> Result<Value, Error> {
    if let Some(error) = message.get("error") {
        let text = |name| {
            let text = error.get(name).and_then(Value::as_str);
            text.unwrap_or_default().to_owned()
        };
        return Err(Error::for_qmp(ErrorKind::Refused {
            class: text("class"),
            description: text("desc"),
        }));
    }
    let value = message.get_mut("return").map(Value::take);
    value.ok_or_else(|| protocol_error(format!("not a reply: {}", abbreviate(&message))))
}

/// Returns the error for data that is not QMP.
pub(crate) fn protocol_error(description: String) -> Error {
    Error::for_qmp(ErrorKind::Protocol(description))
}

/// Returns the beginning of a message, for the text of an error.
pub(crate) fn abbreviate(message: &Value) -> String {
    message.to_string().chars().take(120).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn empty_arguments_are_not_sent() {
        let command = encode_command("query-status", json!({}), None);
        assert_eq!(command, r#"{"execute":"query-status"}"#);
        let command = encode_command("cont", json!({"a": 1}), Some(7));
        let command: Value = serde_json::from_str(&command).unwrap();
        let expected = json!({"execute": "cont", "arguments": {"a": 1}, "id": 7});
        assert_eq!(command, expected);
    }

    #[test]
    fn replies_are_parsed() {
        let reply = json!({"return": {"enabled": true}, "id": "libvirt-7"});
        assert_eq!(parse_reply(reply).unwrap(), json!({"enabled": true}));
        let refused = json!({"id": 8, "error": {"class": "GenericError", "desc": "no"}});
        let error = parse_reply(refused).unwrap_err();
        assert_eq!(error.to_string(), "QMP: QEMU refused it: no");
        let error = parse_reply(json!({})).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Protocol(_)));
    }
}
