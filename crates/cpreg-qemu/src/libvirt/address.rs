//! [`DomainAddress`]: the name of a domain, and the libvirt that has it. [`LibvirtAddress`]: all
//! domains of a libvirt.

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
        // libvirt has no domain with a slash in its name: the text is a URI without a domain.
        let is_valid = !domain.is_empty() && !domain.contains('/') && uri != Some("");
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
        remote_host(self.uri.as_deref())
    }
}

/// Returns the host in a URI of libvirt, if libvirt runs on another host.
fn remote_host(uri: Option<&str>) -> Option<&str> {
    let (_, rest) = uri?.split_once("://")?;
    let host = rest.split(['/', '?']).next().unwrap_or_default();
    (!host.is_empty()).then_some(host)
}

/// A libvirt with all its domains, written `libvirt:` or `libvirt:URI#`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LibvirtAddress {
    /// Connection URI of libvirt (`qemu:///system`); `None` for the default of `virsh`.
    pub uri: Option<String>,
}

impl LibvirtAddress {
    /// Parses `libvirt:` or `libvirt:URI#`; returns `None` for everything else, such as the address
    /// of a domain.
    ///
    /// ```
    /// use cpreg_qemu::libvirt::LibvirtAddress;
    ///
    /// let uri = |text| LibvirtAddress::parse(text).map(|libvirt| libvirt.uri);
    /// assert_eq!(uri("libvirt:"), Some(None));
    /// assert_eq!(uri("libvirt:qemu:///system#"), Some(Some("qemu:///system".to_owned())));
    /// assert_eq!(uri("libvirt:web"), None);
    /// ```
    pub fn parse(text: &str) -> Option<Self> {
        let rest = text.strip_prefix(DomainAddress::PREFIX)?;
        let uri = match rest {
            "" => None,
            _ => Some(rest.strip_suffix('#')?),
        };
        // The first `#` ends the URI, so another one belongs to the name of a domain.
        let is_valid = uri.is_none_or(|uri| !uri.is_empty() && !uri.contains('#'));
        is_valid.then(|| Self {
            uri: uri.map(str::to_owned),
        })
    }

    /// Returns the host in the URI, if libvirt runs on another host.
    pub fn remote_host(&self) -> Option<&str> {
        remote_host(self.uri.as_deref())
    }

    /// Returns the addresses of domains of this libvirt, each given by UUID and name. A name that
    /// `virsh` could take for something else, or that occurs twice, is replaced by the UUID.
    pub(super) fn domains(&self, list: &[(&str, &str)]) -> Vec<DomainAddress> {
        let addresses = list.iter().map(|(uuid, name)| {
            let is_unique = list.iter().filter(|(_, other)| other == name).count() == 1;
            let domain = if is_unique && is_plain(name) {
                name
            } else {
                uuid
            };
            DomainAddress {
                uri: self.uri.clone(),
                domain: (*domain).to_owned(),
            }
        });
        addresses.collect()
    }
}

/// Returns `true` for a name that `virsh` takes for nothing else, such as the number or the UUID of
/// a domain, and that its list shows completely.
fn is_plain(name: &str) -> bool {
    let is_of_uuid = |byte: u8| byte.is_ascii_hexdigit() || byte == b'-';
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    let is_uuid = name.len() >= UUID_DIGITS && name.bytes().all(is_of_uuid);
    name.starts_with(|first: char| first.is_ascii_alphabetic())
        && name.bytes().all(is_word)
        && !is_uuid
}

/// Number of hexadecimal digits of a UUID, which `virsh` also accepts without dashes.
const UUID_DIGITS: usize = 32;

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
    fn a_libvirt_is_no_domain() {
        for text in [
            "libvirt:#",
            "libvirt:a#b#",
            "libvirt:web",
            "web",
            "libvirt:qemu:///system",
        ] {
            assert_eq!(LibvirtAddress::parse(text), None, "{text}");
        }
        let remote = LibvirtAddress::parse("libvirt:qemu+ssh://b/system#").unwrap();
        assert_eq!(remote.remote_host(), Some("b"));
    }

    #[test]
    fn an_ambiguous_name_is_replaced_by_the_uuid() {
        const UUID: &str = "6695eb01-f6a4-8304-79aa-97f2502e193f";
        let address = |libvirt: &str, name| {
            let libvirt = LibvirtAddress::parse(libvirt).unwrap();
            libvirt.domains(&[(UUID, name)])[0].to_string()
        };
        assert_eq!(address("libvirt:", "db-1.a_b"), "libvirt:db-1.a_b");
        assert_eq!(
            address("libvirt:qemu:///system#", "web"),
            "libvirt:qemu:///system#web"
        );
        for name in [
            "12",
            "+12",
            "a#b",
            "my vm",
            "a695eb01f6a4830479aa97f2502e193f",
        ] {
            assert_eq!(
                address("libvirt:", name),
                format!("libvirt:{UUID}"),
                "{name}"
            );
        }
    }

    #[test]
    fn a_name_that_occurs_twice_is_replaced_by_the_uuid() {
        // `virsh` pads names with blanks, so a blank at the end of a name is lost.
        let libvirt = LibvirtAddress::parse("libvirt:").unwrap();
        let domains = libvirt.domains(&[("1-1", "web"), ("2-2", "db"), ("3-3", "web")]);
        let domains: Vec<_> = domains.iter().map(|it| &*it.domain).collect();
        assert_eq!(domains, ["1-1", "db", "3-3"]);
    }

    #[test]
    fn an_address_without_a_domain_is_invalid() {
        for text in [
            "libvirt:",
            "libvirt:qemu:///system",
            "libvirt:qemu:///system#",
            "libvirt:#web",
        ] {
            assert_eq!(DomainAddress::parse(text), None, "{text}");
        }
    }
}
