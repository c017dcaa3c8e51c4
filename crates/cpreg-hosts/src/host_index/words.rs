//! Words of the text form for hardware facts and accepted values of fields.

use std::fmt::Write as _;

use cpreg::destination::{AcceptedField, DroppedValues};
use cpreg::gic::{Gic, GicLimits};
use cpreg::hardware::{HardwareFacts, PmuEvents, VectorLengths};
use cpreg::register::parse_hexadecimal;

/// Result of parsing, with the reason of a failure.
pub(super) type ParseResult<T> = Result<T, &'static str>;

/// Returns the words for the known facts, each after a space.
pub(super) fn format_hardware(facts: HardwareFacts) -> String {
    let mut words = String::new();
    if let Some(frequency) = facts.counter_frequency {
        let _ = write!(words, " frequency={frequency}");
    }
    if let Some(lengths) = facts.vector_lengths {
        let _ = write!(words, " lengths={:#x}", lengths.bits());
    }
    if let Some(dczid) = facts.dczid {
        let _ = write!(words, " dczid={dczid:#x}");
    }
    if let Some(Gic::V3(limits)) = facts.gic {
        let _ = write!(words, " icc_ctlr={:#x}", limits.bits());
    }
    if let Some(gmid) = facts.gmid {
        let _ = write!(words, " gmid={gmid:#x}");
    }
    if let Some(events) = facts.pmu_events {
        let _ = write!(words, " pmceid={:#x},{:#x}", events.pmceid0, events.pmceid1);
    }
    if let Some(iidr) = facts.gicd_iidr {
        let _ = write!(words, " gicd_iidr={iidr:#x}");
    }
    words
}

/// Parses the words of a host after its capabilities.
pub(super) fn parse_hardware<'a>(
    words: impl Iterator<Item = &'a str>,
) -> ParseResult<HardwareFacts> {
    const MALFORMED: &str = "a hardware fact that is not NAME=NUMBER";
    let mut facts = HardwareFacts::UNKNOWN;
    for word in words {
        match word.split_once('=').ok_or(MALFORMED)? {
            ("frequency", number) => {
                let frequency = number.parse().map_err(|_| MALFORMED)?;
                facts.counter_frequency = Some(frequency);
            }
            ("lengths", bits) => {
                let bits = parse_hexadecimal(bits).and_then(|bits| u16::try_from(bits).ok());
                facts.vector_lengths = Some(VectorLengths::from_bits(bits.ok_or(MALFORMED)?));
            }
            ("dczid", value) => {
                facts.dczid = Some(parse_hexadecimal(value).ok_or(MALFORMED)?);
            }
            ("icc_ctlr", value) => {
                let limits = parse_hexadecimal(value).map(GicLimits::from_icc_ctlr);
                facts.gic = Some(Gic::V3(limits.ok_or(MALFORMED)?));
            }
            ("gmid", value) => {
                facts.gmid = Some(parse_hexadecimal(value).ok_or(MALFORMED)?);
            }
            ("pmceid", values) => {
                let (pmceid0, pmceid1) = values.split_once(',').ok_or(MALFORMED)?;
                facts.pmu_events = Some(PmuEvents {
                    pmceid0: parse_hexadecimal(pmceid0).ok_or(MALFORMED)?,
                    pmceid1: parse_hexadecimal(pmceid1).ok_or(MALFORMED)?,
                });
            }
            ("gicd_iidr", value) => {
                let iidr = parse_hexadecimal(value).and_then(|iidr| u32::try_from(iidr).ok());
                facts.gicd_iidr = Some(iidr.ok_or(MALFORMED)?);
            }
            _ => return Err("an unknown hardware fact"),
        }
    }
    Ok(facts)
}

/// Returns the word for a field, after a space.
pub(super) fn format_field(field: &AcceptedField) -> String {
    let mut word = format!(" {}-{}={:#x}", field.msb(), field.lsb(), field.kept());
    for group in field.dropped() {
        let _ = write!(word, ",{:#x}>{}", group.values, group.reads);
    }
    word
}

/// Parses the word of a field.
pub(super) fn parse_field(word: &str) -> ParseResult<AcceptedField> {
    const MALFORMED: &str = "a field that is not MSB-LSB=KEPT[,DROPPED>READS…]";
    let (bits, sets) = word.split_once('=').ok_or(MALFORMED)?;
    let (msb, lsb) = bits.split_once('-').ok_or(MALFORMED)?;
    let bit = |text: &str| text.parse().map_err(|_| MALFORMED);
    let mut sets = sets.split(',');
    let kept = sets.next().and_then(parse_hexadecimal).ok_or(MALFORMED)?;
    let dropped = sets.map(|group| {
        let (values, reads) = group.split_once('>').ok_or(MALFORMED)?;
        Ok(DroppedValues {
            reads: bit(reads)?,
            values: parse_hexadecimal(values).ok_or(MALFORMED)?,
        })
    });
    let dropped = dropped.collect::<ParseResult<_>>()?;
    AcceptedField::new(bit(msb)?, bit(lsb)?, kept, dropped).ok_or("a field with impossible values")
}
