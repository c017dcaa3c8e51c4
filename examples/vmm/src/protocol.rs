//! [`Message`]: the messages of the two ends of a migration, and their order.
//!
//! | sender | receiver | guest runs afterwards |
//! |---|---|---|
//! | hello: version, shape | | at the source |
//! | | accepted, or refused with reasons | |
//! | preflight: registers and devices, of a guest that still runs | | |
//! | | ready, or refused with every reason | |
//! | pages, repeatedly, while the guest runs | | |
//! | stops the guest; pages, state | | |
//! | | loaded, or refused | |
//! | run | | unknown to the sender |
//! | | running | at the destination |
//!
//! Either end may report a failure instead of its next message. After a failure, and if the
//! connection ends before *run*, the guest continues at the source and the receiver runs nothing.
//! The receiver may also answer *run* with a failure. It has not run the guest then, and never
//! will.
//!
//! [`crate::link`] transports messages; [`crate::send`] and [`crate::receive`] are the two ends.

use cpreg::destination::Features;
use cpreg::vm::Vm;

use crate::wire::{MAX_VCPUS, MalformedMessage, Reader, Writer};

/// Version of the protocol. Both ends must use the same.
pub const VERSION: u16 = 1;
/// Unit of memory, independent of the page size of the hosts.
pub const PAGE: usize = 4096;
/// Maximum memory of a guest, in bytes.
pub const MAX_MEMORY: u64 = 1 << 30;
/// Maximum number of pages in one message.
pub const MAX_PAGES_PER_MESSAGE: usize = 64;

/// Shape of a VM, which must be the same at both ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VmShape {
    /// Number of vCPUs.
    pub vcpus: u16,
    /// Features with which the vCPUs are initialised.
    pub features: Features,
    /// Memory in bytes.
    pub memory: u64,
}

/// State that is neither memory nor a register of KVM's lists. The module `kvm` gives the numbers
/// their meaning; this module only transports them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeviceState {
    /// Registers of the interrupt controller: group and attribute of KVM's device, and value.
    pub gic: Vec<(u32, u64, u64)>,
    /// State of each vCPU: power (`KVM_GET_MP_STATE`) and pending events (`KVM_GET_VCPU_EVENTS`).
    pub vcpus: Vec<VcpuState>,
}

/// State of a vCPU that is not a register.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VcpuState {
    /// `kvm_mp_state`: 0 is runnable, 5 is off.
    pub mp_state: u32,
    /// Pending SError, and its syndrome if it has one.
    pub serror: Option<Option<u64>>,
}

/// A page of memory: its number, and its content unless all of it is zero.
pub type Page = (u32, Option<Box<[u8; PAGE]>>);

/// A message of either end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// Shape of the VM to be sent.
    Hello(VmShape),
    /// The receiver created a VM of this shape.
    Accepted,
    /// The receiver refuses the VM, for these reasons.
    Refused(Vec<String>),
    /// Registers and devices, read while the guest still runs.
    Preflight(Vm, DeviceState),
    /// The state can be loaded. Lists the changes that the guest could notice.
    Ready(Vec<String>),
    /// Part of the memory.
    Pages(Vec<Page>),
    /// Final registers and devices.
    State(Vm, DeviceState),
    /// The receiver loaded everything.
    Loaded,
    /// The sender hands the VM over.
    Run,
    /// The guest runs at the receiver.
    Running,
    /// The sending end failed, with the cause.
    Failed(String),
}

impl Message {
    /// Returns the name of the message.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Hello(_) => "hello",
            Self::Accepted => "accepted",
            Self::Refused(_) => "refused",
            Self::Preflight(..) => "preflight",
            Self::Ready(_) => "ready",
            Self::Pages(_) => "pages",
            Self::State(..) => "state",
            Self::Loaded => "loaded",
            Self::Run => "run",
            Self::Running => "running",
            Self::Failed(_) => "failed",
        }
    }

    /// Encodes the message: a byte for the kind, then its content.
    pub fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::default();
        match self {
            Self::Hello(shape) => {
                writer.u8(0);
                writer.u16(VERSION);
                writer.u16(shape.vcpus);
                writer.text(&shape.features.to_string());
                writer.u64(shape.memory);
            }
            Self::Accepted => writer.u8(1),
            Self::Refused(reasons) => {
                writer.u8(2);
                writer.texts(reasons);
            }
            Self::Preflight(vm, devices) => {
                writer.u8(3);
                writer.vm(vm);
                write_devices(&mut writer, devices);
            }
            Self::Ready(notes) => {
                writer.u8(4);
                writer.texts(notes);
            }
            Self::Pages(pages) => {
                writer.u8(5);
                writer.count(pages.len());
                for (number, content) in pages {
                    writer.u32(*number);
                    writer.u8(u8::from(content.is_some()));
                    if let Some(content) = content {
                        writer.bytes(&**content);
                    }
                }
            }
            Self::State(vm, devices) => {
                writer.u8(6);
                writer.vm(vm);
                write_devices(&mut writer, devices);
            }
            Self::Loaded => writer.u8(7),
            Self::Run => writer.u8(8),
            Self::Running => writer.u8(9),
            Self::Failed(cause) => {
                writer.u8(10);
                writer.text(cause);
            }
        }
        writer.into_bytes()
    }

    /// Decodes a message.
    ///
    /// # Errors
    /// Returns an error if the bytes are not a message.
    pub fn decode(bytes: &[u8]) -> Result<Self, MalformedMessage> {
        let mut reader = Reader::new(bytes);
        let message = match reader.u8()? {
            0 => Self::Hello(read_hello(&mut reader)?),
            1 => Self::Accepted,
            2 => Self::Refused(reader.texts()?),
            3 => Self::Preflight(reader.vm()?, read_devices(&mut reader)?),
            4 => Self::Ready(reader.texts()?),
            5 => Self::Pages(read_pages(&mut reader)?),
            6 => Self::State(reader.vm()?, read_devices(&mut reader)?),
            7 => Self::Loaded,
            8 => Self::Run,
            9 => Self::Running,
            10 => Self::Failed(reader.text()?),
            _ => return Err(MalformedMessage("a message of unknown kind")),
        };
        reader.expect_end()?;
        Ok(message)
    }
}

fn read_hello(reader: &mut Reader<'_>) -> Result<VmShape, MalformedMessage> {
    if reader.u16()? != VERSION {
        return Err(MalformedMessage(
            "it uses another version of this protocol; use the same cpreg-vmm on both hosts",
        ));
    }
    let vcpus = reader.u16()?;
    if vcpus == 0 || vcpus > MAX_VCPUS {
        return Err(MalformedMessage("a number of vCPUs out of range"));
    }
    let features =
        Features::from_names(&reader.text()?).ok_or(MalformedMessage("unknown vCPU features"))?;
    let memory = reader.u64()?;
    if memory == 0 || memory > MAX_MEMORY || !memory.is_multiple_of(PAGE as u64) {
        return Err(MalformedMessage("an amount of memory out of range"));
    }
    Ok(VmShape {
        vcpus,
        features,
        memory,
    })
}

fn read_pages(reader: &mut Reader<'_>) -> Result<Vec<Page>, MalformedMessage> {
    let count = reader.count(5)?;
    if count > MAX_PAGES_PER_MESSAGE {
        return Err(MalformedMessage("too many pages in one message"));
    }
    let mut pages = Vec::with_capacity(count);
    for _ in 0..count {
        let number = reader.u32()?;
        let content = match reader.u8()? {
            0 => None,
            1 => {
                let mut page = Box::new([0; PAGE]);
                page.copy_from_slice(reader.bytes(PAGE)?);
                Some(page)
            }
            _ => return Err(MalformedMessage("a page of unknown kind")),
        };
        pages.push((number, content));
    }
    Ok(pages)
}

fn write_devices(writer: &mut Writer, devices: &DeviceState) {
    writer.count(devices.gic.len());
    for (group, attribute, value) in &devices.gic {
        writer.u32(*group);
        writer.u64(*attribute);
        writer.u64(*value);
    }
    writer.count(devices.vcpus.len());
    for vcpu in &devices.vcpus {
        writer.u32(vcpu.mp_state);
        writer.u8(match vcpu.serror {
            None => 0,
            Some(None) => 1,
            Some(Some(_)) => 2,
        });
        writer.u64(vcpu.serror.flatten().unwrap_or_default());
    }
}

fn read_devices(reader: &mut Reader<'_>) -> Result<DeviceState, MalformedMessage> {
    let count = reader.count(20)?;
    let mut gic = Vec::with_capacity(count);
    for _ in 0..count {
        gic.push((reader.u32()?, reader.u64()?, reader.u64()?));
    }
    let count = reader.count(13)?;
    let mut vcpus = Vec::with_capacity(count);
    for _ in 0..count {
        let mp_state = reader.u32()?;
        let (kind, syndrome) = (reader.u8()?, reader.u64()?);
        let serror = match kind {
            0 => None,
            1 => Some(None),
            2 => Some(Some(syndrome)),
            _ => {
                return Err(MalformedMessage("an SError of unknown kind"));
            }
        };
        vcpus.push(VcpuState { mp_state, serror });
    }
    Ok(DeviceState { gic, vcpus })
}

#[cfg(test)]
mod tests {
    use super::*;
    use cpreg::register::{RegisterId, Value};
    use cpreg::vm::{Registers, Vcpu};

    fn messages() -> Vec<Message> {
        let registers = Registers::from_pairs([
            (RegisterId::x(3), Value::U64(7)),
            (RegisterId::v(0), Value::Bytes([9; 16].into())),
            (RegisterId::core_u32(0xd4), Value::U64(0x0123_4567)),
        ]);
        let vm = Vm {
            vcpus: vec![Vcpu {
                registers: registers.expect("no id twice"),
                ..Vcpu::default()
            }],
            ..Vm::default()
        };
        let devices = DeviceState {
            gic: vec![(1, 0x100, 5)],
            vcpus: vec![VcpuState {
                mp_state: 5,
                serror: Some(Some(1)),
            }],
        };
        vec![
            Message::Hello(VmShape {
                vcpus: 4,
                features: Features::PMU | Features::SVE,
                memory: 64 << 20,
            }),
            Message::Accepted,
            Message::Refused(vec!["no".into(), "nor that".into()]),
            Message::Preflight(vm.clone(), devices.clone()),
            Message::Ready(vec!["something".into()]),
            Message::Pages(vec![(1, None), (7, Some(Box::new([3; PAGE])))]),
            Message::State(vm, devices),
            Message::Loaded,
            Message::Run,
            Message::Running,
            Message::Failed("why".into()),
        ]
    }

    #[test]
    fn messages_round_trip() {
        for message in messages() {
            assert_eq!(Message::decode(&message.encode()), Ok(message));
        }
    }

    #[test]
    fn truncated_and_extended_messages_are_malformed() {
        for message in messages() {
            let bytes = message.encode();
            for length in 0..bytes.len() {
                let truncated = Message::decode(&bytes[..length]);
                assert!(truncated.is_err(), "{} of {length} bytes", message.name());
            }
            let longer = [&bytes[..], &[0]].concat();
            assert!(Message::decode(&longer).is_err(), "{}", message.name());
        }
    }

    #[test]
    fn damaged_messages_never_panic() {
        for message in messages() {
            let bytes = message.encode();
            for at in 0..bytes.len().min(200) {
                for value in [0, 1, 0x7f, 0xff] {
                    let mut damaged = bytes.clone();
                    damaged[at] = value;
                    // A damaged message may decode, but never to more than the bytes received.
                    if let Ok(message) = Message::decode(&damaged) {
                        assert!(message.encode().len() <= damaged.len() + 4, "{at}");
                    }
                }
            }
        }
    }

    #[test]
    fn lengths_are_bounded() {
        let mut many = vec![5];
        many.extend_from_slice(&u32::MAX.to_le_bytes());
        assert!(Message::decode(&many).is_err());
        let mut writer = Writer::default();
        writer.u8(0);
        writer.u16(VERSION + 1);
        let error = Message::decode(&writer.into_bytes()).expect_err("another version");
        assert!(error.to_string().contains("another version"), "{error}");
    }
}
