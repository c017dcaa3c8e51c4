//! [`DomainMonitor`]: the monitor of a running domain's QEMU.

use std::os::fd::BorrowedFd;

use serde_json::{Value, json};

use super::address::DomainAddress;
use super::virsh::Virsh;
use crate::error::Error;
use crate::qmp::message;
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
    let request = message::encode_command(command, arguments, None);
    let reply = virsh.monitor_command(domain, &request, descriptor, options)?;
    parse_reply(&reply).map_err(|error| error.with_command(command))
}

/// Parses QEMU's reply, which libvirt passes on as it is.
fn parse_reply(reply: &str) -> Result<Value, Error> {
    let reply = serde_json::from_str(reply.trim());
    let reply = reply.map_err(|error| message::protocol_error(error.to_string()))?;
    message::parse_reply(reply)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    #[test]
    fn replies_are_parsed() {
        let reply = "{\"return\":{\"enabled\":true},\"id\":\"libvirt-7\"}\n\n";
        assert_eq!(parse_reply(reply).unwrap(), json!({"enabled": true}));
        for invalid in ["", "{}", "not JSON"] {
            let error = parse_reply(invalid).unwrap_err();
            assert!(matches!(error.kind(), ErrorKind::Protocol(_)), "{invalid}");
        }
    }
}
