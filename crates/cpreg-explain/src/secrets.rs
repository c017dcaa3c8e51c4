//! Redaction of a guest's keys in a line, because users pass on the lines of a report.
//!
//! The redaction replaces the values that the line states for a secret register, everywhere in the
//! line. [`RegisterId::is_secret`] decides which registers are secret.

use alloc::borrow::Cow;
use alloc::string::String;
use alloc::vec::Vec;

use cpreg::register::{DecodedId, RegisterId};

use crate::message::{NamedRegister, Statement, Symptom};

/// Replacement for a key.
const REDACTED: &str = "(secret)";

/// Replaces every value of a secret register in a line by `(secret)`.
///
/// `statements` are the statements of the line. A zero remains, because it shows that the guest
/// never set the key.
pub fn redact_secrets<'a>(line: &'a str, statements: &[Statement]) -> Cow<'a, str> {
    let secrets: Vec<u64> = statements
        .iter()
        .flat_map(|statement| secret_values(&statement.symptom))
        .collect();
    // The form of another program's line is not known, so any number in it may be a key.
    let has_unknown_form = statements.iter().any(|statement| {
        matches!(
            &statement.symptom,
            Symptom::RegisterMention { register, .. } if is_secret(register)
        )
    });
    if secrets.is_empty() && !has_unknown_form {
        return Cow::Borrowed(line);
    }
    let mut redacted = String::with_capacity(line.len());
    let mut rest = line;
    let mut previous = None;
    while let Some(character) = rest.chars().next() {
        // The 0 of `op0` belongs to a word and is not a number.
        let is_word_start = !previous.is_some_and(char::is_alphanumeric);
        let length = if is_word_start {
            hex_number_len(rest)
        } else {
            0
        };
        let (token, after) = rest.split_at(length.max(character.len_utf8()));
        let number = &rest[..length];
        let is_secret = value(number).is_some_and(|value| secrets.contains(&value))
            || has_unknown_form && is_possible_key(number);
        redacted.push_str(if is_secret { REDACTED } else { token });
        previous = token.chars().next_back();
        rest = after;
    }
    Cow::Owned(redacted)
}

/// Returns `true` if a number of a line in an unknown form may be a part of a key: it is long and
/// is no register id.
fn is_possible_key(number: &str) -> bool {
    const MIN_KEY_DIGITS: usize = 5;
    let digits = strip_hex_prefix(number);
    let is_id = |raw: Option<u64>| {
        raw.is_some_and(|raw| RegisterId::from_raw(raw).decode() != DecodedId::Unknown)
    };
    let is_zero = digits.bytes().all(|digit| digit == b'0');
    digits.len() >= MIN_KEY_DIGITS
        && !is_zero
        && !is_id(value(number))
        && !is_id(digits.parse().ok())
}

/// Returns the values of a secret register in a symptom.
fn secret_values(symptom: &Symptom) -> impl Iterator<Item = u64> + use<> {
    let values = match symptom {
        Symptom::ValueNotAccepted {
            register,
            value,
            current,
            ..
        } if is_secret(register) => [*value, *current],
        Symptom::UnknownToKvm { register, value } if is_secret(register) => [*value, None],
        _ => [None, None],
    };
    values.into_iter().flatten().filter(|value| *value != 0)
}

fn is_secret(register: &NamedRegister) -> bool {
    register.id.is_some_and(RegisterId::is_secret)
}

/// Returns the length of the hexadecimal number at the start of the text, including its `0x`.
fn hex_number_len(text: &str) -> usize {
    let bare = strip_hex_prefix(text);
    let digits = bare.find(|character: char| !character.is_ascii_hexdigit());
    text.len() - bare.len() + digits.unwrap_or(bare.len())
}

fn strip_hex_prefix(text: &str) -> &str {
    let bare = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X"));
    bare.unwrap_or(text)
}

fn value(number: &str) -> Option<u64> {
    u64::from_str_radix(strip_hex_prefix(number), 16).ok()
}

#[cfg(test)]
mod tests {
    use alloc::borrow::ToOwned;

    use cpreg::destination::VersionRange;

    use super::*;
    use crate::message::Emitter;

    fn statement(id: RegisterId, value: u64, current: u64) -> Statement {
        Statement {
            symptom: Symptom::ValueNotAccepted {
                register: NamedRegister::from_id(id, ""),
                value: Some(value),
                current: Some(current),
                error: None,
            },
            emitter: Emitter::QEMU,
            versions: VersionRange::ANY,
        }
    }

    fn redact(line: &str, value: u64, current: u64) -> String {
        let statements = [statement(RegisterId::APIAKEYLO_EL1, value, current)];
        redact_secrets(line, &statements).into_owned()
    }

    #[test]
    fn keys_are_redacted_in_any_spelling() {
        for (line, expected) in [
            ("to 5ec2e7 (is ab)", "to (secret) (is (secret))"),
            ("to 0x005EC2E7: no", "to (secret): no"),
            ("ä5ec2e7 5ec2e7ä", "ä5ec2e7 (secret)ä"),
            ("5ec2e75ec2e7 ab5 0xab", "5ec2e75ec2e7 ab5 (secret)"),
            ("\\x 0x 0xg ", "\\x 0x 0xg "),
        ] {
            assert_eq!(redact(line, 0x5e_c2e7, 0xab), expected);
        }
        // A key that is part of another one, or of the register's name.
        assert_eq!(
            redact("op0:3 3e 3", 0x3e, 3),
            "op0:(secret) (secret) (secret)"
        );
        assert_eq!(
            redact("op0:0 to 7 (is 0)", 7, 0),
            "op0:0 to (secret) (is 0)"
        );
    }

    #[test]
    fn values_of_other_registers_are_kept() {
        let line = "to 5ec2e7 (is ab)";
        let kept = redact_secrets(line, &[statement(RegisterId::VBAR_EL1, 0x5e_c2e7, 0xab)]);
        assert_eq!(kept, Cow::Borrowed(line).into_owned());
        assert_eq!(redact_secrets(line, &[]), line.to_owned());
    }
}
