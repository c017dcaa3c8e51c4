//! [`Address`]: where a connection comes from or goes to.
//!
//! | form | what | as in QEMU |
//! |---|---|---|
//! | `tcp:HOST:PORT` | an IPv6 address stands in brackets; without a host: loopback | `-incoming tcp:HOST:PORT` |
//! | `unix:PATH` | a stream socket with a name in the file system | `-incoming unix:PATH` |
//! | `vsock:CID:PORT` | between a VM and its host: 2 is the host, 1 this machine itself, 4294967295 any | `-incoming vsock:CID:PORT` |
//! | `fd:N` | a descriptor that this process inherited: a connection, a socket that listens, or a pipe | `-incoming fd:N` |
//! | `stdio:` | standard input and standard output | - |
//!
//! QEMU listens everywhere on `tcp::PORT`, this program on loopback alone: a migration stream is the guest's memory.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use crate::error::{Error, ErrorKind};

const ADDRESS_SYNTAX: &str = "give tcp:HOST:PORT, tcp:[IPV6]:PORT, tcp::PORT (loopback), unix:PATH, vsock:CID:PORT, fd:N or stdio:";

/// Where a connection comes from or goes to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Address {
    /// TCP over IPv4 or IPv6.
    Tcp {
        /// A name or a number, without brackets; empty for loopback.
        host: String,
        /// 0 to listen on one that is free.
        port: u16,
    },
    /// A stream socket in the file system.
    Unix(PathBuf),
    /// A socket between a VM and its host.
    Vsock {
        /// The context: which VM, or 2 for the host.
        cid: u32,
        /// 4294967295 to listen on one that is free.
        port: u32,
    },
    /// A descriptor that this process inherited.
    Fd(i32),
    /// Standard input and standard output, as one connection.
    Stdio,
}

impl Address {
    /// Whether this process has it since its start, so that it can be taken only once.
    pub fn is_inherited(&self) -> bool {
        matches!(self, Self::Fd(_) | Self::Stdio)
    }
}

impl FromStr for Address {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let wrong = |what: &str| {
            Err(Error::new(
                ErrorKind::BadAddress,
                format!("`{text}` is no address: {what}"),
            )
            .with_hint(ADDRESS_SYNTAX))
        };
        let Some((form, rest)) = text.split_once(':') else {
            return wrong("it does not begin with its form and a colon");
        };
        match form {
            "tcp" => {
                let (host, port) = match rest.strip_prefix('[') {
                    Some(rest) => match rest.split_once("]:") {
                        Some(("", _)) => return wrong("nothing stands in the brackets"),
                        Some(split) => split,
                        None => return wrong("after the brackets come a colon and a port"),
                    },
                    None => match rest.rsplit_once(':') {
                        Some((host, _)) if host.contains(':') => {
                            return wrong("an IPv6 address stands in brackets");
                        }
                        Some(split) => split,
                        None => return wrong("it has no port"),
                    },
                };
                if host.contains(['[', ']', '/', ',']) || host.contains(char::is_whitespace) {
                    return wrong("this is no name of a host");
                }
                match decimal(port) {
                    Some(port) => Ok(Self::Tcp {
                        host: host.to_owned(),
                        port,
                    }),
                    None => wrong("a port is a number from 0 to 65535"),
                }
            }
            "unix" if rest.is_empty() => wrong("it has no path"),
            "unix" if rest.contains('\0') => wrong("a path holds no NUL"),
            "unix" => Ok(Self::Unix(rest.into())),
            "vsock" => match rest.split_once(':') {
                None => wrong("it has no port"),
                Some((cid, port)) => match (decimal(cid), decimal(port)) {
                    (Some(cid), Some(port)) => Ok(Self::Vsock { cid, port }),
                    _ => wrong("a CID and a port are numbers from 0 to 4294967295"),
                },
            },
            "fd" => match decimal::<i32>(rest) {
                Some(0..=2) => wrong("0 to 2 are standard input, output and error"),
                Some(number) => Ok(Self::Fd(number)),
                None => wrong("a descriptor is a number"),
            },
            "stdio" if rest.is_empty() => Ok(Self::Stdio),
            "stdio" => wrong("nothing comes after `stdio:`"),
            "exec" | "rdma" | "file" => wrong("QEMU knows this form, cpreg does not"),
            _ => wrong("there is no such form"),
        }
    }
}

/// A number without sign, so that printing it gives the text again but for zeros in front.
fn decimal<T: FromStr>(text: &str) -> Option<T> {
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
    fn reads_each_form() {
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
    fn says_what_is_wrong_and_which_forms_there_are() {
        for (text, what) in [
            ("", "does not begin with its form"),
            ("/run/socket", "does not begin with its form"),
            ("tcp:host", "no port"),
            ("tcp:host:", "from 0 to 65535"),
            ("tcp:host:65536", "from 0 to 65535"),
            ("tcp:host:+1", "from 0 to 65535"),
            ("tcp:::1:4444", "in brackets"),
            ("tcp:[]:4444", "nothing stands"),
            ("tcp:[::1]", "after the brackets"),
            ("tcp:a b:1", "no name of a host"),
            ("tcp:host:1,to=4", "from 0 to 65535"),
            ("unix:", "no path"),
            ("unix:a\0b", "NUL"),
            ("vsock:2", "no port"),
            ("vsock:-1:4", "4294967295"),
            ("fd:x", "a number"),
            ("fd:", "a number"),
            ("fd:1", "standard input"),
            ("stdio:-", "nothing comes after"),
            ("exec:cat", "QEMU knows"),
            ("udp:host:1", "no such form"),
        ] {
            let error = text.parse::<Address>().expect_err(text);
            assert_eq!(error.kind(), ErrorKind::BadAddress, "{text}");
            assert!(error.message().contains(what), "{text}: {error}");
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
        fn what_is_printed_is_read_again(address in addresses()) {
            prop_assert_eq!(parse(&address.to_string()), address);
        }

        #[test]
        fn any_text_is_an_address_or_an_error(text in "(tcp:|unix:|vsock:|fd:)?[^\0]{0,30}") {
            if let Ok(address) = text.parse::<Address>() {
                prop_assert_eq!(parse(&address.to_string()), address);
            }
        }
    }
}
