//! [`OriginalDestination`]: the address that a client connected to, before a firewall redirected
//! the connection.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsFd as _, BorrowedFd};

use nix::sys::socket::getsockopt;
use nix::sys::socket::sockopt::{Ip6tOriginalDst, OriginalDst};
use rustix::net::{AddressFamily, getsockname, sockopt};

/// Redirection of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "a connection is redirected or not")]
pub enum Redirection {
    /// Redirected from this address.
    From(SocketAddr),
    /// Not redirected: the client connected to the relay itself.
    None,
}

/// Source of the address before the redirection.
pub trait OriginalDestination: Send + Sync {
    /// Returns the address that the client of this connection connected to.
    ///
    /// # Errors
    /// Returns an error if the system does not know the address.
    fn original_destination(&self, socket: BorrowedFd<'_>) -> io::Result<Redirection>;
}

/// Redirections of this host's firewall (nftables or iptables), as the kernel tracks them.
#[derive(Clone, Copy, Debug, Default)]
#[expect(clippy::exhaustive_structs, reason = "it has no state")]
pub struct NatTable;

impl OriginalDestination for NatTable {
    fn original_destination(&self, socket: BorrowedFd<'_>) -> io::Result<Redirection> {
        let domain = sockopt::socket_domain(socket)?;
        if domain != AddressFamily::INET && domain != AddressFamily::INET6 {
            return Ok(Redirection::None);
        }
        let local = SocketAddr::try_from(getsockname(socket)?)?;
        let is_ipv4 = matches!(canonical(local).ip(), IpAddr::V4(_));
        let original = if is_ipv4 {
            getsockopt(&socket.as_fd(), OriginalDst).map(|address| {
                let ip = Ipv4Addr::from(u32::from_be(address.sin_addr.s_addr));
                SocketAddr::V4(SocketAddrV4::new(ip, u16::from_be(address.sin_port)))
            })
        } else {
            getsockopt(&socket.as_fd(), Ip6tOriginalDst).map(|address| {
                let ip = Ipv6Addr::from(address.sin6_addr.s6_addr);
                let port = u16::from_be(address.sin6_port);
                SocketAddr::V6(SocketAddrV6::new(ip, port, 0, address.sin6_scope_id))
            })
        };
        match original {
            Ok(original) => Ok(redirection(canonical(local), original)),
            // The kernel does not track this connection, or has no connection tracking.
            Err(nix::Error::ENOENT | nix::Error::ENOPROTOOPT) => Ok(Redirection::None),
            Err(error) => Err(error.into()),
        }
    }
}

/// Returns the redirection of a connection with these local and original addresses.
fn redirection(local: SocketAddr, original: SocketAddr) -> Redirection {
    if (local.ip(), local.port()) == (original.ip(), original.port()) {
        return Redirection::None;
    }
    Redirection::From(original)
}

/// Returns the IPv4 address of a connection that a listener for both versions accepted.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn the_own_address_is_no_redirection() {
        let address = |text: &str| text.parse::<SocketAddr>().unwrap();
        let local = address("192.0.2.7:49151");
        assert_eq!(redirection(local, local), Redirection::None);
        let original = address("192.0.2.7:49152");
        assert_eq!(redirection(local, original), Redirection::From(original));
        assert_eq!(canonical(address("[::ffff:192.0.2.7]:49151")), local);
        assert_eq!(
            canonical(address("[2001:db8::7]:1")),
            address("[2001:db8::7]:1")
        );
    }

    #[test]
    fn a_direct_connection_is_not_redirected() {
        for listen in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(listener) = TcpListener::bind(listen) else {
                // This machine has no IPv6.
                assert!(listen.starts_with('['));
                continue;
            };
            let _client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let (server, _) = listener.accept().unwrap();
            let redirection = NatTable.original_destination(server.as_fd()).unwrap();
            assert_eq!(redirection, Redirection::None);
        }
    }
}
