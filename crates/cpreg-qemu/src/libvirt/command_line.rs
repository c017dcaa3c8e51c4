//! Words of the command line that `virsh domxml-to-native` prints.

use std::ffi::OsString;

use crate::error::{Error, ErrorKind};

/// Parses libvirt's command line: assignments of environment variables, then the words of QEMU.
///
/// Returns the words without the assignments, which set folders and audio drivers.
pub(super) fn parse_native(text: &str) -> Result<Vec<OsString>, Error> {
    let unexpected = || Error::new(ErrorKind::UnexpectedReply("virsh domxml-to-native"));
    let words = shell_words::split(text).map_err(|_| unexpected())?;
    let mut words = words.into_iter().peekable();
    while words.next_if(|word| is_assignment(word)).is_some() {}
    let words: Vec<_> = words.map(OsString::from).collect();
    if words.is_empty() {
        return Err(unexpected());
    }
    Ok(words)
}

/// Returns `true` for `NAME=VALUE`.
fn is_assignment(word: &str) -> bool {
    word.split_once('=').is_some_and(|(name, _)| {
        !name.is_empty()
            && name
                .chars()
                .all(|character| character.is_ascii_alphanumeric() || character == '_')
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn assignments_and_line_ends_are_removed() {
        let text = "LC_ALL=C \\\nXDG_CACHE_HOME=/var/lib/a \\\n/usr/bin/qemu-system-aarch64 \\\n\
                    -name guest=web,debug-threads=on \\\n\
                    -object '{\"qom-type\":\"secret\",\"id\":\"masterKey0\"}'\n";
        assert_eq!(
            parse_native(text).unwrap(),
            [
                "/usr/bin/qemu-system-aarch64",
                "-name",
                "guest=web,debug-threads=on",
                "-object",
                "{\"qom-type\":\"secret\",\"id\":\"masterKey0\"}",
            ]
        );
    }

    #[test]
    fn a_text_without_a_program_is_refused() {
        for text in ["", "LC_ALL=C", "qemu 'unfinished"] {
            let error = parse_native(text).unwrap_err();
            let expected = ErrorKind::UnexpectedReply("virsh domxml-to-native");
            assert_eq!(*error.kind(), expected, "{text}");
        }
    }
}
