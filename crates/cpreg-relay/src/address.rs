//! [`Address`]: one end of a connection, as the command line gives it.
//!
//! - `tcp:HOST:PORT`: TCP. An IPv6 address is in brackets; an empty host is loopback.
//! - `unix:PATH`: a stream socket in the file system.
//! - `vsock:CID:PORT`: a connection between a VM and its host. CID 2 is the host, 1 this machine,
//!   4294967295 any.
//! - `fd:N`: an inherited descriptor, which is a connection, a listening socket or a pipe.
//! - `stdio:`: standard input and standard output. QEMU has no such address.
//!
//! The other forms are written as in QEMU's `-incoming`. For `tcp::PORT`, QEMU listens on every
//! interface and cpreg on loopback only, because a migration stream holds the guest's memory.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

use crate::error::{Error, ErrorKind};

const ADDRESS_SYNTAX: &str = "use tcp:HOST:PORT, tcp:[IPV6]:PORT, tcp::PORT (loopback), \
    unix:PATH, vsock:CID:PORT, fd:N or stdio:";

/// One end of a connection.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Address {
    /// TCP over IPv4 or IPv6.
    Tcp {
        /// Host name or IP address, without brackets; empty for loopback.
        host: String,
        /// Port number; a listener with port 0 chooses a free one.
        port: u16,
    },
    /// Stream socket in the file system.
    Unix(PathBuf),
    /// Socket between a VM and its host.
    Vsock {
        /// Context id of the VM, or 2 for the host.
        cid: u32,
        /// Port number; a listener with port 4294967295 chooses a free one.
        port: u32,
    },
    /// Inherited descriptor.
    Fd(i32),
    /// Standard input and standard output as one connection.
    Stdio,
}

impl Address {
    /// Returns `true` if this process inherited the connection, which can then be used only once.
    pub fn is_inherited(&self) -> bool {
        matches!(self, Self::Fd(_) | Self::Stdio)
    }
}

impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Self {
        Self::Tcp {
            host: address.ip().to_string(),
            port: address.port(),
        }
    }
}

impl FromStr for Address {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let invalid = |reason: &str| {
            Err(Error::new(
                ErrorKind::BadAddress,
                format!("`{text}` is not an address: {reason}"),
            )
            .with_hint(ADDRESS_SYNTAX))
        };
        let Some((scheme, rest)) = text.split_once(':') else {
            return invalid("it has no scheme, such as `tcp:`");
        };
        match scheme {
            "tcp" => {
                let (host, port) = match rest.strip_prefix('[') {
                    Some(rest) => match rest.split_once("]:") {
                        Some(("", _)) => return invalid("the brackets are empty"),
                        Some(split) => split,
                        None => return invalid("a colon and a port must follow the brackets"),
                    },
                    None => match rest.rsplit_once(':') {
                        Some((host, _)) if host.contains(':') => {
                            return invalid("an IPv6 address must be in brackets");
                        }
                        Some(split) => split,
                        None => return invalid("the port is missing"),
                    },
                };
                if host.contains(['[', ']', '/', ',']) || host.contains(char::is_whitespace) {
                    return invalid("this is not a host name");
                }
                match parse_decimal(port) {
                    Some(port) => Ok(Self::Tcp {
                        host: host.to_owned(),
                        port,
                    }),
                    None => invalid("the port must be a number from 0 to 65535"),
                }
            }
            "unix" if rest.is_empty() => invalid("the path is missing"),
            "unix" if rest.contains('\0') => invalid("the path contains a NUL byte"),
            "unix" => Ok(Self::Unix(rest.into())),
            "vsock" => match rest.split_once(':') {
                None => invalid("the port is missing"),
                Some((cid, port)) => match (parse_decimal(cid), parse_decimal(port)) {
                    (Some(cid), Some(port)) => Ok(Self::Vsock { cid, port }),
                    _ => invalid("the CID and the port must be numbers from 0 to 4294967295"),
                },
            },
            "fd" => match parse_decimal::<i32>(rest) {
                Some(0..=2) => invalid("descriptors 0 to 2 are standard input, output and error"),
                Some(number) => Ok(Self::Fd(number)),
                None => invalid("the descriptor must be a number"),
            },
            "stdio" if rest.is_empty() => Ok(Self::Stdio),
            "stdio" => invalid("nothing may follow `stdio:`"),
            "exec" | "rdma" | "file" => invalid("QEMU supports this scheme, cpreg does not"),
            _ => invalid("the scheme is unknown"),
        }
    }
}

/// Parses a decimal number that consists of digits only, without a sign.
fn parse_decimal<T: FromStr>(text: &str) -> Option<T> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } if host.contains(':') => write!(f, "tcp:[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "tcp:{host}:{port}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Vsock { cid, port } => write!(f, "vsock:{cid}:{port}"),
            Self::Fd(number) => write!(f, "fd:{number}"),
            Self::Stdio => f.write_str("stdio:"),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(text: &str) -> Address {
        text.parse().unwrap()
    }

    #[test]
    fn parses_every_scheme() {
        let tcp = |host: &str, port| Address::Tcp {
            host: host.into(),
            port,
        };
        assert_eq!(parse("tcp:host.example:4444"), tcp("host.example", 4444));
        assert_eq!(parse("tcp:[::1]:0"), tcp("::1", 0));
        assert_eq!(parse("tcp::65535"), tcp("", 65535));
        assert_eq!(parse("unix:a:b c"), Address::Unix("a:b c".into()));
        assert_eq!(
            parse("vsock:4294967295:1024"),
            Address::Vsock {
                cid: u32::MAX,
                port: 1024
            }
        );
        assert_eq!(parse("fd:3"), Address::Fd(3));
        assert_eq!(parse("stdio:"), Address::Stdio);
    }

    #[test]
    fn errors_name_the_fault_and_hint_at_the_syntax() {
        for (text, reason) in [
            ("", "no scheme"),
            ("/run/socket", "no scheme"),
            ("tcp:host", "port is missing"),
            ("tcp:host:", "from 0 to 65535"),
            ("tcp:host:65536", "from 0 to 65535"),
            ("tcp:host:+1", "from 0 to 65535"),
            ("tcp:::1:4444", "in brackets"),
            ("tcp:[]:4444", "brackets are empty"),
            ("tcp:[::1]", "follow the brackets"),
            ("tcp:a b:1", "not a host name"),
            ("tcp:host:1,to=4", "from 0 to 65535"),
            ("unix:", "path is missing"),
            ("unix:a\0b", "NUL"),
            ("vsock:2", "port is missing"),
            ("vsock:-1:4", "4294967295"),
            ("fd:x", "a number"),
            ("fd:", "a number"),
            ("fd:1", "standard input"),
            ("stdio:-", "nothing may follow"),
            ("exec:cat", "QEMU supports"),
            ("udp:host:1", "scheme is unknown"),
        ] {
            let error = text.parse::<Address>().expect_err(text);
            assert_eq!(error.kind(), ErrorKind::BadAddress, "{text}");
            assert!(error.message().contains(reason), "{text}: {error}");
            assert_eq!(error.hint(), Some(ADDRESS_SYNTAX), "{text}");
        }
    }

    fn addresses() -> impl Strategy<Value = Address> {
        prop_oneof![
            ("[a-z0-9.-]{0,20}", any::<u16>()).prop_map(|(host, port)| Address::Tcp { host, port }),
            (any::<std::net::Ipv6Addr>(), any::<u16>()).prop_map(|(host, port)| Address::Tcp {
                host: host.to_string(),
                port
            }),
            "[^\0]{1,40}".prop_map(|path| Address::Unix(path.into())),
            (any::<u32>(), any::<u32>()).prop_map(|(cid, port)| Address::Vsock { cid, port }),
            (3..=i32::MAX).prop_map(Address::Fd),
            Just(Address::Stdio),
        ]
    }

    proptest! {
        #[test]
        fn display_and_parse_round_trip(address in addresses()) {
            prop_assert_eq!(parse(&address.to_string()), address);
        }

        #[test]
        fn accepted_text_round_trips(text in "(tcp:|unix:|vsock:|fd:)?[^\0]{0,30}") {
            if let Ok(address) = text.parse::<Address>() {
                prop_assert_eq!(parse(&address.to_string()), address);
            }
        }
    }
}
