//! What a connection is, by its first bytes. Nothing is done about it here.
//!
//! | first bytes | what it is | since |
//! |---|---|---|
//! | `QEVM` | the main channel | |
//! | `11 22 33 44` | a multifd channel | QEMU 2.11 |
//! | `08 00` | the main channel of an interrupted postcopy migration that goes on: commands, and no header | 2.12 |
//! | `16 03` | TLS, which QEMU speaks itself (`tls-creds`) | 2.7 |
//! | `QCPR` | the channel of cpr-transfer, over which descriptors are passed | 10.0 |
//! | none | postcopy-preempt, which sends nothing until pages are asked for | 7.1 |
//!
//! QEMU 7.2 and later connect the main channel first, and tell the others apart by what is above where that is possible, and by their order where it is
//! not (`migration/channel.c`, 6720c2b327).

/// So many bytes tell.
pub(super) const MAGIC_LEN: usize = 4;

/// Why the channel of cpr-transfer is not carried.
pub(super) const CPR_UNSUPPORTED: &str =
    "the channel of cpr-transfer: descriptors are passed over it, which stay on one machine";

/// What a connection carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Channel {
    /// The VM, but for what goes over others.
    Main,
    /// Pages, or devices' state, beside the main channel.
    Multifd,
    /// A main channel behind an interruption.
    PostcopyRecovery,
    /// Encrypted from end to end.
    Tls,
    /// Descriptors of the same machine.
    Cpr,
    /// A further connection that says nothing of itself.
    Other,
}

impl Channel {
    /// What it is by its first bytes; `None` if more are needed.
    pub(super) fn identify(first: &[u8]) -> Option<Self> {
        Some(match first {
            [b'Q', b'E', b'V', b'M', ..] => Self::Main,
            [0x11, 0x22, 0x33, 0x44, ..] => Self::Multifd,
            [b'Q', b'C', b'P', b'R', ..] => Self::Cpr,
            [0x08, 0x00, ..] => Self::PostcopyRecovery,
            [0x16, 0x03, ..] => Self::Tls,
            _ if first.len() < MAGIC_LEN => return None,
            _ => Self::Other,
        })
    }

    /// Its name in logs.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Main => "main",
            Self::Multifd => "multifd",
            Self::PostcopyRecovery => "postcopy-recovery",
            Self::Tls => "tls",
            Self::Cpr => "cpr",
            Self::Other => "other",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn told_apart_by_their_first_bytes() {
        assert_eq!(Channel::identify(b"QEVM\0\0\0\x03"), Some(Channel::Main));
        assert_eq!(
            Channel::identify(b"\x11\x22\x33\x44"),
            Some(Channel::Multifd)
        );
        assert_eq!(
            Channel::identify(b"\x08\0\0\x01"),
            Some(Channel::PostcopyRecovery)
        );
        assert_eq!(Channel::identify(b"\x16\x03\x01\x02"), Some(Channel::Tls));
        assert_eq!(Channel::identify(b"QCPR"), Some(Channel::Cpr));
        assert_eq!(Channel::identify(b"GET / HTTP"), Some(Channel::Other));
        for first in [&b""[..], b"Q", b"QEV", b"\x11", b"\x08"] {
            assert_eq!(Channel::identify(first), None, "{first:?}");
        }
    }
}
