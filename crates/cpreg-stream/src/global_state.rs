//! The section `globalstate`: the run state of the guest when the stream was written.

use crate::cursor::read_bytes;
use crate::element::Section;
use crate::error::Error;
use crate::source::ReadAt;

/// Id string of the section that holds the guest's run state.
pub const GLOBAL_STATE: &str = "globalstate";

/// Decodes `globalstate`: u32 length of the text with its NUL, then 100 bytes that begin with it.
///
/// In 10.0, two flags lie in the last 68 of the 100 bytes; 7.2 has no flags. This function ignores
/// the flags.
pub(crate) fn run_state(source: &dyn ReadAt, section: &Section) -> Result<Option<String>, Error> {
    let start = section.payload.start;
    if section.payload.end - start < 4 + 32 {
        return Ok(None);
    }
    let text = read_bytes(source, start + 4, 32)?;
    let text = text.split(|byte| *byte == 0).next().unwrap_or_default();
    let plain = !text.is_empty()
        && text
            .iter()
            .all(|byte| byte.is_ascii_lowercase() || *byte == b'-');
    Ok(plain.then(|| String::from_utf8_lossy(text).into_owned()))
}
