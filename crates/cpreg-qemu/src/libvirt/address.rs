//! [`DomainAddress`]: the name of a domain, and the libvirt that has it.

use std::fmt;

/// Domain of a libvirt, written `libvirt:[URI#]DOMAIN`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DomainAddress {
    /// Connection URI of libvirt (`qemu:///system`); `None` for the default of `virsh`.
    pub uri: Option<String>,
    /// Name, UUID or number of the domain.
    pub domain: String,
}

impl DomainAddress {
    /// Prefix of every address.
    pub const PREFIX: &'static str = "libvirt:";

    /// Parses `libvirt:[URI#]DOMAIN`; returns `None` if the prefix or the domain is missing.
    ///
    /// ```
    /// use cpreg_qemu::libvirt::DomainAddress;
    ///
    /// let address = DomainAddress::parse("libvirt:qemu:///system#web").unwrap();
    /// assert_eq!(address.uri.as_deref(), Some("qemu:///system"));
    /// assert_eq!(address.domain, "web");
    /// assert_eq!(DomainAddress::parse("libvirt:web").unwrap().uri, None);
    /// assert_eq!(DomainAddress::parse("web.stream"), None);
    /// ```
    pub fn parse(text: &str) -> Option<Self> {
        let rest = text.strip_prefix(Self::PREFIX)?;
        // libvirt's URIs have no fragment, so the first `#` ends the URI.
        let (uri, domain) = match rest.split_once('#') {
            Some((uri, domain)) => (Some(uri), domain),
            None => (None, rest),
        };
        let is_valid = !domain.is_empty() && uri != Some("");
        is_valid.then(|| Self {
            uri: uri.map(str::to_owned),
            domain: domain.to_owned(),
        })
    }

    /// Returns the host in the URI, if libvirt runs on another host.
    ///
    /// ```
    /// use cpreg_qemu::libvirt::DomainAddress;
    ///
    /// let host = |text| DomainAddress::parse(text).unwrap().remote_host().map(str::to_owned);
    /// assert_eq!(host("libvirt:qemu+ssh://root@b:22/system#web"), Some("root@b:22".to_owned()));
    /// assert_eq!(host("libvirt:qemu:///system#web"), None);
    /// ```
    pub fn remote_host(&self) -> Option<&str> {
        let (_, rest) = self.uri.as_deref()?.split_once("://")?;
        let host = rest.split(['/', '?']).next().unwrap_or_default();
        (!host.is_empty()).then_some(host)
    }
}

impl fmt::Display for DomainAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let prefix = Self::PREFIX;
        match &self.uri {
            Some(uri) => write!(f, "{prefix}{uri}#{}", self.domain),
            None => write!(f, "{prefix}{}", self.domain),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_printed_as_it_was_written() {
        for text in ["libvirt:web", "libvirt:qemu:///session#a#b"] {
            assert_eq!(DomainAddress::parse(text).unwrap().to_string(), text);
        }
    }

    #[test]
    fn an_address_without_a_domain_is_invalid() {
        for text in ["libvirt:", "libvirt:qemu:///system#", "libvirt:#web"] {
            assert_eq!(DomainAddress::parse(text), None, "{text}");
        }
    }
}
