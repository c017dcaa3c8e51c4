//! [`serve()`]: the guard's process: takes orders, watches both QEMUs, says what it did, and ends when it is settled where the VM is.
//!
//! Leaving the relay's session and not ending by signals is for the caller, before; this needs only the two streams. If the relay is
//! gone the last word has nobody to go to, so it is given back as well.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, TryRecvError};
use std::thread;

use super::engine::Guard;
use super::protocol::{Order, Told};
use super::whereabouts::Whereabouts;
use crate::error::Error;

/// The longest order, in bytes: two paths.
const ORDER_LIMIT: u64 = 64 << 10;

/// How the guard's work ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Served {
    /// Where the VM is; nothing if the relay went away before any monitor was connected.
    pub whereabouts: Option<Whereabouts>,
    /// Whether the relay was there to hear it.
    pub was_heard: bool,
}

/// Leaves the session of the relay, so that neither its terminal nor a signal to its process group reaches the guard. To be called first
/// of all: before the relay gets an answer.
///
/// # Errors
/// If this process already leads a process group (setsid(2)): it was not started by a [`super::Keeper`].
pub fn leave_session() -> io::Result<()> {
    rustix::process::setsid()?;
    Ok(())
}

/// Serves one relay and one VM.
pub fn serve(orders: impl Read + Send + 'static, answers: impl Write) -> Served {
    let orders = listen(orders);
    let mut answers = Answers {
        to: answers,
        is_heard: true,
    };
    let Some(mut guard) = begin(&orders, &mut answers) else {
        return Served {
            whereabouts: None,
            was_heard: answers.is_heard,
        };
    };
    let mut is_there = true;
    loop {
        // All that was said before it went away counts.
        while is_there {
            match orders.try_recv() {
                Ok(order) => obey(&mut guard, order, &mut answers),
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => is_there = false,
            }
        }
        if !is_there {
            guard.ended();
        }
        let concluded = guard.step();
        for what in guard.take_done() {
            answers.say(&Told::Did { what });
        }
        if let Some(whereabouts) = concluded {
            answers.say(&Told::Concluded {
                whereabouts: whereabouts.clone(),
            });
            return Served {
                whereabouts: Some(whereabouts),
                was_heard: answers.is_heard && is_there,
            };
        }
        if is_there {
            match orders.recv_timeout(guard.pace()) {
                Ok(order) => obey(&mut guard, order, &mut answers),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => is_there = false,
            }
        } else {
            thread::sleep(guard.pace());
        }
    }
}

/// Takes orders until both monitors are connected and both VMs are as they should be.
fn begin<W: Write>(orders: &Receiver<Order>, answers: &mut Answers<W>) -> Option<Guard> {
    while let Ok(order) = orders.recv() {
        let Order::Connect { source, dest } = order else {
            if matches!(order, Order::Ended) {
                return None;
            }
            answers.fail(&Error::guard("`connect` comes first"));
            continue;
        };
        let connected = Guard::connect(source.as_deref(), dest.as_deref())
            .and_then(|mut guard| guard.survey().map(|survey| (guard, survey)));
        match connected {
            Ok((guard, survey)) => {
                if !survey.is_unfinished {
                    answers.say(&Told::Connected {
                        source: survey.source,
                        dest: survey.dest,
                        notes: survey.notes,
                    });
                }
                // If it is, `concluded` is the answer.
                return Some(guard);
            }
            Err(error) => answers.fail(&error),
        }
    }
    None
}

fn obey<W: Write>(guard: &mut Guard, order: Order, answers: &mut Answers<W>) {
    match order {
        Order::Connect { .. } => answers.fail(&Error::guard("it is connected already")),
        Order::Prepare => match guard.prepare() {
            Ok(ready) => answers.say(&Told::Prepared {
                return_path_switched_on: ready.return_path_switched_on,
                held: ready.held,
                notes: ready.notes,
            }),
            Err(error) => answers.fail(&error),
        },
        Order::Start { uri } => match guard.start(&uri) {
            Ok(()) => answers.say(&Told::Started),
            Err(error) => answers.fail(&error),
        },
        Order::Began => guard.began(),
        Order::Passing { running } => guard.passing(running),
        Order::Refused => guard.refused(),
        Order::Delivered => guard.delivered(),
        Order::Ended => guard.ended(),
    }
}

/// Reads orders until their end, or until something comes that is none: who writes that is no relay, and counts as gone.
fn listen(orders: impl Read + Send + 'static) -> Receiver<Order> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let mut orders = BufReader::new(orders);
        let mut line = Vec::new();
        loop {
            line.clear();
            let read = (&mut orders).take(ORDER_LIMIT).read_until(b'\n', &mut line);
            // A last line without an end was cut short, and is not obeyed.
            if !matches!(read, Ok(1..)) || line.last() != Some(&b'\n') {
                break;
            }
            let Ok(order) = serde_json::from_slice(&line) else {
                break;
            };
            if sender.send(order).is_err() {
                break;
            }
        }
    });
    receiver
}

/// Where the answers go, as long as somebody reads them.
#[derive(Debug)]
struct Answers<W> {
    to: W,
    is_heard: bool,
}

impl<W: Write> Answers<W> {
    fn say(&mut self, told: &Told) {
        let Ok(mut line) = serde_json::to_vec(told) else {
            return;
        };
        line.push(b'\n');
        let written = self.to.write_all(&line).and_then(|()| self.to.flush());
        self.is_heard &= written.is_ok();
    }

    fn fail(&mut self, error: &Error) {
        self.say(&Told::Failed {
            message: error.to_string(),
            hint: error.hint().map(str::to_owned),
        });
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;
    use std::thread::JoinHandle;

    use super::*;
    use crate::guard::fake::Monitors;
    use crate::guard::whereabouts::Place;

    /// A relay that talks to a guard in a thread.
    struct Talk {
        socket: UnixStream,
        answers: BufReader<UnixStream>,
        guard: JoinHandle<Served>,
    }

    impl Talk {
        fn new() -> Self {
            let (ours, theirs) = UnixStream::pair().unwrap();
            let orders = theirs.try_clone().unwrap();
            Self {
                answers: BufReader::new(ours.try_clone().unwrap()),
                socket: ours,
                guard: thread::spawn(move || serve(orders, theirs)),
            }
        }

        /// Connected to both.
        fn with(monitors: &Monitors) -> Self {
            let mut talk = Self::new();
            talk.tell(&Order::Connect {
                source: Some(monitors.path(true)),
                dest: Some(monitors.path(false)),
            });
            talk
        }

        fn tell(&mut self, order: &Order) {
            let line = serde_json::to_string(order).unwrap();
            writeln!(self.socket, "{line}").unwrap();
        }

        /// The next that is no `did`.
        fn hear(&mut self) -> Told {
            loop {
                let mut line = String::new();
                self.answers.read_line(&mut line).unwrap();
                match serde_json::from_str(&line).unwrap() {
                    Told::Did { .. } => {}
                    told => return told,
                }
            }
        }

        fn start(&mut self) {
            assert!(matches!(self.hear(), Told::Connected { .. }));
            self.tell(&Order::Prepare);
            let prepared = self.hear();
            assert!(
                matches!(
                    prepared,
                    Told::Prepared {
                        held: true,
                        return_path_switched_on: true,
                        ..
                    }
                ),
                "{prepared:?}"
            );
            let uri = "unix:/nowhere".to_owned();
            self.tell(&Order::Start { uri });
            assert_eq!(self.hear(), Told::Started);
        }

        fn conclusion(mut self) -> Whereabouts {
            let Told::Concluded { whereabouts } = self.hear() else {
                panic!("it should be over");
            };
            let served = self.guard.join().unwrap();
            assert_eq!(served.whereabouts.as_ref(), Some(&whereabouts));
            whereabouts
        }
    }

    #[test]
    fn a_migration_that_succeeds() {
        let monitors = Monitors::new();
        let mut talk = Talk::with(&monitors);
        talk.start();
        let at = talk.conclusion();
        assert_eq!((at.place, at.running), (Place::DESTINATION, Some(true)));
        let world = monitors.world();
        assert_eq!(world.told, ["dest stop", "source migrate", "dest cont"]);
        assert_eq!(world.source.capabilities, ["return-path"]);
    }

    #[test]
    fn a_paused_vm_stays_paused() {
        let monitors = Monitors::new();
        monitors.world().source.run = "paused";
        let mut talk = Talk::with(&monitors);
        talk.start();
        let at = talk.conclusion();
        assert_eq!((at.place, at.running), (Place::DESTINATION, Some(false)));
        assert_eq!(monitors.world().told, ["dest stop", "source migrate"]);
    }

    #[test]
    fn a_source_that_failed_ends_the_destination() {
        let monitors = Monitors::new();
        monitors.world().then[0] = ("running", "failed");
        let mut talk = Talk::with(&monitors);
        talk.start();
        let at = talk.conclusion();
        assert_eq!((at.place, at.running), (Place::SOURCE, Some(true)));
        assert_eq!(
            monitors.world().told,
            ["dest stop", "source migrate", "dest quit"]
        );
    }

    #[test]
    fn a_disk_that_is_still_locked_is_waited_for() {
        let monitors = Monitors::new();
        monitors
            .world()
            .dest
            .refusals
            .push_back("Failed to get \"write\" lock");
        let mut talk = Talk::with(&monitors);
        talk.start();
        let at = talk.conclusion();
        assert_eq!((at.place, at.running), (Place::DESTINATION, Some(true)));
        let done = at.done.join("; ");
        assert!(done.contains("cont, refused: Failed to get"), "{done}");
    }

    #[test]
    fn a_refusal_brings_the_source_back() {
        let monitors = Monitors::new();
        monitors.world().then = [("postmigrate", "completed"), ("inmigrate", "active")];
        let mut talk = Talk::with(&monitors);
        assert!(matches!(talk.hear(), Told::Connected { .. }));
        talk.tell(&Order::Start { uri: String::new() });
        assert_eq!(talk.hear(), Told::Started);
        talk.tell(&Order::Refused);
        let at = talk.conclusion();
        assert_eq!((at.place, at.running), (Place::SOURCE, Some(true)));
        assert_eq!(
            monitors.world().told,
            ["source migrate", "dest quit", "source cont"]
        );
    }

    #[test]
    fn a_relay_that_is_gone_is_not_needed() {
        let monitors = Monitors::new();
        let mut talk = Talk::with(&monitors);
        talk.start();
        // Before that the destination cannot have the VM, and the source would get it back.
        talk.tell(&Order::Passing { running: None });
        drop((talk.socket, talk.answers));
        let served = talk.guard.join().unwrap();
        let at = served.whereabouts.unwrap();
        assert_eq!((at.place, at.running), (Place::DESTINATION, Some(true)));
        assert!(!served.was_heard);
    }

    #[test]
    fn what_an_earlier_guard_left() {
        let monitors = Monitors::new();
        {
            let mut world = monitors.world();
            (world.source.run, world.source.migration) = ("postmigrate", "completed");
            (world.dest.run, world.dest.migration) = ("paused", "completed");
        }
        let at = Talk::with(&monitors).conclusion();
        assert_eq!((at.place, at.running), (Place::DESTINATION, Some(true)));
        assert_eq!(monitors.world().told, ["dest cont"]);
    }

    #[test]
    fn what_cannot_pass_is_refused_before_anything_is_changed() {
        let monitors = Monitors::new();
        monitors.world().source.parameters = serde_json::json!({"tls-creds": "tls0"});
        let mut talk = Talk::with(&monitors);
        assert!(matches!(talk.hear(), Told::Connected { .. }));
        talk.tell(&Order::Prepare);
        let Told::Failed { message, hint } = talk.hear() else {
            panic!("it should be refused");
        };
        assert!(message.contains("encrypts"), "{message}");
        assert!(hint.is_some());
        assert!(monitors.world().told.is_empty());
        // Nothing has begun: the guard says so, and goes.
        talk.tell(&Order::Ended);
        let at = talk.conclusion();
        assert_eq!((at.place, at.running), (Place::SOURCE, Some(true)));
    }

    #[test]
    fn a_line_that_is_no_order_ends_it() {
        let mut talk = Talk::new();
        talk.tell(&Order::Prepare);
        assert!(matches!(talk.hear(), Told::Failed { .. }));
        writeln!(talk.socket, "GET / HTTP/1.1").unwrap();
        assert_eq!(talk.guard.join().unwrap().whereabouts, None);
    }
}
