//! The text form of a [`History`]: what is alike is written once.
//!
//! | line | what it says |
//! |---|---|
//! | `# …` | a comment |
//! | `cpreg-history 1` | the form and its version; the first line that is no comment |
//! | `kernel VERSION RELEASE PACKAGE` | a kernel; numbered from 0 |
//! | `recording KERNEL CPU[+MODE] FEATURES [masks]` | a recording, numbered from 0; features with commas between, `-` for none; `masks`: the kernel tells what may be written |
//! | `set DIGITS` | a set of recordings, numbered from 0; each hexadecimal digit stands for four, the first for 0 (its lowest bit) to 3 |
//! | `register ID WORD…` | a register, and what is said of it in which recordings |
//!
//! | word of a register | what it says |
//! |---|---|
//! | `0xVALUE:SET` | it is listed, and holds this at reset |
//! | `poison:SET`, `counts:SET`, `errnoN:SET` | it is listed, and holds no value, or runs on, or cannot be read |
//! | `writable=MASK:SET` | these bits may be written |
//! | `refused=ERRNO:SET` | writing back what was read fails |

use std::collections::BTreeMap;
use std::fmt;
use std::fmt::Write as _;

use cpreg::register::{RegisterId, Value};

use super::{AtReset, Facts, History, Kernel, Recording, Set};

/// The first line.
const FORM: &str = "cpreg-history 1";

/// A text is no history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseHistoryError {
    /// The line, from 1.
    line: usize,
    what: &'static str,
}

impl fmt::Display for ParseHistoryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {} of the history: {}", self.line, self.what)
    }
}

impl std::error::Error for ParseHistoryError {}

impl History {
    /// The text form.
    pub fn to_text(&self) -> String {
        let mut sets = Sets::default();
        let mut registers = String::new();
        for (id, facts) in &self.registers {
            let _ = write!(registers, "register {:016x}", id.raw());
            for (value, set) in &facts.at_reset {
                let _ = write!(registers, " {}:{}", word(value), sets.number(set));
            }
            for (mask, set) in &facts.writable {
                let _ = write!(registers, " writable={mask:#x}:{}", sets.number(set));
            }
            for (errno, set) in &facts.refused {
                let _ = write!(registers, " refused={errno}:{}", sets.number(set));
            }
            registers.push('\n');
        }
        let mut text = format!("{FORM}\n");
        for kernel in &self.kernels {
            let Kernel {
                version,
                release,
                package,
            } = kernel;
            let _ = writeln!(text, "kernel {version} {release} {package}");
        }
        for recording in &self.recordings {
            let plus = if recording.mode.is_empty() { "" } else { "+" };
            let features = if recording.features.is_empty() {
                "-".to_owned()
            } else {
                recording.features.join(",")
            };
            let masks = if recording.tells_writable {
                " masks"
            } else {
                ""
            };
            let _ = writeln!(
                text,
                "recording {} {}{plus}{} {features}{masks}",
                recording.kernel, recording.cpu, recording.mode
            );
        }
        for set in sets.ordered() {
            let _ = writeln!(text, "set {}", digits(set));
        }
        text + &registers
    }

    /// Reads the text form.
    ///
    /// # Errors
    /// If a line is not of the form that the module describes, or names what is not there.
    pub fn parse(text: &str) -> Result<Self, ParseHistoryError> {
        let mut history = Self::default();
        let mut sets = Vec::new();
        let mut is_begun = false;
        for (number, line) in text.lines().enumerate() {
            let error = |what| ParseHistoryError {
                line: number + 1,
                what,
            };
            if line.starts_with('#') {
                continue;
            }
            if !is_begun {
                if line != FORM {
                    return Err(error("it does not begin with `cpreg-history 1`"));
                }
                is_begun = true;
                continue;
            }
            let mut words = line.split(' ');
            match words.next() {
                Some("kernel") => history.kernels.push(kernel(words).map_err(error)?),
                Some("recording") => {
                    let recording = recording(words, history.kernels.len()).map_err(error)?;
                    history.recordings.push(recording);
                }
                Some("set") => {
                    let digits = words.next().ok_or_else(|| error("a set without digits"))?;
                    sets.push(set(digits, history.recordings.len()).map_err(error)?);
                }
                Some("register") => {
                    let id = words.next().and_then(|id| u64::from_str_radix(id, 16).ok());
                    let id = id.ok_or_else(|| error("a register without an id"))?;
                    let id = RegisterId::from_raw(id);
                    let facts = facts(id, words, &sets).map_err(error)?;
                    if history.registers.insert(id, facts).is_some() {
                        return Err(error("a register twice"));
                    }
                }
                _ => return Err(error("no kernel, recording, set or register")),
            }
        }
        if is_begun {
            Ok(history)
        } else {
            Err(ParseHistoryError {
                line: 1,
                what: "it is empty",
            })
        }
    }
}

/// The different sets, numbered as they are met.
#[derive(Default)]
struct Sets<'a> {
    numbers: BTreeMap<&'a Set, usize>,
}

impl<'a> Sets<'a> {
    fn number(&mut self, set: &'a Set) -> usize {
        let next = self.numbers.len();
        *self.numbers.entry(set).or_insert(next)
    }

    fn ordered(&self) -> Vec<&'a Set> {
        let mut ordered: Vec<_> = self.numbers.iter().collect();
        ordered.sort_by_key(|(_, number)| **number);
        ordered.into_iter().map(|(set, _)| *set).collect()
    }
}

fn digits(set: &Set) -> String {
    let mut digits = String::new();
    for word in &set.0 {
        for digit in 0..16 {
            let _ = write!(digits, "{:x}", word >> (4 * digit) & 0xf);
        }
    }
    digits.trim_end_matches('0').to_owned()
}

type Parsed<T> = Result<T, &'static str>;

fn set(digits: &str, recordings: usize) -> Parsed<Set> {
    let mut set = Set::default();
    for (at, digit) in digits.chars().enumerate() {
        let digit = digit.to_digit(16).ok_or("a set with other than digits")?;
        for bit in 0..4 {
            let number = 4 * at + bit;
            if digit >> bit & 1 == 1 {
                if number >= recordings {
                    return Err("a set with a recording that is not there");
                }
                set.insert(number);
            }
        }
    }
    Ok(set)
}

fn kernel<'a>(mut words: impl Iterator<Item = &'a str>) -> Parsed<Kernel> {
    let mut word = || {
        words
            .next()
            .map(str::to_owned)
            .ok_or("a kernel needs version, release and package")
    };
    Ok(Kernel {
        version: word()?,
        release: word()?,
        package: word()?,
    })
}

fn recording<'a>(mut words: impl Iterator<Item = &'a str>, kernels: usize) -> Parsed<Recording> {
    let kernel = words.next().and_then(|number| number.parse().ok());
    let kernel = kernel
        .filter(|number| *number < kernels)
        .ok_or("a recording of no kernel")?;
    let cpu = words.next().ok_or("a recording without a CPU model")?;
    let (cpu, mode) = cpu.split_once('+').unwrap_or((cpu, ""));
    let features = words.next().ok_or("a recording without features")?;
    Ok(Recording {
        kernel,
        cpu: cpu.to_owned(),
        mode: mode.to_owned(),
        features: if features == "-" {
            Vec::new()
        } else {
            features.split(',').map(str::to_owned).collect()
        },
        tells_writable: words.next() == Some("masks"),
    })
}

fn facts<'a>(id: RegisterId, words: impl Iterator<Item = &'a str>, sets: &[Set]) -> Parsed<Facts> {
    const MALFORMED: &str = "a word of a register that is not WHAT:SET";
    let mut facts = Facts::default();
    for word in words {
        let (what, set) = word.split_once(':').ok_or(MALFORMED)?;
        let set = set.parse().ok().and_then(|set: usize| sets.get(set));
        let set = set.ok_or("a set that is not there")?.clone();
        if let Some(mask) = what.strip_prefix("writable=") {
            facts.writable.insert(hexadecimal(mask)?, set);
        } else if let Some(errno) = what.strip_prefix("refused=") {
            let errno = errno.parse().map_err(|_| MALFORMED)?;
            facts.refused.insert(errno, set);
        } else {
            facts.at_reset.insert(at_reset(id, what)?, set);
        }
    }
    Ok(facts)
}

fn word(at_reset: &AtReset) -> String {
    match at_reset {
        AtReset::Value(value) => value.to_string(),
        AtReset::Poison => "poison".to_owned(),
        AtReset::Counts => "counts".to_owned(),
        AtReset::Unreadable(errno) => format!("errno{errno}"),
    }
}

fn at_reset(id: RegisterId, word: &str) -> Parsed<AtReset> {
    match word {
        "poison" => return Ok(AtReset::Poison),
        "counts" => return Ok(AtReset::Counts),
        _ => {}
    }
    if let Some(errno) = word.strip_prefix("errno") {
        let errno = errno.parse().map_err(|_| "an errno that is no number")?;
        return Ok(AtReset::Unreadable(errno));
    }
    let value = match id.size_bytes() {
        Some(size @ 9..) => wide(word, size)?,
        _ => Value::Small(hexadecimal(word)?),
    };
    Ok(AtReset::Value(value))
}

/// A value of more than 64 bits, without the zeros before it.
fn wide(word: &str, size: usize) -> Parsed<Value> {
    let digits = word.strip_prefix("0x").ok_or(NO_VALUE)?;
    let mut bytes = vec![0; size];
    let mut rest = digits.bytes().rev();
    for byte in &mut bytes {
        for shift in [0, 4] {
            if let Some(digit) = rest.next() {
                let digit = char::from(digit).to_digit(16).ok_or(NO_VALUE)?;
                *byte |= u8::try_from(digit).unwrap_or(0) << shift;
            }
        }
    }
    match rest.next() {
        None => Ok(Value::Wide(bytes.into())),
        Some(_) => Err("a value with more digits than its register"),
    }
}

const NO_VALUE: &str = "a value that is no hexadecimal number";

fn hexadecimal(text: &str) -> Parsed<u64> {
    crate::hexadecimal(text).ok_or(NO_VALUE)
}
