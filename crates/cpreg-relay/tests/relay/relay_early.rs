//! Early vCPUs: a relay sends them before it has received the devices after them. The relay does
//! not send the end if the decision on the whole device state differs.

use std::io::{Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use crate::common::synthetic::SyntheticStream;
use crate::common::{index, shorten_cpu};
use cpreg_relay::{
    Address, CancelToken, Decision, Event, MigrationOutcome, MigrationPolicy, MigrationResult,
    Observer, Relay, VmLocation,
};
use cpreg_stream::incremental::{DeviceStateBuffer, StreamSetup};
use cpreg_stream::{Cpu, Edit, Section, Stream};

/// Timeout far beyond the duration of any test, even on a busy machine.
const TEST_TIMEOUT: Duration = Duration::from_secs(60);
/// Time without further data after which the relay sends no more early data.
const IDLE_TIMEOUT: Duration = Duration::from_millis(300);

/// Policy that removes every third register.
struct ShorteningPolicy {
    /// `true` if the policy decides about each vCPU early.
    sends_early: bool,
    /// `true` if the policy removes the same registers from the whole stream.
    shortens_stream: bool,
    /// `true` if the policy rejects the whole stream.
    rejects: bool,
}

fn shorten_stream(stream: &Stream, bytes: &dyn cpreg_stream::ReadAt) -> Edit {
    let mut vm = stream.vm().unwrap();
    for (vcpu, cpu) in vm.vcpus.iter_mut().zip(stream.cpus()) {
        *vcpu = shorten_cpu(cpu).vcpu().unwrap();
    }
    let edits = stream.diff_to(&vm).unwrap();
    stream.edit(bytes, &edits).unwrap()
}

impl ShorteningPolicy {
    /// Returns a policy that shortens the whole stream, and its vCPUs early if `sends_early`.
    const fn shortening(sends_early: bool) -> Self {
        Self {
            sends_early,
            shortens_stream: true,
            rejects: false,
        }
    }
}

impl MigrationPolicy for ShorteningPolicy {
    fn on_setup(&mut self, _: &StreamSetup) -> bool {
        true
    }

    fn on_vcpu(&mut self, cpu: &Cpu) -> Option<Cpu> {
        self.sends_early.then(|| shorten_cpu(cpu))
    }

    fn may_send_vcpus_early(&mut self, sections: &[Section]) -> bool {
        assert_eq!(
            sections.last().map(|section| section.name.as_str()),
            Some("cpu")
        );
        true
    }

    fn on_device_state(&mut self, device_state: &DeviceStateBuffer, stream: Stream) -> Decision {
        if self.rejects {
            return Decision::Reject;
        }
        Decision::Forward(if self.shortens_stream {
            shorten_stream(&stream, device_state)
        } else {
            Edit::identity(stream.length())
        })
    }
}

/// Observer of the reported number of bytes of device state, and of the early ones among them.
#[derive(Default)]
struct SentObserver(Mutex<Option<(u64, u64)>>);

impl Observer for SentObserver {
    fn on_event(&self, event: &Event<'_>) {
        if let Event::DeviceStateSent {
            bytes, early_bytes, ..
        } = event
        {
            *self.0.lock().unwrap() = Some((*bytes, *early_bytes));
        }
    }
}

/// Result of a migration.
struct TransferResult {
    /// Bytes received when only the first part had been sent.
    early_received: Vec<u8>,
    /// All bytes received.
    received: Vec<u8>,
    result: MigrationResult,
    /// Bytes of device state as reported by the relay, and the early ones among them.
    reported: Option<(u64, u64)>,
}

/// Sends the first `first_len` bytes of a stream, waits until at least `min_received` bytes have
/// arrived, and sends the rest.
fn send(
    whole: &[u8],
    first_len: usize,
    min_received: usize,
    mut policy: ShorteningPolicy,
) -> TransferResult {
    let folder = tempfile::tempdir().unwrap();
    let [listen, connect] = ["relay", "destination"].map(|name| folder.path().join(name));
    let destination = UnixListener::bind(&connect).unwrap();
    let relay = Relay::bind(&Address::Unix(listen.clone()), Address::Unix(connect)).unwrap();
    let observer = SentObserver::default();
    thread::scope(|scope| {
        let result = scope.spawn(|| {
            let user_cancel = CancelToken::new().unwrap();
            relay
                .serve_migration(&mut policy, &observer, &user_cancel)
                .unwrap()
                .unwrap()
        });
        let mut source = UnixStream::connect(listen).unwrap();
        source.write_all(&whole[..first_len]).unwrap();
        let (mut socket, _) = destination.accept().unwrap();
        let mut early_received = vec![0; min_received];
        socket.set_read_timeout(Some(TEST_TIMEOUT)).unwrap();
        socket.read_exact(&mut early_received).unwrap();
        // Further early data arrives at once.
        socket.set_read_timeout(Some(IDLE_TIMEOUT)).unwrap();
        let mut buffer = [0; 4096];
        while let Ok(count @ 1..) = socket.read(&mut buffer) {
            early_received.extend_from_slice(&buffer[..count]);
        }
        socket.set_read_timeout(None).unwrap();
        // The relay may have closed the connection.
        let _ = source.write_all(&whole[first_len..]);
        drop(source);
        let mut received = early_received.clone();
        let _ = socket.read_to_end(&mut received);
        drop(socket);
        let result = result.join().unwrap();
        let reported = *observer.0.lock().unwrap();
        TransferResult {
            early_received,
            received,
            result,
            reported,
        }
    })
}

/// Returns a stream, the offset of the first device, and an offset within the device after the last
/// vCPU.
fn make_stream(vcpus: u32, postcopy: bool) -> (Vec<u8>, usize, usize) {
    let whole = SyntheticStream {
        vcpus,
        postcopy,
        ..SyntheticStream::default()
    }
    .bytes();
    let stream = Stream::open(&whole).unwrap();
    let sections = stream.sections();
    let second_device = sections
        .iter()
        .position(|section| section.name.contains("device"));
    let second_device = index(sections[second_device.unwrap()].payload.start);
    let first_device = match stream.package() {
        Some(package) => index(package.length_field) - 5,
        None => index(sections[0].range.start),
    };
    (whole, first_device, second_device)
}

#[test]
fn vcpus_are_sent_before_the_devices_after_them() {
    for (vcpus, postcopy) in [(1, false), (3, false), (64, false), (2, true)] {
        let (whole, first_device, second_device) = make_stream(vcpus, postcopy);
        let stream = Stream::open(&whole).unwrap();
        let edit = shorten_stream(&stream, &whole);
        let expected = crate::common::bytes(&edit.apply_to(&whole));
        for sends_early in [true, false] {
            let min_received = first_device + usize::from(sends_early);
            let policy = ShorteningPolicy::shortening(sends_early);
            let TransferResult {
                early_received,
                received,
                result,
                reported,
            } = send(&whole, second_device, min_received, policy);
            assert!(
                matches!(result.outcome, MigrationOutcome::Completed),
                "{:?}",
                result.outcome
            );
            assert!(received == expected, "{vcpus} vCPUs, early: {sends_early}");
            assert_eq!(result.main_channel_bytes, expected.len() as u64);
            let (bytes, early) = reported.unwrap();
            if sends_early {
                // Up to the last vCPU's footer.
                assert!(
                    early_received.len() < second_device && early_received.len() > first_device
                );
                assert_eq!(early, (early_received.len() - first_device) as u64);
            } else {
                assert_eq!((early_received.len(), early), (first_device, 0));
            }
            assert!(bytes > early);
        }
    }
}

#[test]
fn end_is_not_sent_if_the_whole_differs_or_is_rejected() {
    for (vcpus, postcopy) in [(3, false), (2, true)] {
        let (whole, first_device, second_device) = make_stream(vcpus, postcopy);
        for rejects in [false, true] {
            let policy = ShorteningPolicy {
                sends_early: true,
                shortens_stream: false,
                rejects,
            };
            let TransferResult {
                early_received,
                received,
                result,
                reported,
            } = send(&whole, second_device, first_device + 1, policy);
            assert!(early_received.len() > first_device && reported.is_none());
            assert!(received == early_received, "more than the vCPUs was sent");
            match result.outcome {
                MigrationOutcome::Refused => assert!(rejects),
                MigrationOutcome::Failed(error) => {
                    assert!(
                        !rejects && error.hint().unwrap().contains("cannot run"),
                        "{error}"
                    );
                }
                other => panic!("{other:?}"),
            }
            assert_ne!(result.vm_location, VmLocation::Destination);
            assert!(Stream::open_by_full_scan(&received).is_err());
        }
    }
}

#[test]
fn source_lost_after_its_vcpus() {
    let (whole, first_device, second_device) = make_stream(3, false);
    let policy = ShorteningPolicy::shortening(true);
    let TransferResult {
        early_received,
        received,
        result,
        ..
    } = send(
        &whole[..second_device],
        second_device,
        first_device + 1,
        policy,
    );
    assert!(received == early_received);
    assert!(matches!(result.outcome, MigrationOutcome::Failed(_)));
    assert_eq!(result.vm_location, VmLocation::SourceRunning);
}
