//! [`Channel`]: the kind of a connection, from its first bytes. The caller acts on the kind.
//!
//! - `QEVM`: the main channel.
//! - `11 22 33 44`: a multifd channel, since QEMU 2.11.
//! - `08 00`: the main channel of a resumed postcopy migration, since 2.12. It begins with a
//!   command and has no header.
//! - `16 03`: TLS of QEMU itself (`tls-creds`), since 2.7.
//! - `QCPR`: the channel of cpr-transfer, which passes descriptors, since 10.0.
//! - nothing: postcopy-preempt, which sends nothing until pages are requested, since 7.1.
//!
//! QEMU 7.2 and later connect the main channel first. They identify the other channels by these
//! bytes if possible, otherwise by the order of connections (`migration/channel.c`, 6720c2b327).

/// Number of bytes that identify a channel.
pub(super) const MAGIC_LEN: usize = 4;

/// Reason not to forward the channel of cpr-transfer.
pub(super) const CPR_UNSUPPORTED: &str =
    "the channel of cpr-transfer: it passes descriptors, which are valid on one machine only";

/// Kind of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Channel {
    /// Main channel: the whole VM, except for the data that other channels carry.
    Main,
    /// Multifd channel: pages or device state in addition to the main channel.
    Multifd,
    /// Main channel of a postcopy migration that resumes after an interruption.
    PostcopyRecovery,
    /// Connection that QEMU itself encrypts with TLS.
    Tls,
    /// Channel of cpr-transfer, which passes descriptors on one machine.
    Cpr,
    /// Connection with other first bytes, or with none so far.
    Other,
}

impl Channel {
    /// Returns the channel kind for these first bytes; `None` if the relay needs more bytes.
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

    /// Returns the name for logs.
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
    fn identified_by_first_bytes() {
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
