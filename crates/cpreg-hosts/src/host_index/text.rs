//! The text form of a [`HostIndex`]. Equal parts occur once and are referred to by number.
//!
//! Lines (kernels, capabilities, hosts, recordings, sets, trials and fields are numbered from 0):
//! - `# …`: a comment
//! - `cpreg-history 4`: format and version; the first line that is not a comment
//! - `kernel RELEASE BUILD`: a kernel, from `uname -r` and `-v`
//! - `capabilities NAME=NUMBER…`: capabilities of hosts
//! - `host KERNEL CPU MODE MIDR emulated|real CAPABILITIES [FACT=NUMBER…]`: a host, with the known
//!   ones of `frequency`, `lengths` and `dczid`
//! - `recording HOST FEATURES [masks]`: a recording; `masks` if the kernel reports writable bits
//! - `set DIGITS`: a set of recordings; each hexadecimal digit stands for four, the first for 0
//!   (its lowest bit) to 3
//! - `trials TRIAL…`: values tried on a register
//! - `fields [FIELD…]`: fields of an ID register that accept more than their value at reset
//! - `register ID WORD…`: a register, and the recordings with each of its contents
//!
//! Words of a register:
//! - `0xVALUE:SET`: the value at reset
//! - `poison:SET`, `counter:SET`, `errnoN:SET`: no value, a running counter, a failed read
//! - `writable=MASK:SET`: bits that may be written
//! - `refused=ERRNO:SET`: errno of writing back the value that was read
//! - `differs:SET`: another vCPU of the VM has another value
//! - `tried=TRIALS:SET`: values that were tried
//! - `fields=FIELDS:SET`: accepted values of fields
//!
//! A trial is `0xVALUE` on success, `0xVALUE=ERRNO` on failure. `>0xREADS` follows if the value
//! read back is neither the written value after a success nor the value at reset after a failure.
//! A field is `MSB-LSB=KEPT`, with the set of values that it keeps; bit `n` stands for value `n`.
//! `,DROPPED>READS` follows for values that KVM accepts, and replaces by another one.
//! Words of a kernel or host are escaped: `%20` is a space, `-` the empty word.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use cpreg::destination::{AcceptedField, Features};
use cpreg::register::{RegisterId, Value, parse_hexadecimal};

use super::words::{ParseResult, format_field, format_hardware, parse_field, parse_hardware};
use super::{
    HostEntry, HostIndex, KernelRecord, NormalizedTrial, Recording, RecordingSet, RegisterFacts,
};
use crate::error::{Error, ErrorKind};
use crate::record::{AtReset, Capabilities, Identity};

/// The first line.
const FORMAT_HEADER: &str = "cpreg-history 4";

/// The checked-in recordings.
pub(super) const BUILT_IN: &str = include_str!("../../data/history.txt");

impl HostIndex {
    /// Returns the recordings that come with cpreg.
    ///
    /// # Errors
    /// Returns an error if the checked-in text is malformed, which a test rules out.
    pub fn built_in() -> Result<Self, Error> {
        Self::parse(BUILT_IN)
    }

    /// Returns the text form.
    pub fn to_text(&self) -> String {
        let mut sets = Numbering::default();
        let mut trials = Numbering::default();
        let mut fields = Numbering::default();
        let mut registers = String::new();
        for (id, facts) in &self.registers {
            let _ = write!(registers, "register {:016x}", id.raw());
            for (value, set) in &facts.at_reset {
                let _ = write!(
                    registers,
                    " {}:{}",
                    format_at_reset(value),
                    sets.number(set)
                );
            }
            for (mask, set) in &facts.writable {
                let _ = write!(registers, " writable={mask:#x}:{}", sets.number(set));
            }
            for (errno, set) in &facts.write_back_errors {
                let _ = write!(registers, " refused={errno}:{}", sets.number(set));
            }
            if facts.differs_by_vcpu != RecordingSet::default() {
                let _ = write!(
                    registers,
                    " differs:{}",
                    sets.number(&facts.differs_by_vcpu)
                );
            }
            for (list, set) in &facts.trials {
                let (list, set) = (trials.number(list), sets.number(set));
                let _ = write!(registers, " tried={list}:{set}");
            }
            for (list, set) in &facts.fields {
                let (list, set) = (fields.number(list), sets.number(set));
                let _ = write!(registers, " fields={list}:{set}");
            }
            registers.push('\n');
        }
        let mut text = format!("{FORMAT_HEADER}\n");
        for kernel in &self.kernels {
            let (release, build) = (escape(&kernel.release), escape(&kernel.build));
            let _ = writeln!(text, "kernel {release} {build}");
        }
        let mut capabilities = Numbering::default();
        let mut hosts = String::new();
        for host in &self.hosts {
            let identity = &host.identity;
            let _ = write!(
                hosts,
                "host {} {} {} {:#x} {} {}",
                host.kernel,
                escape(&identity.cpu),
                escape(&identity.mode),
                identity.midr,
                if identity.emulated { EMULATED } else { REAL },
                capabilities.number(&host.capabilities),
            );
            hosts += &format_hardware(host.hardware);
            hosts.push('\n');
        }
        for set in capabilities.ordered() {
            text.push_str("capabilities");
            for (name, number) in set {
                let _ = write!(text, " {}={number}", escape(name));
            }
            text.push('\n');
        }
        text += &hosts;
        for recording in &self.recordings {
            let masks = if recording.has_writable_masks {
                " masks"
            } else {
                ""
            };
            let (host, features) = (recording.host, recording.features);
            let _ = writeln!(text, "recording {host} {features}{masks}");
        }
        for set in sets.ordered() {
            let _ = writeln!(text, "set {}", format_set(set));
        }
        for list in trials.ordered() {
            text.push_str("trials");
            for trial in list {
                let _ = write!(text, " {:#x}", trial.value);
                if trial.errno != 0 {
                    let _ = write!(text, "={}", trial.errno);
                }
                if let Some(read_back) = trial.read_back {
                    let _ = write!(text, ">{read_back:#x}");
                }
            }
            text.push('\n');
        }
        for list in fields.ordered() {
            text.push_str("fields");
            for field in list {
                text += &format_field(field);
            }
            text.push('\n');
        }
        text + &registers
    }

    /// Parses the text form.
    ///
    /// # Errors
    /// Returns an error if a line is malformed, or refers to a number that is not defined.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let mut parser = Parser::default();
        let mut has_header = false;
        for (number, line) in text.lines().enumerate() {
            let error = |reason| line_error(number + 1, reason);
            if line.starts_with('#') {
                continue;
            }
            if has_header {
                parser.parse_line(line).map_err(error)?;
            } else if line == FORMAT_HEADER {
                has_header = true;
            } else {
                return Err(error("expected `cpreg-history 4`"));
            }
        }
        if has_header {
            Ok(parser.index)
        } else {
            Err(line_error(1, "the text is empty"))
        }
    }
}

/// Returns the error for a line, counted from 1.
fn line_error(line: usize, reason: &str) -> Error {
    let message = format!("host index, line {line}: {reason}");
    Error::new(ErrorKind::HostIndex, message).with_path(format!("line {line}"))
}

const EMULATED: &str = "emulated";
const REAL: &str = "real";

/// Different values, numbered in the order of their first use.
struct Numbering<'a, T> {
    numbers: BTreeMap<&'a T, usize>,
}

impl<T> Default for Numbering<'_, T> {
    fn default() -> Self {
        Self {
            numbers: BTreeMap::new(),
        }
    }
}

impl<'a, T: Ord> Numbering<'a, T> {
    fn number(&mut self, value: &'a T) -> usize {
        let next = self.numbers.len();
        *self.numbers.entry(value).or_insert(next)
    }

    fn ordered(&self) -> Vec<&'a T> {
        let mut ordered: Vec<_> = self.numbers.iter().collect();
        ordered.sort_by_key(|(_, number)| **number);
        ordered.into_iter().map(|(value, _)| *value).collect()
    }
}

/// Escapes a word: `-` for the empty word, `%20` and the like for bytes that separate words or
/// their parts.
fn escape(text: &str) -> String {
    match text {
        "" => return "-".to_owned(),
        "-" => return "%2d".to_owned(),
        _ => {}
    }
    let mut word = String::new();
    for letter in text.chars() {
        if letter.is_whitespace() || letter.is_control() || "%=".contains(letter) {
            for byte in letter.to_string().bytes() {
                let _ = write!(word, "%{byte:02x}");
            }
        } else {
            word.push(letter);
        }
    }
    word
}

fn unescape(word: &str) -> ParseResult<String> {
    const MALFORMED: &str = "a word with an invalid escape";
    if word == "-" {
        return Ok(String::new());
    }
    let mut parts = word.split('%');
    let mut bytes = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        let (digits, rest) = part.split_at_checked(2).ok_or(MALFORMED)?;
        bytes.extend(hex::decode(digits).map_err(|_| MALFORMED)?);
        bytes.extend(rest.as_bytes());
    }
    String::from_utf8(bytes).map_err(|_| MALFORMED)
}

fn format_set(set: &RecordingSet) -> String {
    let mut digits = String::new();
    for word in &set.0 {
        for digit in 0..16 {
            let _ = write!(digits, "{:x}", word >> (4 * digit) & 0xf);
        }
    }
    digits.trim_end_matches('0').to_owned()
}

fn parse_set(digits: &str, recordings: usize) -> ParseResult<RecordingSet> {
    let mut set = RecordingSet::default();
    for (position, digit) in digits.chars().enumerate() {
        let digit = digit
            .to_digit(16)
            .ok_or("a set with a character that is not a digit")?;
        for bit in 0..4 {
            let number = 4 * position + bit;
            if digit >> bit & 1 == 1 {
                if number >= recordings {
                    return Err("a set with an undefined recording");
                }
                set.insert(number);
            }
        }
    }
    Ok(set)
}

/// State of parsing the text form.
#[derive(Default)]
struct Parser {
    index: HostIndex,
    capabilities: Vec<Capabilities>,
    sets: Vec<RecordingSet>,
    trials: Vec<Vec<NormalizedTrial>>,
    fields: Vec<Vec<AcceptedField>>,
}

impl Parser {
    fn parse_line(&mut self, line: &str) -> ParseResult<()> {
        let mut words = line.split(' ');
        match words.next() {
            Some("kernel") => self.index.kernels.push(parse_kernel(words)?),
            Some("capabilities") => self.capabilities.push(parse_capabilities(words)?),
            Some("host") => {
                let host = self.parse_host(words)?;
                self.index.hosts.push(host);
            }
            Some("recording") => {
                let recording = self.parse_recording(words)?;
                self.index.recordings.push(recording);
            }
            Some("set") => {
                let digits = words.next().ok_or("a set without digits")?;
                self.sets
                    .push(parse_set(digits, self.index.recordings.len())?);
            }
            Some("trials") => self
                .trials
                .push(words.map(parse_trial).collect::<ParseResult<_>>()?),
            Some("fields") => self
                .fields
                .push(words.map(parse_field).collect::<ParseResult<_>>()?),
            Some("register") => {
                let id = words.next().and_then(|id| u64::from_str_radix(id, 16).ok());
                let id = RegisterId::from_raw(id.ok_or("a register without an id")?);
                let facts = self.parse_facts(id, words)?;
                if self.index.registers.insert(id, facts).is_some() {
                    return Err("a register twice");
                }
            }
            _ => {
                return Err(
                    "expected a kernel, capabilities, host, recording, set, trials, fields or register",
                );
            }
        }
        Ok(())
    }

    fn parse_host<'a>(&self, mut words: impl Iterator<Item = &'a str>) -> ParseResult<HostEntry> {
        let mut word = || words.next().ok_or("a host with too few words");
        let kernel = self.parse_kernel_number(word()?)?;
        let (cpu, mode) = (unescape(word()?)?, unescape(word()?)?);
        let midr = parse_number(word()?)?;
        let emulated = match word()? {
            EMULATED => true,
            REAL => false,
            _ => return Err("a host that is neither emulated nor real"),
        };
        let capabilities = word()?.parse().ok();
        let capabilities = capabilities.and_then(|number: usize| self.capabilities.get(number));
        let capabilities = capabilities.ok_or("a host with undefined capabilities")?;
        let hardware = parse_hardware(words)?;
        let record = &self.index.kernels[kernel];
        Ok(HostEntry {
            kernel,
            identity: Identity {
                release: record.release.clone(),
                version: record.build.clone(),
                midr,
                cpu,
                mode,
                emulated,
                cpus: Vec::new(),
            },
            capabilities: capabilities.clone(),
            hardware,
        })
    }

    /// Parses the number of a known kernel.
    fn parse_kernel_number(&self, word: &str) -> ParseResult<usize> {
        let number = word.parse().ok();
        let known = number.filter(|number| *number < self.index.kernels.len());
        known.ok_or("a host of an undefined kernel")
    }

    fn parse_recording<'a>(
        &self,
        mut words: impl Iterator<Item = &'a str>,
    ) -> ParseResult<Recording> {
        let number = words.next().and_then(|number| number.parse().ok());
        let number: usize = number.ok_or("a recording of an undefined host")?;
        let host = self.index.hosts.get(number);
        let host = host.ok_or("a recording of an undefined host")?;
        let features = words.next().and_then(Features::from_names);
        Ok(Recording {
            host: number,
            kernel: host.kernel,
            cpu: host.identity.cpu.clone(),
            mode: host.identity.mode.clone(),
            features: features.ok_or("a recording without features")?,
            has_writable_masks: words.next() == Some("masks"),
        })
    }

    fn parse_facts<'a>(
        &self,
        id: RegisterId,
        words: impl Iterator<Item = &'a str>,
    ) -> ParseResult<RegisterFacts> {
        const MALFORMED: &str = "a word of a register that is not CONTENT:SET";
        let mut facts = RegisterFacts::default();
        for word in words {
            let (content, set) = word.split_once(':').ok_or(MALFORMED)?;
            let set = set.parse().ok();
            let set = set.and_then(|set: usize| self.sets.get(set));
            let set = set.ok_or("an undefined set")?.clone();
            if let Some(mask) = content.strip_prefix("writable=") {
                facts.writable.insert(parse_number(mask)?, set);
            } else if let Some(errno) = content.strip_prefix("refused=") {
                let errno = errno.parse().map_err(|_| MALFORMED)?;
                facts.write_back_errors.insert(errno, set);
            } else if content == "differs" {
                facts.differs_by_vcpu = set;
            } else if let Some(trials) = content.strip_prefix("tried=") {
                let trials = trials.parse().ok();
                let trials = trials.and_then(|number: usize| self.trials.get(number));
                let trials = trials.ok_or("undefined trials")?;
                facts.trials.insert(trials.clone(), set);
            } else if let Some(fields) = content.strip_prefix("fields=") {
                let fields = fields.parse().ok();
                let fields = fields.and_then(|number: usize| self.fields.get(number));
                let fields = fields.ok_or("undefined fields")?;
                facts.fields.insert(fields.clone(), set);
            } else {
                facts.at_reset.insert(parse_at_reset(id, content)?, set);
            }
        }
        Ok(facts)
    }
}

fn parse_kernel<'a>(mut words: impl Iterator<Item = &'a str>) -> ParseResult<KernelRecord> {
    let mut word = || unescape(words.next().ok_or("a kernel needs release and build")?);
    Ok(KernelRecord::from_identity(&Identity {
        release: word()?,
        version: word()?,
        ..Identity::default()
    }))
}

fn parse_capabilities<'a>(words: impl Iterator<Item = &'a str>) -> ParseResult<Capabilities> {
    const MALFORMED: &str = "a capability that is not NAME=NUMBER";
    let capabilities = words.map(|word| {
        let (name, number) = word.split_once('=').ok_or(MALFORMED)?;
        Ok((unescape(name)?, number.parse().map_err(|_| MALFORMED)?))
    });
    capabilities.collect()
}

fn parse_trial(word: &str) -> ParseResult<NormalizedTrial> {
    let (word, read_back) = match word.split_once('>') {
        Some((word, digits)) => (word, Some(parse_number(digits)?)),
        None => (word, None),
    };
    let (value, errno) = word.split_once('=').unwrap_or((word, "0"));
    Ok(NormalizedTrial {
        value: parse_number(value)?,
        errno: errno.parse().map_err(|_| "an errno that is not a number")?,
        read_back,
    })
}

fn format_at_reset(at_reset: &AtReset) -> String {
    match at_reset {
        AtReset::Value(value) => value.to_string(),
        AtReset::Poison => "poison".to_owned(),
        AtReset::Counter => "counter".to_owned(),
        AtReset::Unreadable(errno) => format!("errno{errno}"),
    }
}

fn parse_at_reset(id: RegisterId, word: &str) -> ParseResult<AtReset> {
    match word {
        "poison" => return Ok(AtReset::Poison),
        "counter" => return Ok(AtReset::Counter),
        _ => {}
    }
    if let Some(errno) = word.strip_prefix("errno") {
        let errno = errno.parse().map_err(|_| "an errno that is not a number")?;
        return Ok(AtReset::Unreadable(errno));
    }
    let value = Value::parse(id, word).ok_or(INVALID_VALUE)?;
    Ok(AtReset::Value(value))
}

const INVALID_VALUE: &str = "a value that is not a hexadecimal number of the register's size";

fn parse_number(text: &str) -> ParseResult<u64> {
    parse_hexadecimal(text).ok_or(INVALID_VALUE)
}
