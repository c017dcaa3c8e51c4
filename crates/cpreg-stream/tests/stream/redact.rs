//! Redacted streams: secrets are absent, everything else is unchanged.

use std::collections::HashSet;

use crate::common::{bytes, fixture, fixtures, index, synthetic::SyntheticStream};
use cpreg::register::RegisterId;
use cpreg::tolerance::condition::RESET_POISON;
use cpreg_stream::Stream;
use cpreg_stream::{REDACTED, ReadAt, RedactedStream, RedactionOptions};

fn redacted(source: &dyn ReadAt, options: RedactionOptions) -> RedactedStream {
    let stream = Stream::open(source).unwrap();
    stream.redact(source, options).unwrap()
}

/// Returns `true` if the bytes are not all equal.
fn is_varied(window: &[u8]) -> bool {
    window.iter().any(|byte| *byte != window[0])
}

/// Returns all windows of eight bytes that are not all equal.
fn windows(bytes: &[u8]) -> HashSet<[u8; 8]> {
    let windows = bytes.windows(8).filter(|window| is_varied(window));
    windows.map(|window| window.try_into().unwrap()).collect()
}

#[test]
fn recorded_streams_keep_registers_without_guest_data() {
    for fixture in fixtures() {
        let source = fixture.open();
        let old = Stream::open(&source).unwrap();
        let new = redacted(&source, RedactionOptions::default());
        let stream = Stream::open(&new.bytes).unwrap();
        assert_eq!(old.shape(), stream.shape(), "{}", fixture.name);
        assert_eq!(old.run_state(), stream.run_state(), "{}", fixture.name);
        assert_eq!(old.accelerator(), stream.accelerator());
        for (old, new) in old.cpus().iter().zip(stream.cpus()) {
            for ((id, before), (same, after)) in old.registers().zip(new.registers()) {
                assert_eq!(id, same);
                let is_redactable = id.is_secret() || id.is_guest_pointer();
                let stays = !is_redactable || before == 0 || before == RESET_POISON;
                assert_eq!(after, if stays { before } else { REDACTED }, "{id}");
            }
            let core_fields = new.core_fields();
            assert_eq!(core_fields.pstate, old.core_fields().pstate);
            assert_eq!(
                (core_fields.x, core_fields.pc, core_fields.sp_el),
                ([0; 32], 0, [0; 4])
            );
            assert_eq!(
                (
                    core_fields.regs,
                    core_fields.elr_el,
                    core_fields.banked_spsr
                ),
                ([0; 16], [0; 4], [0; 8])
            );
            assert_eq!(
                new.trailing_fields().virtual_timer,
                old.trailing_fields().virtual_timer
            );
            assert_eq!(
                new.trailing_fields().features,
                old.trailing_fields().features
            );
            for (old_part, part) in old.all_subsections().iter().zip(new.all_subsections()) {
                assert_eq!(old_part.name, part.name);
                let content = new.content(part);
                match &*part.name {
                    "cpu/vfp" => {
                        assert!(content[..512].iter().all(|byte| *byte == 0));
                        assert_eq!(content[512..], old.content(old_part)[512..]);
                    }
                    "cpu/sve" | "cpu/sme" => assert!(content.iter().all(|byte| *byte == 0)),
                    _ => assert_eq!(content, old.content(old_part), "{}", part.name),
                }
            }
        }
        // Board devices contain no guest data, and loaders check their state.
        for device in &new.redactions.devices {
            assert!(
                ["pl011", "slirp"].contains(&&*device.name),
                "{}: {}",
                fixture.name,
                device.name
            );
        }
    }
}

#[test]
fn no_register_is_left() {
    const NAME: &str = "kvm/6.12.107__q10.0__max__virt10.0-smp4";
    let mut plain = bytes(&fixture(NAME));
    let stream = Stream::open(&plain).unwrap();
    // Overwrite registers with values that occur nowhere else.
    let mut secrets = Vec::new();
    let mut next = 0x5ec2_e7a1_b3c4_d500_u64;
    let mut put = |plain: &mut [u8], at: usize, count: usize| {
        for word in plain[at..at + count].chunks_exact_mut(8) {
            next = next.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
            word.copy_from_slice(&next.to_be_bytes());
            secrets.push(next.to_be_bytes());
        }
    };
    for cpu in stream.cpus() {
        let start = index(cpu.section().payload.start);
        put(&mut plain, start, 328);
        put(&mut plain, start + 336, 64);
        put(&mut plain, start + 504, 64);
        let values = start + 572 + 8 * cpu.register_count();
        for (at, (id, _)) in cpu.registers().enumerate() {
            if RegisterId::POINTER_AUTHENTICATION_KEYS.contains(&id) || id.is_guest_pointer() {
                put(&mut plain, values + 8 * at, 8);
            }
        }
        for part in cpu.all_subsections() {
            let content = cpu.content(part);
            let at = content.as_ptr() as usize - cpu.bytes().as_ptr() as usize;
            match &*part.name {
                "cpu/vfp" => put(&mut plain, start + at, 512),
                "cpu/sve" => put(&mut plain, start + at, content.len()),
                _ => {}
            }
        }
    }
    assert!(
        secrets.len() > 4 * (10 + 60 + 64 + 500),
        "{}",
        secrets.len()
    );
    let new = redacted(&plain, RedactionOptions::default());
    let (before, left) = (windows(&plain), windows(&new.bytes));
    for secret in &secrets {
        assert!(before.contains(secret));
        assert!(!left.contains(secret), "{secret:x?}");
    }
    for key in RegisterId::POINTER_AUTHENTICATION_KEYS {
        assert!(new.redactions.registers.contains(&key), "{key}");
    }

    // The keys are redacted even if general registers are kept.
    let kept = redacted(
        &plain,
        RedactionOptions {
            keep_registers_and_addresses: true,
        },
    );
    let before = Stream::open(&plain).unwrap();
    let left = windows(&kept.bytes);
    let mut keys = 0;
    for cpu in before.cpus() {
        for (id, value) in cpu.registers().filter(|(id, _)| id.is_secret()) {
            keys += 1;
            assert!(!left.contains(&value.to_be_bytes()), "{id}");
        }
    }
    assert_eq!(keys, 4 * 10);
    assert!(left.contains(&before.cpus()[3].core_fields().x[7].to_be_bytes()));
    assert_eq!(
        kept.redactions.registers,
        RegisterId::POINTER_AUTHENTICATION_KEYS
    );
    assert_eq!(kept.redactions.parts, [""; 0]);
}

#[test]
fn no_page_of_ram_is_left() {
    const RECORD: usize = 8 + 4096;
    let synthetic = SyntheticStream {
        pages: 300,
        payloads: vec![vec![1; 7], Vec::new(), (1..=200).collect()],
        ..SyntheticStream::default()
    };
    for (postcopy, description) in [(false, true), (false, false), (true, false)] {
        let synthetic = SyntheticStream {
            postcopy,
            description,
            ..synthetic.clone()
        };
        let mut plain = bytes(&synthetic.source());
        let second = (0x1000_u64 | 0x28).to_be_bytes();
        let second = plain
            .windows(8)
            .position(|window| window == second)
            .unwrap();
        let mut words = Vec::new();
        for page in plain[second - RECORD..].chunks_exact_mut(RECORD).take(300) {
            for word in page[8..].chunks_exact_mut(8) {
                let number = words.len() as u64 + 1;
                word.copy_from_slice(&number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
                words.push(<[u8; 8]>::try_from(&*word).unwrap());
            }
        }
        assert_eq!(words.len(), 300 * 512);
        let new = redacted(&plain, RedactionOptions::default());
        let left = windows(&new.bytes);
        for word in words {
            assert!(!left.contains(&word), "{word:x?}");
        }
        let data = [91, 92, 93, 94, 95, 96, 97, 98];
        assert!(windows(&plain).contains(&data) && !left.contains(&data));
        assert!(!new.redactions.devices.is_empty());
    }
}

#[test]
fn serial_port_characters_and_uuid_are_redacted() {
    const UUID: &[u8; 16] = b"correct uuid 123";
    for name in [
        "kvm/6.12.107__q10.0__max__virt10.0-smp4",
        "kvm/5.10.223__q5.2__neoverse-n1__virt5.2-smp1",
    ] {
        let mut plain = bytes(&fixture(name));
        let machine = 8 + 1 + 4 + usize::from(plain[12]);
        let uuid = [b"\x05\x12configuration/uuid\0\0\0\x01", UUID.as_slice()].concat();
        plain.splice(machine..machine, uuid);
        let stream = Stream::open(&plain).unwrap();
        assert_eq!(stream.configuration().unwrap().uuid.as_ref(), Some(UUID));
        let serial = stream
            .sections()
            .iter()
            .find(|section| section.name == "pl011")
            .unwrap();
        let start = index(serial.payload.start);
        for (at, byte) in b"correct horse battery staple".iter().enumerate() {
            plain[start + 32 + 4 * (at % 16) + 3] = *byte;
        }
        plain[start + 3] = b'!';
        let new = redacted(&plain, RedactionOptions::default());
        let after = Stream::open(&new.bytes).unwrap();
        let serial = after
            .sections()
            .iter()
            .find(|section| section.name == "pl011")
            .unwrap();
        let payload = &new.bytes[index(serial.payload.start)..index(serial.payload.end)];
        assert!(
            payload[..4]
                .iter()
                .chain(&payload[32..96])
                .all(|byte| *byte == 0)
        );
        let before = &plain[start..start + payload.len()];
        // Flags and baud rate stay.
        assert_eq!(
            (&payload[4..32], &payload[96..]),
            (&before[4..32], &before[96..])
        );
        let redacted_device = new
            .redactions
            .devices
            .iter()
            .find(|device| device.name == "pl011")
            .unwrap();
        assert!(redacted_device.bytes >= 17, "{}", redacted_device.bytes);
        assert_eq!(after.configuration().unwrap().uuid, Some([0; 16]));
        assert!(new.redactions.uuid);
    }
}

#[test]
fn damaged_streams_leak_nothing() {
    for description in [true, false] {
        let synthetic = SyntheticStream {
            description,
            pages: 1,
            payloads: vec![vec![1; 7], (1..=60).collect()],
            ..SyntheticStream::default()
        };
        let plain = bytes(&synthetic.source());
        let secret = 0x5ec2_e7a1_b3c4_d5f6_u64.to_be_bytes();
        let (mut opened, mut rejected) = (0, 0);
        for at in 0..plain.len() {
            for byte in [0, b'9', b'{', 0xff] {
                let mut damaged = plain.clone();
                damaged[at] = byte;
                let Ok(stream) = Stream::open(&damaged) else {
                    continue;
                };
                opened += 1;
                // Put the secret into X7 of the first vCPU, at the offset that the parser finds.
                let cpu = index(stream.cpus()[0].section().payload.start);
                damaged[cpu + 64 + 7 * 8..][..8].copy_from_slice(&secret);
                let stream = Stream::open(&damaged).unwrap();
                match stream.redact(&damaged, RedactionOptions::default()) {
                    Ok(new) => {
                        let contains = |bytes| new.bytes.windows(8).any(|window| window == bytes);
                        assert!(!contains(secret), "{at}: {byte}");
                        let data = [31, 32, 33, 34, 35, 36, 37, 38];
                        assert!(!contains(data), "{at}: {byte}");
                    }
                    Err(_) => rejected += 1,
                }
            }
        }
        assert!(
            opened > 1000 && rejected < opened / 10,
            "{opened} {rejected}"
        );
    }
}
