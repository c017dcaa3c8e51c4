//! [`DomainMonitor`]: the monitor of a running domain's QEMU.

use std::os::fd::BorrowedFd;

use serde_json::{Map, Value, json};

use super::address::DomainAddress;
use super::virsh::Virsh;
use crate::error::{Error, ErrorKind};
use crate::qmp::{Monitor, Version, WaitOptions};

/// Monitor of a running domain's QEMU, through libvirt.
#[derive(Debug)]
pub struct DomainMonitor {
    virsh: Virsh,
    domain: String,
    version: Version,
}

impl DomainMonitor {
    /// Reaches the monitor of a domain.
    ///
    /// # Errors
    /// Returns an error if libvirt cannot be reached, or the domain does not run.
    pub fn open(address: &DomainAddress, options: &WaitOptions<'_>) -> Result<Self, Error> {
        let virsh = Virsh::new(address.uri.clone());
        let reply = execute(
            &virsh,
            &address.domain,
            "query-version",
            json!({}),
            None,
            options,
        )?;
        let version = Version::from_json(&reply).ok_or(Error::unexpected_reply("query-version"))?;
        Ok(Self {
            virsh,
            domain: address.domain.clone(),
            version,
        })
    }
}

impl Monitor for DomainMonitor {
    fn version(&self) -> &Version {
        &self.version
    }

    fn execute_with(
        &mut self,
        command: &str,
        arguments: Value,
        descriptor: Option<BorrowedFd<'_>>,
        options: &WaitOptions<'_>,
    ) -> Result<Value, Error> {
        execute(
            &self.virsh,
            &self.domain,
            command,
            arguments,
            descriptor,
            options,
        )
    }
}

fn execute(
    virsh: &Virsh,
    domain: &str,
    command: &str,
    arguments: Value,
    descriptor: Option<BorrowedFd<'_>>,
    options: &WaitOptions<'_>,
) -> Result<Value, Error> {
    let mut request = Map::new();
    request.insert("execute".to_owned(), command.into());
    if arguments
        .as_object()
        .is_some_and(|object| !object.is_empty())
    {
        request.insert("arguments".to_owned(), arguments);
    }
    let request = Value::Object(request).to_string();
    let reply = virsh.monitor_command(domain, &request, descriptor, options)?;
    parse_reply(&reply).map_err(|error| error.with_command(command))
}

/// Parses QEMU's reply, which libvirt passes on as it is.
fn parse_reply(reply: &str) -> Result<Value, Error> {
    let protocol = |description: String| Error::for_qmp(ErrorKind::Protocol(description));
    let mut reply: Value =
        serde_json::from_str(reply.trim()).map_err(|error| protocol(error.to_string()))?;
    if let Some(error) = reply.get("error") {
        let text = |name| {
            error
                .get(name)
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned()
        };
        return Err(Error::for_qmp(ErrorKind::Refused {
            class: text("class"),
            description: text("desc"),
        }));
    }
    let value = reply.get_mut("return").map(Value::take);
    value.ok_or_else(|| protocol("the reply has neither `return` nor `error`".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_are_parsed() {
        let reply = "{\"return\":{\"enabled\":true},\"id\":\"libvirt-7\"}\n\n";
        assert_eq!(parse_reply(reply).unwrap(), json!({"enabled": true}));
        let refused = r#"{"id":"libvirt-8","error":{"class":"GenericError","desc":"no"}}"#;
        let error = parse_reply(refused).unwrap_err();
        assert_eq!(error.to_string(), "QMP: QEMU refused it: no");
        for invalid in ["", "{}", "not JSON"] {
            let error = parse_reply(invalid).unwrap_err();
            assert!(matches!(error.kind(), ErrorKind::Protocol(_)), "{invalid}");
        }
    }
}
