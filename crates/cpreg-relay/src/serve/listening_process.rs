//! [`find_listening_process`]: the process that listens on a TCP address of this network
//! namespace.
//!
//! `/proc/net/tcp` and `tcp6` list the inode of each listening socket (Linux
//! `Documentation/networking/proc_net_tcp.rst`). `/proc/PID/fd` shows the process that has the
//! inode open. For processes of other users, reading this folder needs `CAP_SYS_PTRACE` and
//! `CAP_DAC_READ_SEARCH`.

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// State of a listening socket in `/proc/net/tcp`.
const LISTEN: &str = "0A";

/// Returns the process that listens on an address, or on its port at all addresses. Returns `None`
/// if this user may inspect no such process.
///
/// # Errors
/// Returns an error if `/proc` cannot be read.
pub fn find_listening_process(address: SocketAddr) -> io::Result<Option<u32>> {
    let mut best = None;
    for name in ["tcp", "tcp6"] {
        let table = match fs::read_to_string(format!("/proc/self/net/{name}")) {
            Ok(table) => table,
            // A kernel without IPv6.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        best = best.max(find_listener(&table, address));
    }
    match best {
        Some(listener) => find_owner(listener.inode),
        None => Ok(None),
    }
}

/// Listening socket. A socket for one address is greater than a socket for all addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct ListeningSocket {
    /// `true` if the socket listens on this address only.
    is_exact: bool,
    inode: u64,
}

/// Returns the socket of a table that accepts connections to an address.
fn find_listener(table: &str, address: SocketAddr) -> Option<ListeningSocket> {
    let address = SocketAddr::new(address.ip().to_canonical(), address.port());
    let sockets = table.lines().skip(1).filter_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [_, local, _, state, _, _, _, _, _, inode, ..] = fields[..] else {
            return None;
        };
        let (ip, port) = parse_local(local)?;
        if state != LISTEN || port != address.port() {
            return None;
        }
        let is_exact = ip.to_canonical() == address.ip();
        // A socket for all IPv6 addresses usually accepts IPv4 too.
        let accepts_all = ip.is_unspecified() && (ip.is_ipv6() || address.is_ipv4());
        (is_exact || accepts_all).then_some(ListeningSocket {
            is_exact,
            inode: inode.parse().ok()?,
        })
    });
    sockets.max()
}

/// Parses `0100007F:C000`: words of 32 bits in the machine's byte order, and the port.
fn parse_local(text: &str) -> Option<(IpAddr, u16)> {
    let (ip, port) = text.split_once(':')?;
    let word = |index: usize| -> Option<[u8; 4]> {
        let digits = ip.get(8 * index..8 * index + 8)?;
        Some(u32::from_str_radix(digits, 16).ok()?.to_ne_bytes())
    };
    let ip = match ip.len() {
        8 => IpAddr::V4(Ipv4Addr::from(word(0)?)),
        32 => {
            let mut bytes = [0; 16];
            for (index, chunk) in bytes.chunks_exact_mut(4).enumerate() {
                chunk.copy_from_slice(&word(index)?);
            }
            IpAddr::V6(Ipv6Addr::from(bytes))
        }
        _ => return None,
    };
    Some((ip, u16::from_str_radix(port, 16).ok()?))
}

/// Returns a process that has the socket open.
fn find_owner(inode: u64) -> io::Result<Option<u32>> {
    let link = format!("socket:[{inode}]");
    for process in fs::read_dir("/proc")? {
        let process = process?;
        let Some(id) = process
            .file_name()
            .to_str()
            .and_then(|name| name.parse::<u32>().ok())
        else {
            continue;
        };
        // The process may have exited, or belong to another user.
        let Ok(files) = fs::read_dir(process.path().join("fd")) else {
            continue;
        };
        let has_socket = files.flatten().any(|file| {
            fs::read_link(file.path()).is_ok_and(|target| target.as_os_str() == link.as_str())
        });
        if has_socket {
            return Ok(Some(id));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    const TCP: &str = "\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:C000 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 101 1
   1: 00000000:C001 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 102 1
   2: 0700020A:C001 0800020A:1234 01 00000000:00000000 00:00000000 00000000     0        0 103 1
";
    const TCP6: &str = "\
  sl  local_address                         remote_address                        st tx rx uid
   0: 00000000000000000000000000000000:C002 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000 0 0 201 1
   1: 00000000000000000000000001000000:C003 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000 0 0 202 1
   2: 0000000000000000FFFF00000700020A:C004 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000 0 0 203 1
broken
";

    #[test]
    #[cfg(target_endian = "little")]
    fn the_listener_of_an_address_is_found() {
        let find = |table, address: &str| {
            let listener = find_listener(table, address.parse().unwrap());
            listener.map(|listener| (listener.inode, listener.is_exact))
        };
        assert_eq!(find(TCP, "127.0.0.1:49152"), Some((101, true)));
        assert_eq!(find(TCP, "10.2.0.7:49152"), None);
        assert_eq!(find(TCP, "10.2.0.7:49153"), Some((102, false)));
        assert_eq!(find(TCP, "[2001:db8::7]:49153"), None);
        assert_eq!(find(TCP6, "10.2.0.7:49154"), Some((201, false)));
        assert_eq!(find(TCP6, "[2001:db8::7]:49154"), Some((201, false)));
        assert_eq!(find(TCP6, "[::1]:49155"), Some((202, true)));
        assert_eq!(find(TCP6, "10.2.0.7:49156"), Some((203, true)));
        assert_eq!(find(TCP6, "10.2.0.7:1"), None);
    }

    #[test]
    fn this_process_listens() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let process = find_listening_process(address).unwrap();
        assert_eq!(process, Some(std::process::id()));
        drop(listener);
        assert_eq!(find_listening_process(address).unwrap(), None);
    }
}
