//! Addresses of host names.

use std::error::Error;
use std::fmt;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs as _};

/// Hint for a name without an address.
///
/// A static program has the C library's own services for names. Others, such as mDNS or
/// systemd-resolved, are shared libraries of the host.
pub(crate) const LOOKUP_HINT: &str = if cfg!(target_feature = "crt-static") {
    "give a numeric address: this cpreg is a static program, and finds only names in /etc/hosts \
     and DNS"
} else {
    "give a numeric address, or check the name with `getent ahosts NAME`"
};

/// Failure to find the addresses of a host name.
#[derive(Debug)]
struct LookupError {
    name: String,
    source: io::Error,
}

impl fmt::Display for LookupError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "no address found for the host name {}",
            self.name
        )
    }
}

impl Error for LookupError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.source)
    }
}

/// Returns the addresses of a host name or numeric address. The system finds names.
///
/// # Errors
/// Returns an error for which [`is_lookup_error`] returns `true`.
pub(crate) fn resolve(name: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    match (name, port).to_socket_addrs() {
        Ok(addresses) => Ok(addresses.collect()),
        Err(source) => Err(io::Error::other(LookupError {
            name: name.to_owned(),
            source,
        })),
    }
}

/// Returns `true` if a host name has no address.
pub(crate) fn is_lookup_error(error: &io::Error) -> bool {
    let Some(inner) = error.get_ref() else {
        return false;
    };
    inner.is::<LookupError>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_name_without_an_address_is_a_lookup_error() {
        assert_eq!(resolve("::1", 7).unwrap(), ["[::1]:7".parse().unwrap()]);
        // No name may contain a blank, so no service for names is asked.
        let error = resolve("no name", 7).unwrap_err();
        assert!(is_lookup_error(&error));
        assert_eq!(
            error.to_string(),
            "no address found for the host name no name"
        );
        assert!(
            error
                .get_ref()
                .is_some_and(|inner| inner.source().is_some())
        );
        assert!(!is_lookup_error(&io::ErrorKind::TimedOut.into()));
    }
}
